"""The responder `upstream`: a model server over real HTTP, answering batches of the emulator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from batch_server.http_client import httpx
from batch_server.problems import BatchServerError, SetupError
from batch_server.process import ADDRESS_FILE, join_emulator
from batch_server.responders import ResponderSpec, UpstreamOptions
from batch_server.responders.base import ChatReply, ChatRequest, WantedRequests
from batch_server.responders.upstream import UpstreamResponder
from batch_server.server import running_emulator
from dbt_enrich.config import parse_config
from dbt_enrich.config.local import LocalConfig
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.services import create_service
from functional.batch_server.model_server import (
    PATIENCE,
    ModelServer,
    answer,
    hold,
    meet,
    model_server,
    refuse,
    reset,
    uncounted,
)
from functional.batch_server.resource import Resource, line
from support.pictures import data_address, png
from support.warehouse import Warehouse

NOWHERE = "http://127.0.0.1:1/v1"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A model server."""
    with model_server() as server:
        yield server


def asked(texts: list[str], **body: Any) -> list[ChatRequest]:
    """Requests of one text each."""
    return [
        ChatRequest(i, f"r-{i}", {"messages": [{"role": "user", "content": text}], **body})
        for i, text in enumerate(texts)
    ]


def replies(options: UpstreamOptions, texts: list[str], **body: Any) -> dict[str, ChatReply]:
    """The replies to a few texts, by text."""
    responder = UpstreamResponder(options)
    try:
        return {
            request.body["messages"][0]["content"]: reply
            for request, reply in responder.answer(asked(texts, **body))
        }
    finally:
        responder.close()


def error_of(reply: ChatReply) -> dict[str, Any]:
    """The error of a reply."""
    return dict(reply.body["error"])


def test_pictures_are_passed_on_as_they_are(server: ModelServer) -> None:
    """The model server is shown what the row has."""
    picture = {"type": "image_url", "image_url": {"url": data_address(png()), "detail": "low"}}
    content = [{"type": "text", "text": "What is this?"}, picture]
    body = {"model": "small", "messages": [{"role": "user", "content": content}]}
    responder = UpstreamResponder(UpstreamOptions(server.url))
    try:
        ((_, reply),) = responder.answer([ChatRequest(0, "r", body)])
    finally:
        responder.close()
    assert reply.status_code == 200
    assert [sent["messages"] for sent in server.bodies] == [body["messages"]]


def test_a_batch_is_answered_row_by_row_whatever_the_server_does(
    server: ModelServer, tmp_path: Path
) -> None:
    """Passing trouble is overcome; what stays is an error line with the server's own words."""
    refusal = {"error": {"message": "no such grammar", "type": "bad", "param": "x", "code": "g"}}
    server.actions.update(
        {
            "busy": [refuse(429, {"error": "busy"}, Retry_After="0")] * 2,
            "stumbles": [refuse(500, b"oops", Retry_After="0")],
            "hangs up": [reset],
            "wrong": [refuse(400, refusal)] * 9,
            "prose": [refuse(200, b"<html>hello</html>")] * 9,
            "empty": [refuse(200, {"choices": []})] * 9,
            "down": [refuse(503, {"detail": "loading"}, Retry_After="0")] * 9,
            "uncounted": [uncounted],
        }
    )
    texts = ["plain", *server.actions]
    responder = UpstreamResponder(UpstreamOptions(server.url, retries=2))
    with running_emulator(tmp_path, responder=responder) as emulator:
        resource = Resource(emulator)
        batch = resource.reach(resource.create(*(line(t, t, model="small") for t in texts)))
        output = {found["custom_id"]: found for found in resource.lines_of(batch["output_file_id"])}
        errors = {found["custom_id"]: found for found in resource.lines_of(batch["error_file_id"])}
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 9, "completed": 7, "failed": 2}
    assert set(output) == set(texts) - {"wrong", "down"}
    plain = output["plain"]["response"]
    assert plain["status_code"] == 200
    assert plain["body"]["choices"][0]["message"]["reasoning"] == "because"
    assert plain["body"]["timings"] == {"predicted_ms": 1.5}
    assert plain["body"]["usage"]["total_tokens"] == 5
    assert "usage" not in output["uncounted"]["response"]["body"]
    failed = {name: found["response"] for name, found in errors.items()}
    assert failed["wrong"]["status_code"] == 400
    assert failed["wrong"]["body"] == refusal
    assert failed["down"]["status_code"] == 503
    assert failed["down"]["body"]["error"]["message"] == "loading"
    assert output["prose"]["response"]["body"] == "<html>hello</html>"
    assert output["empty"]["response"]["body"]["choices"] == []
    times = {"busy": 3, "stumbles": 2, "hangs up": 2, "wrong": 1, "prose": 1, "down": 3}
    assert {name: server.asked[name] for name in times} == times


def test_no_more_requests_are_in_flight_than_allowed(server: ModelServer, tmp_path: Path) -> None:
    """The limit is reached, and holds over a batch and single requests together."""
    server.usual = meet(3)
    responder = UpstreamResponder(UpstreamOptions(server.url, concurrency=3))
    with running_emulator(tmp_path, responder=responder) as emulator:
        resource = Resource(emulator)
        batch_id = resource.create(*(line(f"r-{i}", f"row {i}") for i in range(40)))
        body = {"model": "small", "messages": [{"role": "user", "content": "one"}]}
        singles = [
            threading.Thread(target=resource.http.post, args=("/chat/completions",), kwargs=kwargs)
            for kwargs in [{"json": body}] * 5
        ]
        for single in singles:
            single.start()
        counts = resource.reach(batch_id)["request_counts"]
        for single in singles:
            single.join()
    assert counts == {"total": 40, "completed": 40, "failed": 0}
    assert server.asked["one"] == 5
    assert server.peak == 3


def test_a_server_that_never_answers_is_a_timeout(server: ModelServer) -> None:
    """The row ends with a status that lets it be asked again, and says how often it was tried."""
    server.usual = hold
    options = UpstreamOptions(server.url, timeout=0.2, retries=1)
    reply = replies(options, ["row"])["row"]
    assert reply.status_code == 408
    assert error_of(reply)["code"] == "request_timeout"
    assert "2 tries" in error_of(reply)["message"]
    server.wait(lambda: server.abandoned == 2)


def test_a_server_that_always_hangs_up_is_no_answer(server: ModelServer) -> None:
    """The row ends with a status that lets it be asked again."""
    server.usual = reset
    reply = replies(UpstreamOptions(server.url, retries=0), ["row"])["row"]
    assert reply.status_code == 503
    assert error_of(reply)["code"] == "connection_error"


def test_the_request_is_the_rows_own_but_for_the_model(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is replaced, nothing is streamed, the key goes along, half characters arrive."""
    server.key = "s3cret"
    monkeypatch.setenv("MODEL_SERVER_KEY", "s3cret")
    options = UpstreamOptions(server.url, model="large", api_key_env="MODEL_SERVER_KEY")
    text = "half \ud83d"
    more = {"model": "small", "temperature": 0, "stream": True, "stream_options": {}}
    assert replies(options, [text], **more)[text].status_code == 200
    messages = [{"role": "user", "content": text}]
    assert server.bodies == [{"messages": messages, "model": "large", "temperature": 0}]
    assert "s3cret" not in repr(options) + " ".join(options.arguments())


def test_a_key_that_is_refused_later_is_an_error_of_the_row(server: ModelServer) -> None:
    """It is not repeated."""
    responder = UpstreamResponder(UpstreamOptions(server.url))
    server.key = "changed"
    ((_, reply),) = responder.answer(asked(["row"]))
    responder.close()
    assert reply.status_code == 401
    assert error_of(reply)["message"] == "wrong key"


def test_a_server_that_repeats_its_key_is_not_quoted(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is stored with the row; an answer that holds the key's letters is left whole."""
    server.key = "small"
    monkeypatch.setenv("MODEL_SERVER_KEY", "small")
    shown = {"error": {"code": "small_key", "message": "the key small is wrong"}}
    server.actions["row"] = [lambda call: call.send(400, shown)]
    server.content = lambda _: "a small answer"
    found = replies(
        UpstreamOptions(server.url, api_key_env="MODEL_SERVER_KEY"), ["row", "next"], model="small"
    )
    assert error_of(found["row"]) == {
        "type": "invalid_request_error",
        "code": "small_key",
        "message": "the key *** is wrong",
    }
    assert found["next"].body["choices"][0]["message"]["content"] == "a small answer"


def test_closing_the_iterator_abandons_what_is_in_flight(server: ModelServer) -> None:
    """The server sees the connections go, and no more rows were read than there was room for."""
    server.actions["first"] = [answer]
    server.usual = hold
    responder = UpstreamResponder(UpstreamOptions(server.url, concurrency=3))
    source = iter(asked(["first", *(f"row {i}" for i in range(50))]))
    found = responder.answer(source)
    assert next(found)[1].status_code == 200
    server.wait(lambda: server.flying == 3)
    found.close()
    server.wait(lambda: server.abandoned == 3)
    assert next(source).index == 4
    responder.close()


def test_rows_that_are_no_longer_wanted_are_abandoned(server: ModelServer) -> None:
    """The iterator ends by itself while the server thinks, as for a batch that is cancelled."""
    server.usual = hold
    responder = UpstreamResponder(UpstreamOptions(server.url))
    wanted = WantedRequests(asked(["a", "b"]), lambda: server.flying < 2)
    assert list(responder.answer(wanted)) == []
    server.wait(lambda: server.abandoned == 2)
    responder.close()


def test_closing_the_responder_ends_every_iterator(server: ModelServer) -> None:
    """Also the ones that wait, and those that are begun afterwards; nothing is answered wrongly."""
    server.usual = hold
    responder = UpstreamResponder(UpstreamOptions(server.url))

    def close_meanwhile() -> None:
        server.wait(lambda: server.flying == 2)
        responder.close()

    closing = threading.Thread(target=close_meanwhile)
    closing.start()
    assert list(responder.answer(asked(["a", "b"]))) == []
    closing.join()
    server.wait(lambda: server.abandoned == 2)
    responder.close()
    assert list(responder.answer(asked(["c"]))) == []


def test_a_cancelled_batch_lets_go_of_the_server(server: ModelServer, tmp_path: Path) -> None:
    """It ends although the server still thinks, and what was answered is kept."""
    server.actions["quick"] = [answer]
    server.usual = hold
    responder = UpstreamResponder(UpstreamOptions(server.url, concurrency=2))
    with running_emulator(tmp_path, responder=responder) as emulator:
        resource = Resource(emulator)
        rows = ["quick", *(f"row-{i}" for i in range(9))]
        batch_id = resource.create(*(line(text, text) for text in rows))
        server.wait(lambda: server.flying == 2 and len(server.asked) == 3)
        assert resource.http.post(f"/batches/{batch_id}/cancel").is_success
        server.wait(lambda: server.abandoned == 2)
        batch = resource.reach(batch_id, "cancelled")
        answered = resource.lines_of(batch["output_file_id"])
    assert [found["custom_id"] for found in answered] == ["quick"]


def test_an_emulator_that_ends_lets_go_of_the_server(server: ModelServer, tmp_path: Path) -> None:
    """Its batch stays open, and goes on when it is started again."""
    server.usual = hold
    options = UpstreamOptions(server.url)
    with running_emulator(tmp_path, responder=UpstreamResponder(options)) as emulator:
        batch_id = Resource(emulator).create(line("a", "a"))
        server.wait(lambda: server.flying == 1)
    server.wait(lambda: server.abandoned == 1)
    server.open.set()
    with running_emulator(tmp_path, responder=UpstreamResponder(options)) as emulator:
        counts = Resource(emulator).reach(batch_id)["request_counts"]
    assert counts == {"total": 1, "completed": 1, "failed": 0}


def test_a_killed_emulator_asks_again_only_what_was_in_flight(
    server: ModelServer, tmp_path: Path
) -> None:
    """Each answer is on disk before the next row is asked."""
    texts = [f"row {i}" for i in range(24)]
    server.actions.update({text: [answer] for text in texts[:12]})
    server.usual = hold
    spec = ResponderSpec("upstream", upstream=UpstreamOptions(server.url, concurrency=2))
    first = join_emulator(tmp_path, spec=spec)
    try:
        resource = Resource(cast("Any", first))
        batch_id = resource.create(*(line(text.replace(" ", "-"), text) for text in texts))
        server.wait(lambda: server.flying == 2 and len(server.asked) == 14)
        os.kill(json.loads((tmp_path / ADDRESS_FILE).read_text())["pid"], signal.SIGKILL)
        server.wait(lambda: server.abandoned == 2)
        server.open.set()
        second = join_emulator(tmp_path, spec=spec)
        try:
            counts = Resource(cast("Any", second)).reach(batch_id)["request_counts"]
        finally:
            second.release()
    finally:
        first.release()
    assert counts == {"total": 24, "completed": 24, "failed": 0}
    # Two were in flight; the replies before them may just not have been written.
    assert sum(server.asked.values()) <= 24 + 2 * 2


# At the start


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    """It names the address."""
    with pytest.raises(BatchServerError, match=r"no model server answers at http://127.0.0.1:1/v1"):
        UpstreamResponder(UpstreamOptions(NOWHERE))


def test_a_key_that_is_missing_or_wrong_is_one_sentence(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the variable, never what is in it."""
    server.key = "right"
    with pytest.raises(SetupError, match="demands a key"):
        UpstreamResponder(UpstreamOptions(server.url))
    options = UpstreamOptions(server.url, api_key_env="MODEL_SERVER_KEY")
    with pytest.raises(SetupError, match="MODEL_SERVER_KEY.*not set"):
        UpstreamResponder(options)
    for key, text in (("not this", "a space"), ("wrong", "refuses the key")):
        monkeypatch.setenv("MODEL_SERVER_KEY", key)
        with pytest.raises(SetupError, match=f"MODEL_SERVER_KEY.*{text}|{text}.*") as seen:
            UpstreamResponder(options)
        assert key not in str(seen.value)


def test_a_model_that_the_server_has_not_is_one_sentence(server: ModelServer) -> None:
    """It lists those that there are; Ollama's usual tag may be left out."""
    server.models = ["qwen3:4b", "llama3.2:latest"]
    with pytest.raises(SetupError, match=r"no model 'gpt'; it has llama3.2:latest, qwen3"):
        UpstreamResponder(UpstreamOptions(server.url, model="gpt"))
    UpstreamResponder(UpstreamOptions(server.url, model="llama3.2")).close()
    server.models = {"object": "list", "data": None}
    with pytest.raises(SetupError, match="none at all"):
        UpstreamResponder(UpstreamOptions(server.url, model="gpt"))


def test_an_address_of_something_else_is_one_sentence(server: ModelServer) -> None:
    """A forgotten /v1 is the usual reason. A server that is still loading is waited for later."""
    with pytest.raises(SetupError, match="HTTP 404 and no list of models"):
        UpstreamResponder(UpstreamOptions(server.url.removesuffix("/v1")))
    server.models = {"hello": "world"}
    with pytest.raises(SetupError, match="HTTP 200 and no list of models"):
        UpstreamResponder(UpstreamOptions(server.url))
    server.list_status = 503
    UpstreamResponder(UpstreamOptions(server.url, model="any")).close()


def test_serve_ends_at_once_while_the_server_thinks(server: ModelServer, tmp_path: Path) -> None:
    """Ctrl-C waits neither for a batch nor for a single request."""
    server.usual = hold
    command = [sys.executable, "-c", "from dbt_enrich.cli import main; main()", "serve"]
    command += ["--port", "0", "--directory", str(tmp_path), "--api-key", "k"]
    command += ["--responder", "upstream", "--upstream-base-url", server.url]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        served = SimpleNamespace(url=process.stdout.readline().split()[-3], api_key="k")
        resource = Resource(cast("Any", served))
        resource.create(line("a", "batch"))
        body = {"model": "small", "messages": [{"role": "user", "content": "single"}]}

        def ask() -> None:
            with suppress(httpx.HTTPError):
                resource.http.post("/chat/completions", json=body, timeout=PATIENCE)

        single = threading.Thread(target=ask)
        single.start()
        server.wait(lambda: server.flying == 2)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE)
        server.wait(lambda: server.abandoned == 2)
        single.join()


def test_serve_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    """And names its page; for a missing address and for a server that is not there."""
    command = [sys.executable, "-c", "from dbt_enrich.cli import main; main()", "serve"]
    command += ["--port", "0", "--directory", str(tmp_path), "--responder", "upstream"]
    for more, text in (([], "--upstream-base-url"), (["--upstream-base-url", NOWHERE], NOWHERE)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        sentence, page = done.stderr.strip().splitlines()
        assert sentence.startswith("Error: ")
        assert text in sentence
        assert page.startswith("see http")


def test_the_shared_process_says_what_is_wrong(tmp_path: Path) -> None:
    """The sentence comes from the process to the one who started it, without a traceback."""
    spec = ResponderSpec("upstream", upstream=UpstreamOptions(NOWHERE))
    with pytest.raises(BatchServerError, match="no model server answers") as seen:
        join_emulator(tmp_path, spec=spec)
    assert "Traceback" not in str(seen.value)


# The provider `local`


def test_a_warehouse_is_enriched_by_the_server(server: ModelServer, tmp_path: Path) -> None:
    """Rows come back typed, and under the name of the model that the server was asked for."""
    server.content = lambda text: json.dumps({"summary": text.upper()})
    server.actions["two"] = [refuse(400, {"error": "too rude"})]
    server.actions["four"] = [refuse(200, {"output_text": '{"summary": "FOUR"}'})]
    server.actions["five"] = [refuse(200, b"<p>five</p>")]
    values = {
        "provider": "local",
        "responder": "upstream",
        "upstream": {"base_url": server.url},
        "deployments": {"gpt-4o-mini": "small"},
        "state_dir": str(tmp_path / "state"),
        "poll_interval": 0.05,
    }
    config = parse_config(values, duckdb_settings={})
    assert config.answered_by("gpt-4o-mini") == "upstream:small"
    warehouse = Warehouse(config)
    rows = """
        select * from (values (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four'), (5, 'five'))
        as t(id, note)
    """
    warehouse.enrich(rows, max_attempts=1)
    assert warehouse.rows("select id, summary, enrichment_status from enriched order by id") == [
        (1, "ONE", "done"),
        (2, None, "failed"),
        (3, "THREE", "done"),
        (4, "FOUR", "done"),
        (5, None, "failed"),
    ]
    ((message,),) = warehouse.rows("select enrichment_error from enriched where id = 2")
    assert "too rude" in message
    ((kind, raw),) = warehouse.rows("select kind, raw_answer from enriched__errors where id = 5")
    assert (kind, raw) == ("invalid_json", "<p>five</p>")
    assert {body["model"] for body in server.bodies} == {"small"}
    warehouse.enrich(rows, max_attempts=1)
    assert server.asked["one"] == server.asked["five"] == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"responder": "upstream"}, "responder: upstream needs to know the model server"),
        ({"upstream": {"base_url": NOWHERE}}, "but responder is llama"),
        ({"responder": "upstream", "upstream": {"model": "m"}}, "upstream.base_url"),
        ({"responder": "upstream", "upstream": {"base_url": NOWHERE, "api_key": "k"}}, "api_key"),
    ],
)
def test_a_profile_that_is_not_whole_is_refused(values: dict[str, Any], said: str) -> None:
    """Server and responder belong together, and a key stays out of the profile."""
    with pytest.raises(ConfigurationError, match=said):
        parse_config({"provider": "local", **values}, duckdb_settings={})


def test_a_deployment_that_the_server_has_not_is_found_before_anything_is_sent(
    server: ModelServer, tmp_path: Path
) -> None:
    """Where requests name the model themselves, the check names those that there are."""
    settings = LocalConfig(
        state_dir=tmp_path, responder="upstream", upstream=UpstreamOptions(server.url)
    )
    service = create_service(settings)
    try:
        service.check("small")
        with pytest.raises(ConfigurationError, match="no model 'gpt'; it has large, small"):
            service.check("gpt")
    finally:
        service.close()
