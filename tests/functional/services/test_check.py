"""The check before anything is uploaded: endpoint, key, deployment."""

from __future__ import annotations

import pytest
from dbt_enrich.errors import (
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    ServiceError,
    TransientError,
)
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.conftest import Connect
from functional.services.wire import STYLES, Reply, Request, Respond, error_body, in_turn, settings

EMPTY = Reply(200, {"object": "list", "data": [], "has_more": False})
NO_ROUTE = Reply(404, error_body("404", "Resource not found"))


def azure(one: Reply, listed: Reply = NO_ROUTE) -> Respond:
    """Answer as Azure would, with what the routes for deployments say."""

    def respond(request: Request) -> Reply:
        if request.path == "/batches":
            return EMPTY
        assert request.query["api-version"] == ["2023-03-15-preview"]
        assert request.root == "/openai"
        return one if request.path.count("/") == 2 else listed

    return respond


def openai(one: Reply) -> Respond:
    """Answer as OpenAI would, with what the route for models says."""

    def respond(request: Request) -> Reply:
        return EMPTY if request.path == "/batches" else one

    return respond


AZURE_STYLES = pytest.mark.parametrize("style", ["classic", "v1"])


@AZURE_STYLES
@pytest.mark.parametrize(
    "found",
    [
        {"id": "gpt", "sku": {"name": "GlobalBatch"}},
        {"id": "gpt", "sku": {"name": "datazonebatch"}},
        {"id": "gpt", "scale_settings": {"scale_type": "GlobalBatch"}},
        # The old API knows two scale types only, whatever the deployment is.
        {"id": "gpt", "scale_settings": {"scale_type": "standard"}},
        {"id": "gpt", "scale_settings": None, "sku": None},
        {"id": "gpt"},
    ],
)
def test_a_batch_deployment_passes(connect: Connect, style: str, found: object) -> None:
    """So does one whose type the service does not tell."""
    service, server = connect(azure(Reply(200, found)), style)
    service.check("gpt")
    assert [request.method for request in server.requests] == ["GET", "GET"]


@AZURE_STYLES
@pytest.mark.parametrize(
    "found",
    [
        {"id": "gpt", "sku": {"name": "GlobalStandard", "capacity": 10}},
        {"id": "gpt", "sku": "ProvisionedManaged"},
        {"id": "gpt", "scale_settings": {"scale_type": "DataZoneStandard"}},
    ],
)
def test_another_kind_of_deployment_is_refused(connect: Connect, style: str, found: object) -> None:
    """A standard deployment would fail the whole batch, minutes after the upload."""
    service, _ = connect(azure(Reply(200, found)), style)
    with pytest.raises(ConfigurationError, match=r"'gpt'.*Global Batch or Data Zone Batch"):
        service.check("gpt")


@AZURE_STYLES
def test_a_deployment_that_does_not_exist_is_refused(connect: Connect, style: str) -> None:
    """Azure's own code says so."""
    missing = Reply(404, error_body("DeploymentNotFound", "The API deployment does not exist."))
    service, _ = connect(azure(missing), style)
    with pytest.raises(NotFoundError, match=r"no deployment 'gpt 4/o'.*`deployments`"):
        service.check("gpt 4/o")


@AZURE_STYLES
def test_a_deployment_that_is_not_listed_is_refused_with_the_near_name(
    connect: Connect, style: str
) -> None:
    """Where the single route is gone, the list decides."""
    listed = Reply(200, {"data": [{"id": "gpt-4o-mini-batch"}, {"id": "other"}]})
    service, _ = connect(azure(NO_ROUTE, listed), style)
    with pytest.raises(NotFoundError, match="did you mean 'gpt-4o-mini-batch'"):
        service.check("gpt-4o-mini-bach")
    with pytest.raises(NotFoundError, match="there are gpt-4o-mini-batch, other"):
        service.check("zzz")
    service.check("other")


@AZURE_STYLES
@pytest.mark.parametrize(
    ("one", "listed"),
    [
        (NO_ROUTE, NO_ROUTE),
        (NO_ROUTE, Reply(200, {"data": []})),
        (NO_ROUTE, Reply(200, b"<html>")),
        (Reply(404, b""), Reply(200, {"data": None})),
        (Reply(401, b""), NO_ROUTE),
        (Reply(400, error_body("BadRequest", "API version not supported")), NO_ROUTE),
        (Reply(500, b"", {"retry-after-ms": "1"}), NO_ROUTE),
    ],
)
def test_what_the_service_cannot_tell_passes(
    connect: Connect, style: str, one: Reply, listed: Reply
) -> None:
    """The routes for deployments are old and may be closed; that is not the user's fault."""
    service, _ = connect(azure(one, listed), style)
    service.check("gpt")


@AZURE_STYLES
@pytest.mark.parametrize("name", ["not", "found", "Resource", "source", "a+b"])
def test_a_missing_route_is_no_missing_deployment(connect: Connect, style: str, name: str) -> None:
    """Also where the deployment's name is a word of the service's sentence."""
    service, _ = connect(azure(NO_ROUTE), style)
    service.check(name)


def test_a_model_that_openai_does_not_have_is_refused(connect: Connect) -> None:
    """OpenAI names the model in its 404."""
    missing = error_body("model_not_found", "The model 'gpt-x' does not exist")
    service, _ = connect(openai(Reply(404, missing)), "openai")
    with pytest.raises(NotFoundError, match="no model 'gpt-x'"):
        service.check("gpt-x")


@pytest.mark.parametrize(
    "reply", [Reply(200, {"id": "gpt-x"}), Reply(404, {"detail": "Not Found"}), Reply(403, b"")]
)
def test_a_model_passes_unless_it_is_certainly_missing(connect: Connect, reply: Reply) -> None:
    """A server that only resembles OpenAI may not have the route."""
    service, _ = connect(openai(reply), "openai")
    service.check("gpt-x")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_refused(connect: Connect, style: str, status: int) -> None:
    """Before anything is uploaded, by the first call."""
    body = {"statusCode": status, "message": "Access denied due to invalid subscription key"}
    service, server = connect(in_turn(Reply(status, body)), style)
    with pytest.raises(AuthenticationError, match="Access denied due to invalid"):
        service.check("gpt")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("style", "field"), [("classic", "api_version"), ("v1", "endpoint"), ("openai", "base_url")]
)
def test_an_address_without_a_batch_api_is_refused(
    connect: Connect, style: str, field: str
) -> None:
    """404 on the list of batches means a wrong address or version."""
    service, _ = connect(in_turn(NO_ROUTE), style)
    with pytest.raises(ConfigurationError, match=f"no Batch API at 127.*`{field}`"):
        service.check("gpt")


def test_an_address_that_answers_something_else_is_refused(connect: Connect, style: str) -> None:
    """A web page with status 200 is not an API."""
    service, _ = connect(in_turn(Reply(200, b"<html>Welcome</html>")), style)
    with pytest.raises(ServiceError, match="address of a Batch API"):
        service.check("gpt")


@pytest.mark.parametrize("style", STYLES)
def test_an_address_that_nobody_answers_is_named(unused_address: str, style: str) -> None:
    """One sentence with the host, the reason and the key of the profile."""
    service = OpenAIBatchService(settings(unused_address, style, max_retries=0))
    field = "base_url" if style == "openai" else "endpoint"
    with pytest.raises(TransientError, match=f"127.*connection refused.*`{field}`"):
        service.check("gpt")
