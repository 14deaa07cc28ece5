"""The emulator over HTTP: one route table for the three path styles.

Azure's dated API is under `/openai` and demands `api-version`, Azure's v1 API is under
`/openai/v1`, OpenAI's under `/v1`. All of them show the same files and batches.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive

from batch_server.bodies import BatchBody, BlobBatchBody, Body, Expiry, ImportBody, UploadForm
from batch_server.checking import Deployment
from batch_server.control import Answering, Control
from batch_server.errors import Flavour, WireError, denied, invalid, not_found, refused
from batch_server.jobs import Jobs
from batch_server.listing import filtered, in_order, paged
from batch_server.plain import readable
from batch_server.refusals import Refusal, kind_of, missing, read_body
from batch_server.replies import Reply, error_handlers
from batch_server.responders.base import CHAT, EMBEDDINGS, RESPONSES, ChatReply
from batch_server.streaming import stream_of
from batch_server.wire import batch_document, file_document, is_completion, shown_body

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
_RANGE = re.compile(r"bytes=(?=\d|-\d)(\d{0,18})-(\d{0,18})", re.ASCII)
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
# Older versions take no notice of an expiry.
_EXPIRY_SINCE = "2025-03-01"
_BLOBS_SINCE = "2025-04-01"
_NO_JSON = (
    "We could not parse the JSON body of your request. The API expects a JSON payload, but what "
    "was sent was not valid JSON."
)
Handler = Callable[[Request], Awaitable[Response]]
M = TypeVar("M", bound=Body)


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
            # Names of models hold slashes and colons at some servers.
            ("GET", "/models/{model:path}", self.get_model),
            # Azure's classic API has it without a deployment in the path, too.
            ("POST", RESPONSES, self.responses),
        ]
        chat = ("POST", CHAT, self.chat)
        embeddings = ("POST", EMBEDDINGS, self.embeddings)
        importing = ("POST", "/files/import", self.import_file)
        classic: list[tuple[str, str, Handler]] = [
            importing,
            ("POST", f"/deployments/{{deployment}}{CHAT}", self.chat),
            ("POST", f"/deployments/{{deployment}}{EMBEDDINGS}", self.embeddings),
            ("GET", "/deployments", self.list_deployments),
            ("GET", "/deployments/{deployment}", self.get_deployment),
        ]
        extra: dict[Flavour, list[tuple[str, str, Handler]]] = {
            Flavour.AZURE_CLASSIC: classic,
            Flavour.AZURE_V1: [importing, chat, embeddings],
            Flavour.OPENAI: [chat, embeddings],
        }
        return [
            Route(prefix + path, self._guarded(handler, flavour), methods=[method])
            for prefix, flavour in PREFIXES.items()
            for method, path, handler in [*table, *extra[flavour]]
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
            self._check(request, flavour)
            return await handler(request)

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
        try:
            async with limited.form(max_files=1, max_fields=8) as form:
                record = await self._keep_upload(request, form)
        except UnicodeError as error:
            raise invalid("The form is not written in the charset that it names.") from error
        flavour = request.state.flavour
        return self._created(request, file_document(record, flavour), f"/files/{record['id']}")

    async def _keep_upload(self, request: Request, form: FormData) -> dict[str, Any]:
        described = _upload_form(request, form)
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise refused(missing("file"))
        return await run_in_threadpool(
            self._jobs.files.add,
            file.file,
            filename=readable(file.filename or "upload.jsonl"),
            purpose=described.purpose,
            expires_after=_seconds(described.expires_after),
            flavour=request.state.flavour,
        )

    async def import_file(self, request: Request) -> Response:
        """POST /files/import, of Azure: refused, as this server calls no other."""
        _read(ImportBody, await _json(request))
        raise WireError(
            400,
            "fileImportFailed",
            "This server fetches nothing from other addresses, so it imports no files. Please "
            "upload the file's content with POST /files.",
            param="content_url",
        )

    async def list_files(self, request: Request) -> Response:
        """GET /files."""
        wanted = request.query_params.get("purpose")
        files = await run_in_threadpool(self._jobs.files.all)
        flavour = request.state.flavour
        documents = [file_document(f, flavour) for f in files if wanted in (None, f["purpose"])]
        documents = in_order(documents, request.query_params)
        return Reply(paged(documents, request.query_params, usual=10_000, most=10_000))

    async def get_file(self, request: Request) -> Response:
        """GET /files/{file_id}."""
        record = await run_in_threadpool(self._jobs.files.get, request.path_params["file_id"])
        return Reply(file_document(record, request.state.flavour))

    async def delete_file(self, request: Request) -> Response:
        """DELETE /files/{file_id}."""
        file_id = request.path_params["file_id"]
        await run_in_threadpool(self._jobs.files.delete, file_id)
        return Reply({"id": file_id, "object": "file", "deleted": True})

    async def file_content(self, request: Request) -> Response:
        """GET /files/{file_id}/content."""
        file_id = request.path_params["file_id"]
        path = await run_in_threadpool(self._jobs.files.content, file_id)
        if not path.is_file():
            raise not_found("content of the file", file_id)
        _keep_to_ranges(request, path.stat().st_size)
        return FileResponse(path, media_type="application/octet-stream")

    async def create_batch(self, request: Request) -> Response:
        """POST /batches."""
        body = await _json(request)
        if body.get("input_blob"):
            record = await self._create_on_blob(request, body)
        else:
            asked = _read(BatchBody, body)
            record = await run_in_threadpool(
                self._jobs.create,
                input_file_id=asked.input_file_id,
                endpoint=asked.endpoint,
                completion_window=asked.completion_window,
                metadata=asked.metadata,
                flavour=request.state.flavour,
                output_expires_after=_seconds(asked.output_expires_after),
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

    async def _create_on_blob(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        flavour = request.state.flavour
        version = request.query_params.get("api-version", "")
        is_old = flavour is Flavour.AZURE_CLASSIC and version[:10] < _BLOBS_SINCE
        if not flavour.is_azure or is_old or not self._jobs.reads_blobs:
            raise invalid("'input_blob' is not supported here; upload a file.", "input_blob")
        if body.get("metadata"):
            raise invalid("'metadata' is not supported with 'input_blob'.", "metadata")
        asked = _read(BlobBatchBody, body)
        return await run_in_threadpool(
            self._jobs.create_on_blob,
            input_blob=asked.input_blob,
            output_folder=asked.output_folder.url,
            endpoint=asked.endpoint,
            completion_window=asked.completion_window,
            flavour=flavour,
        )

    async def list_batches(self, request: Request) -> Response:
        """GET /batches."""
        records = await run_in_threadpool(self._jobs.batches)
        documents = [batch_document(r, self._jobs.counts(r)) for r in records]
        if request.state.flavour is Flavour.AZURE_CLASSIC:
            documents = filtered(documents, request.query_params)
        return Reply(paged(documents, request.query_params, usual=20, most=100))

    async def get_batch(self, request: Request) -> Response:
        """GET /batches/{batch_id}."""
        record = await run_in_threadpool(self._jobs.batch, request.path_params["batch_id"])
        return Reply(batch_document(record, self._jobs.counts(record)))

    async def cancel_batch(self, request: Request) -> Response:
        """POST /batches/{batch_id}/cancel."""
        record = await run_in_threadpool(self._jobs.cancel, request.path_params["batch_id"])
        return Reply(batch_document(record, self._jobs.counts(record)))

    async def chat(self, request: Request) -> Response:
        """POST /chat/completions."""
        body = await _json(request)
        reply = await self._answered(request, CHAT, _named(request, body))
        answer = shown_body(reply, request.state.flavour)
        if body.get("stream") and reply.status_code == 200 and is_completion(answer):
            options = body.get("stream_options") or {}
            return stream_of(answer, include_usage=bool(options.get("include_usage")))
        return Reply(answer, status_code=reply.status_code)

    async def responses(self, request: Request) -> Response:
        """POST /responses."""
        reply = await self._answered(request, RESPONSES, await _json(request))
        answer = shown_body(reply, request.state.flavour)
        return Reply(answer, status_code=reply.status_code)

    async def embeddings(self, request: Request) -> Response:
        """POST /embeddings."""
        body = await _json(request)
        reply = await self._answered(request, EMBEDDINGS, _named(request, body))
        return Reply(reply.body, status_code=reply.status_code)

    async def _answered(self, request: Request, path: str, asked: dict[str, Any]) -> ChatReply:
        """Have one synchronous request answered."""
        request_id = next(
            (request.headers[name] for name in _CLIENT_REQUEST_ID if name in request.headers), ""
        )
        return await run_in_threadpool(
            self._jobs.ask, path, asked, request.state.flavour, request_id=request_id
        )

    async def list_models(self, request: Request) -> Response:  # noqa: ARG002
        """GET /models: the deployments that were declared, else what answers to any name."""
        names = await run_in_threadpool(self._jobs.served)
        return Reply({"object": "list", "data": [_served_document(name) for name in names]})

    async def list_deployments(self, request: Request) -> Response:  # noqa: ARG002
        """GET /deployments."""
        documents = [_deployment_document(deployment) for deployment in self._jobs.deployments()]
        return Reply({"object": "list", "data": documents})

    async def get_model(self, request: Request) -> Response:
        """GET /models/{model}."""
        deployment = self._deployment(request.path_params["model"])
        return Reply(_served_document(deployment.name))

    async def get_deployment(self, request: Request) -> Response:
        """GET /deployments/{deployment}."""
        deployment = self._deployment(request.path_params["deployment"])
        return Reply(_deployment_document(deployment))

    def _deployment(self, name: str) -> Deployment:
        deployment = self._jobs.deployment(name) if name else None
        if deployment is None:
            raise not_found("deployment", name)
        return deployment

    def _created(self, request: Request, document: dict[str, Any], path: str) -> Reply:
        if not request.state.flavour.is_azure:
            return Reply(document)
        prefix = "/openai/v1" if request.state.flavour is Flavour.AZURE_V1 else "/openai"
        location = f"{request.url.scheme}://{request.url.netloc}{prefix}{path}"
        return Reply(document, status_code=201, headers={"Location": location})


def _named(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the deployment that a path of Azure's dated API names."""
    named = request.path_params.get("deployment")
    return {**body, "model": named} if named else body


def create_app(jobs: Jobs, worker: Answering, api_key: str) -> Starlette:
    """Return the ASGI application over a resource, with the control plane beside the API."""
    api = Api(jobs, api_key)
    control = Control(jobs, worker, is_authorised=api.is_authorised)
    app = Starlette(
        routes=[*api.routes(), *control.routes()],
        exception_handlers=error_handlers(),
    )
    # A path with a slash at its end is another one, and a redirect would be no JSON.
    app.router.redirect_slashes = False
    app.state.control = control
    return app


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


def _keep_to_ranges(request: Request, size: int) -> None:
    """Pass over a `Range` that is not one range of bytes, and refuse one beyond the file's end."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or (found[1] and found[2] and int(found[2]) < int(found[1])):
        others = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
        request.scope["headers"] = others
        return
    start = int(found[1]) if found[1] else size - int(found[2] or 0)
    if start >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise WireError(416, "416", "The range begins behind the end of the file.", headers)


async def _json(request: Request) -> dict[str, Any]:
    limited = Request(request.scope, _limited(request.receive, _MAX_JSON, "The body is too large."))
    try:
        body = await limited.json()
    except (ValueError, RecursionError) as error:
        raise invalid(_NO_JSON) from error
    if not isinstance(body, dict):
        raise invalid(
            f"Invalid type for the body: expected an object, but got {kind_of(body)} instead."
        )
    return body


def _read(model: type[M], document: object) -> M:
    read = read_body(model, document)
    if isinstance(read, Refusal):
        raise refused(read)
    return read


def _upload_form(request: Request, form: Mapping[str, Any]) -> UploadForm:
    """Return the form's parts beside the file; older dated versions pass over an expiry."""
    document: dict[str, Any] = {"purpose": form["purpose"]} if "purpose" in form else {}
    version = request.query_params.get("api-version", "")
    if request.state.flavour is Flavour.AZURE_CLASSIC and version[:10] < _EXPIRY_SINCE:
        return _read(UploadForm, document)
    expiry = {
        name: _number_of(value) if name == "seconds" else value
        for name in ("anchor", "seconds")
        for value in (form.get(f"expires_after[{name}]", form.get(f"expires_after.{name}")),)
        if value is not None
    }
    return _read(UploadForm, {**document, **({"expires_after": expiry} if expiry else {})})


def _number_of(value: object) -> object:
    """Return the whole number that a form spells, in which all is text; else what it says."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        return int(value)
    return value


def _seconds(expiry: Expiry | None) -> int | None:
    return None if expiry is None else expiry.seconds


def _served_document(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "emulator"}


def _deployment_document(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.name,
        "object": "deployment",
        "model": deployment.name,
        "status": "succeeded",
        "sku": {"name": deployment.sku},
    }
