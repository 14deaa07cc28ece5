"""The emulator over HTTP: one route table for the three path styles.

Azure's dated API is under `/openai` and demands `api-version`, Azure's v1 API is under
`/openai/v1`, OpenAI's under `/v1`. All of them show the same files and batches.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive

from dbt_enrich.emulator.checking import Deployment
from dbt_enrich.emulator.control import Control
from dbt_enrich.emulator.errors import Flavour, WireError, denied, invalid, not_found
from dbt_enrich.emulator.jobs import Jobs
from dbt_enrich.emulator.listing import filtered, in_order, paged
from dbt_enrich.emulator.wire import batch_document, chat_body, file_document

PREFIXES = {
    "/openai/v1": Flavour.AZURE_V1,
    "/openai": Flavour.AZURE_CLASSIC,
    "/v1": Flavour.OPENAI,
}
# The service's own limit, with room for the form around the file.
_MAX_UPLOAD = 220_000_000
_MAX_JSON = 64_000_000
# Headers in which a client gives a synchronous request an id of its own.
_CLIENT_REQUEST_ID = ("x-ms-client-request-id", "x-client-request-id")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
# Older versions take no notice of an expiry.
_EXPIRY_SINCE = "2025-03-01"
Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The handlers of the service's paths.

    Args:
        jobs: The resource.
        api_key: The key that every call must carry.
    """

    def __init__(self, jobs: Jobs, api_key: str) -> None:
        self._jobs = jobs
        self._key = api_key.encode()

    def routes(self) -> list[BaseRoute]:
        """Return the routes of all path styles."""
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/files", self.upload),
            ("GET", "/files", self.list_files),
            ("GET", "/files/{file_id}", self.get_file),
            ("DELETE", "/files/{file_id}", self.delete_file),
            ("GET", "/files/{file_id}/content", self.file_content),
            ("POST", "/batches", self.create_batch),
            ("GET", "/batches", self.list_batches),
            ("GET", "/batches/{batch_id}", self.get_batch),
            ("POST", "/batches/{batch_id}/cancel", self.cancel_batch),
            ("GET", "/models", self.list_models),
            ("GET", "/models/{model}", self.get_model),
        ]
        chat = [("POST", "/chat/completions", self.chat)]
        classic: list[tuple[str, str, Handler]] = [
            ("POST", "/deployments/{deployment}/chat/completions", self.chat),
            ("GET", "/deployments", self.list_deployments),
            ("GET", "/deployments/{deployment}", self.get_deployment),
        ]
        extra = {Flavour.AZURE_CLASSIC: classic}
        return [
            Route(prefix + path, self._guarded(handler, flavour), methods=[method])
            for prefix, flavour in PREFIXES.items()
            for method, path, handler in [*table, *extra.get(flavour, chat)]
        ]

    def is_authorised(self, headers: Mapping[str, str], *, api_key_header: bool = True) -> bool:
        """Whether a call carries the key; OpenAI takes it as a bearer token only."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [token] if scheme.lower() == "bearer" else []
        if api_key_header:
            given.append(headers.get("api-key", ""))
        return any(hmac.compare_digest(key.encode(), self._key) for key in given)

    def _guarded(self, handler: Handler, flavour: Flavour) -> Handler:
        async def guarded(request: Request) -> Response:
            request.state.flavour = flavour
            try:
                self._check(request, flavour)
                return await handler(request)
            except WireError as error:
                return JSONResponse(
                    error.body(flavour), status_code=error.status, headers=error.headers
                )

        return guarded

    def _check(self, request: Request, flavour: Flavour) -> None:
        if not self.is_authorised(request.headers, api_key_header=flavour.is_azure):
            raise denied(flavour)
        if flavour is Flavour.AZURE_CLASSIC:
            version = request.query_params.get("api-version", "")
            if not _DATED.fullmatch(version):
                raise WireError(404, "404", "Resource not found")

    async def upload(self, request: Request) -> Response:
        """POST /files."""
        limited = Request(
            request.scope,
            _limited(request.receive, _MAX_UPLOAD, "The file is larger than 200 MB."),
        )
        async with limited.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise invalid("The form has no part 'file'.")
            record = await run_in_threadpool(
                self._jobs.files.add,
                file.file,
                filename=file.filename or "upload.jsonl",
                purpose=str(form.get("purpose", "")),
                expires_after=_expiry_of_upload(request, form),
                flavour=request.state.flavour,
            )
        return self._created(request, file_document(record), f"/files/{record['id']}")

    async def list_files(self, request: Request) -> Response:
        """GET /files."""
        wanted = request.query_params.get("purpose")
        files = await run_in_threadpool(self._jobs.files.all)
        documents = [file_document(f) for f in files if wanted in (None, f["purpose"])]
        documents = in_order(documents, request.query_params)
        return JSONResponse(paged(documents, request.query_params, usual=10_000, most=10_000))

    async def get_file(self, request: Request) -> Response:
        """GET /files/{file_id}."""
        record = await run_in_threadpool(self._jobs.files.get, request.path_params["file_id"])
        return JSONResponse(file_document(record))

    async def delete_file(self, request: Request) -> Response:
        """DELETE /files/{file_id}."""
        file_id = request.path_params["file_id"]
        await run_in_threadpool(self._jobs.files.delete, file_id)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})

    async def file_content(self, request: Request) -> Response:
        """GET /files/{file_id}/content."""
        path = await run_in_threadpool(self._jobs.files.content, request.path_params["file_id"])
        return FileResponse(path, media_type="application/octet-stream")

    async def create_batch(self, request: Request) -> Response:
        """POST /batches."""
        body = await _json(request)
        if body.get("input_blob"):
            raise invalid("'input_blob' is not supported here; upload a file.", "input_blob")
        record = await run_in_threadpool(
            self._jobs.create,
            input_file_id=_text(body, "input_file_id"),
            endpoint=_text(body, "endpoint"),
            completion_window=_text(body, "completion_window"),
            metadata=_metadata(body.get("metadata")),
            flavour=request.state.flavour,
            output_expires_after=_expiry(body.get("output_expires_after")),
        )
        document = batch_document(record, self._jobs.counts(record))
        response = self._created(request, document, f"/batches/{record['id']}")
        deployment = self._jobs.deployment(str(record.get("deployment")))
        if record.get("tokens") and deployment and deployment.max_enqueued_tokens:
            held = await run_in_threadpool(self._jobs.held, deployment.name)
            response.headers["deployment-enqueued-tokens"] = str(held)
            response.headers["deployment-maximum-enqueued-tokens"] = str(
                deployment.max_enqueued_tokens
            )
        return response

    async def list_batches(self, request: Request) -> Response:
        """GET /batches."""
        records = await run_in_threadpool(self._jobs.batches)
        documents = [batch_document(r, self._jobs.counts(r)) for r in records]
        if request.state.flavour is Flavour.AZURE_CLASSIC:
            documents = filtered(documents, request.query_params)
        return JSONResponse(paged(documents, request.query_params, usual=20, most=100))

    async def get_batch(self, request: Request) -> Response:
        """GET /batches/{batch_id}."""
        record = await run_in_threadpool(self._jobs.batch, request.path_params["batch_id"])
        return JSONResponse(batch_document(record, self._jobs.counts(record)))

    async def cancel_batch(self, request: Request) -> Response:
        """POST /batches/{batch_id}/cancel."""
        record = await run_in_threadpool(self._jobs.cancel, request.path_params["batch_id"])
        return JSONResponse(batch_document(record, self._jobs.counts(record)))

    async def chat(self, request: Request) -> Response:
        """POST /chat/completions."""
        body = await _json(request)
        named = request.path_params.get("deployment")
        asked = {**body, "model": named} if named else body
        flavour = request.state.flavour
        request_id = next(
            (request.headers[name] for name in _CLIENT_REQUEST_ID if name in request.headers), ""
        )
        reply = await run_in_threadpool(self._jobs.chat, asked, flavour, request_id=request_id)
        return JSONResponse(chat_body(reply, flavour), status_code=reply.status_code)

    async def list_models(self, request: Request) -> Response:  # noqa: ARG002
        """GET /models."""
        models = [_model_document(deployment) for deployment in self._jobs.deployments()]
        return JSONResponse({"object": "list", "data": models})

    async def list_deployments(self, request: Request) -> Response:  # noqa: ARG002
        """GET /deployments."""
        documents = [_deployment_document(deployment) for deployment in self._jobs.deployments()]
        return JSONResponse({"object": "list", "data": documents})

    async def get_model(self, request: Request) -> Response:
        """GET /models/{model}."""
        deployment = self._deployment(request.path_params["model"])
        return JSONResponse(_model_document(deployment))

    async def get_deployment(self, request: Request) -> Response:
        """GET /deployments/{deployment}."""
        deployment = self._deployment(request.path_params["deployment"])
        return JSONResponse(_deployment_document(deployment))

    def _deployment(self, name: str) -> Deployment:
        deployment = self._jobs.deployment(name)
        if deployment is None:
            raise not_found("deployment", name)
        return deployment

    def _created(self, request: Request, document: dict[str, Any], path: str) -> JSONResponse:
        if not request.state.flavour.is_azure:
            return JSONResponse(document)
        prefix = "/openai/v1" if request.state.flavour is Flavour.AZURE_V1 else "/openai"
        location = f"{request.url.scheme}://{request.url.netloc}{prefix}{path}"
        return JSONResponse(document, status_code=201, headers={"Location": location})


def create_app(jobs: Jobs, api_key: str) -> Starlette:
    """Return the ASGI application over a resource, with the control plane beside the API."""
    api = Api(jobs, api_key)
    control = Control(jobs, is_authorised=api.is_authorised)
    app = Starlette(
        routes=[*api.routes(), *control.routes()],
        exception_handlers={HTTPException: _http_error},
    )
    app.state.control = control
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer unknown paths as the services do."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    flavour = Flavour.OPENAI if request.url.path.startswith("/v1") else Flavour.AZURE_V1
    message = "Resource not found" if status == 404 else str(getattr(error, "detail", error))
    return JSONResponse(WireError(status, str(status), message).body(flavour), status)


def _limited(receive: Receive, most: int, message: str) -> Receive:
    """Count what is received, whether or not a length was announced."""
    size = 0

    async def counting() -> Message:
        nonlocal size
        received = await receive()
        size += len(received.get("body", b""))
        if size > most:
            raise WireError(413, "contentTooLarge", message)
        return received

    return counting


async def _json(request: Request) -> dict[str, Any]:
    limited = Request(request.scope, _limited(request.receive, _MAX_JSON, "The body is too large."))
    try:
        body = await limited.json()
    except (ValueError, RecursionError) as error:
        raise invalid("The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise invalid("The body is not an object.")
    return body


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"'{name}' is missing or no text.")
    return value


def _metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > 16:
        raise invalid("metadata must be an object of at most 16 pairs.")
    for key, text in value.items():
        if len(key) > 64 or not isinstance(text, str) or len(text) > 512:
            raise invalid(f"metadata.{key[:64]} must be a text of at most 512 characters.")
    return value


def _expiry_of_upload(request: Request, form: Mapping[str, Any]) -> int | None:
    """Return the seconds after which an upload expires; older dated versions pass over it."""
    version = request.query_params.get("api-version", "")
    if request.state.flavour is Flavour.AZURE_CLASSIC and version[:10] < _EXPIRY_SINCE:
        return None
    anchor = form.get("expires_after[anchor]") or form.get("expires_after.anchor")
    seconds = form.get("expires_after[seconds]") or form.get("expires_after.seconds")
    if anchor is None and seconds is None:
        return None
    return _expiry({"anchor": anchor, "seconds": seconds})


def _expiry(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("anchor") != "created_at":
        raise invalid("An expiry has the anchor 'created_at'.", "expires_after.anchor")
    return _whole("expires_after.seconds", value.get("seconds"))


def _model_document(deployment: Deployment) -> dict[str, Any]:
    return {"id": deployment.name, "object": "model", "created": 0, "owned_by": "emulator"}


def _deployment_document(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.name,
        "object": "deployment",
        "model": deployment.name,
        "status": "succeeded",
        "sku": {"name": deployment.sku},
    }


def _whole(name: str, value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise invalid(f"'{name}' must be a whole number.", name)
    return int(text)
