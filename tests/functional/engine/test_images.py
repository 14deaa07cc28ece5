"""Pictures: what is sent, what identifies them, and that a broken one costs nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.config import PluginConfig, parse_config
from dbt_enrich.errors import CapError, ConfigurationError, InputError
from dbt_enrich.task.enrichment_task import EnrichmentTask, image_row_key
from dbt_enrich.task.schema import OutputColumn
from support.pictures import (
    ANIMATED_GIF,
    BLUE,
    GIF,
    GREEN,
    JPEG,
    RED,
    WEBP,
    data_address,
    png,
    shown,
)
from support.warehouse import Warehouse, config_for

CAPTION = OutputColumn(name="caption", data_type="varchar")


def image_task(**changes: Any) -> EnrichmentTask:
    """A task with one text output over the pictures of the column `picture`."""
    values: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "user": "What is this?",
        "images": ["picture"],
        "outputs": (CAPTION,),
    }
    return EnrichmentTask(**{**values, **changes})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A directory for pictures, from which paths count."""
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.fixture
def config(emulator: RunningEmulator, tmp_path: Path, pictures: Path) -> PluginConfig:
    """Of an Azure resource that is the emulator."""
    return config_for(emulator.url, emulator.api_key, tmp_path / "state", image_dir=str(pictures))


@pytest.fixture
def warehouse(config: PluginConfig) -> Warehouse:
    """A warehouse for it."""
    return Warehouse(config)


def rows_of(*values: str) -> str:
    """A SELECT of the columns id and picture, of SQL expressions."""
    return " union all ".join(f"select {i} as id, {v} as picture" for i, v in enumerate(values))


def blob(data: bytes) -> str:
    """A picture as an SQL literal."""
    return f"from_hex('{data.hex()}')"


def captions(warehouse: Warehouse, table: str = "enriched") -> list[Any]:
    """The answers, in order."""
    return [c for (c,) in warehouse.rows(f"select caption from {table} order by id")]


def paid(emulator: RunningEmulator) -> dict[str, int]:
    """How often each request was answered, by request_key."""
    return dict(emulator.account()["request_keys"])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(RED, 12, 5), "image/png 12x5"),
        (JPEG, "image/jpeg 6x4"),
        (WEBP, "image/webp 6x4"),
        (GIF, "image/gif 6x4"),
    ],
    ids=["png", "jpeg", "webp", "gif"],
)
def test_every_way_sends_the_same_picture(
    data: bytes, kind: str, warehouse: Warehouse, emulator: RunningEmulator, pictures: Path
) -> None:
    """A file, whatever its name says, a blob and a `data:` address are one request."""
    (pictures / "shop").mkdir()
    (pictures / "shop" / "it's [1].bin").write_bytes(data)
    task = image_task()
    warehouse.enrich(rows_of("'shop/it''s [1].bin'"), task, table="of_files")
    warehouse.enrich(rows_of(blob(data)), task, table="of_blobs")
    address = data_address(data, "image/whatever")
    warehouse.enrich(rows_of(f"'{address}'"), task, table="of_data")
    warehouse.enrich(rows_of(f"[{blob(data)}, null]"), task, table="of_lists")
    expected = [f"caption: {kind} {shown(data)}\nWhat is this?"]
    for table in ("of_files", "of_blobs", "of_data", "of_lists"):
        assert captions(warehouse, table) == expected
    assert list(paid(emulator).values()) == [1]


def test_the_key_is_of_the_bytes_or_the_address(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """As `image_row_key` makes it; an address is not looked behind."""
    import hashlib

    data, url = png(), "https://example.org/a.png"
    warehouse.enrich(rows_of(f"[' {url} ', '{data_address(data)}']"), image_task())
    identities = [hashlib.sha256(b"url:" + url.encode()), hashlib.sha256(data)]
    key = image_row_key(
        image_task().task_key("gpt-4o-mini"),
        "What is this?",
        [identity.hexdigest() for identity in identities],
    )
    assert list(paid(emulator)) == [key]
    assert captions(warehouse) == [f"caption: {url}\nimage/png 8x8 {shown(data)}\nWhat is this?"]


def test_moved_and_renamed_pictures_are_not_asked_again(
    warehouse: Warehouse, emulator: RunningEmulator, pictures: Path
) -> None:
    """Nor is a renamed column, or one that becomes optional; a changed picture is."""
    for number, colour in enumerate((RED, GREEN, BLUE)):
        (pictures / f"{number}.png").write_bytes(png(colour))
    select = "select i as id, i || '.png' as picture from range(3) as numbers(i)"
    warehouse.enrich(select, image_task())
    (pictures / "moved").mkdir()
    for number in range(3):
        shutil.move(pictures / f"{number}.png", pictures / "moved" / f"p{number}")
    moved = "select i as id, 'moved/p' || i as photo from range(3) as numbers(i)"
    warehouse.enrich(moved, image_task(images=["photo"]))
    warehouse.enrich(moved, image_task(images=["photo"], optional=["photo"]))
    assert len(paid(emulator)) == 3
    (pictures / "moved" / "p1").write_bytes(png(GREEN, 9, 9))
    warehouse.enrich(moved, image_task(images=["photo"]))
    assert len(paid(emulator)) == 4
    assert set(paid(emulator).values()) == {1}


@pytest.mark.parametrize("change", [{"image_detail": "low"}, {"image_max_pixels": 16}])
def test_what_changes_what_the_model_sees_asks_again(
    change: dict[str, Any], warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """And goes into the request."""
    pytest.importorskip("PIL")
    data = png(BLUE, 12, 6)
    warehouse.enrich(rows_of(blob(data)), image_task())
    warehouse.enrich(rows_of(blob(data)), image_task(**change))
    assert len(paid(emulator)) == 2
    if "image_max_pixels" in change:
        assert captions(warehouse)[0].startswith("caption: image/png 5x2 sha256:")


def test_what_is_broken_is_skipped_and_the_rest_goes_on(
    warehouse: Warehouse, emulator: RunningEmulator, pictures: Path
) -> None:
    """Each with its reason, before anything is sent; nothing of it is paid for."""
    (pictures / "good.png").write_bytes(png())
    (pictures / "cut.png").write_bytes(png()[:-5])
    (pictures / "page.png").write_bytes(b"<!DOCTYPE html>")
    (pictures / "large.jpg").write_bytes(JPEG[:2] + bytes(20_000_000))
    (pictures / "folder").mkdir()
    (pictures.parent / "secret.png").write_bytes(png())
    (pictures / "link.png").symlink_to(pictures.parent / "secret.png")
    values = [
        "'good.png'", "'gone.png'", "'cut.png'", "'page.png'", "'large.jpg'", "'folder'",
        "'../secret.png'", "'link.png'", "'s3://bucket/a.png'",
        f"'{data_address(JPEG)[22:] * 3_000}'", "null", "' '",
        "'data:image/png;base64,%%%'", f"'{data_address(ANIMATED_GIF)}'",
    ]  # fmt: skip
    warehouse.enrich(rows_of(*values), image_task())
    errors = warehouse.rows("select enrichment_status, enrichment_error from enriched order by id")
    outside = f"is outside {pictures}, which image_dir sets"
    begin = data_address(JPEG)[22:122]
    reasons = [
        "cut.png is cut off",
        "page.png is an HTML page, and no PNG, JPEG, WebP or GIF",
        "large.jpg has 20,000,002 bytes, more than the 20,000,000 of a picture",
        "folder is no file",
        f"../secret.png {outside}",
        f"link.png {outside}",
        "s3://bucket/a.png is neither an http(s) address nor a path",
        f"{begin}… is base64 without data:image/png;base64, before it, or its like",
    ]
    of_data = [
        "the data: address cannot be read: it has no comma or no base64",
        "the data: address is an animated GIF of 2 pictures, which no service takes",
    ]
    assert errors == [
        ("done", None),
        ("skipped", "missing_input: picture: gone.png does not exist"),
        *(("skipped", f"unusable_image: picture: {reason}") for reason in reasons),
        ("skipped", "missing_input: picture"),
        ("skipped", "missing_input: picture"),
        *(("skipped", f"unusable_image: picture: {reason}") for reason in of_data),
    ]
    assert len(paid(emulator)) == 1
    assert any("11 rows are skipped for pictures" in line for line in warehouse.log)


def test_too_many_pictures_are_skipped(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """As many as the service takes are sent."""
    one = blob(png())
    warehouse.enrich(
        f"select n as id, list_transform(range(n), lambda i: {one}) as picture "
        "from (values (50), (51)) as rows(n)",
        image_task(),
    )
    assert warehouse.rows("select id, enrichment_error from enriched order by id") == [
        (50, None),
        (51, "unusable_image: 51 pictures, more than the 50 of a request"),
    ]
    assert len(paid(emulator)) == 1


def test_an_optional_picture_may_be_missing(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The row is asked by its text alone; without both it is skipped."""
    task = image_task(user="{note}", images=["picture", "detail"], optional=["picture", "detail"])
    warehouse.enrich(
        f"select 0 as id, 'a' as note, null::blob as picture, {blob(png())} as detail "
        "union all select 1, 'b', null, null union all select 2, null, null, null",
        task,
    )
    assert captions(warehouse) == [
        f"caption: image/png 8x8 {shown(png())}\na", "caption: b", None,
    ]  # fmt: skip
    assert warehouse.rows("select enrichment_error from enriched where id = 2") == [
        ("missing_input: note",)
    ]


def test_where_no_file_is_there_the_directory_is_wrong(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Not every row is skipped: answers that are there would vanish from the table."""
    select = "select i as id, i || '.png' as picture from range(9) as numbers(i)"
    with pytest.raises(InputError, match="none of the 9 files.*image_dir"):
        warehouse.enrich(select, image_task())
    assert paid(emulator) == {}


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_failed_answer_is_repaired_with_its_picture(
    endpoint: str, warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The second attempt shows the picture once more, with the answer and what is wrong with it."""
    emulator.rules([{"match": "sha256", "times": 1, "fault": "wrong_shape"}])
    data = png(GREEN)
    warehouse.enrich(rows_of(blob(data)), image_task(endpoint=endpoint, image_detail="high"))
    assert list(paid(emulator).values()) == [2]
    asked = [body.get("messages") or body["input"] for body in bodies(emulator)]
    (messages,) = [messages for messages in asked if len(messages) > 1]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    url = data_address(data)
    part = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
    if endpoint == "responses":
        part = {"type": "input_image", "image_url": url, "detail": "high"}
    assert messages[0]["content"][1] == part


def bodies(emulator: RunningEmulator) -> list[dict[str, Any]]:
    """The bodies of all requests that were uploaded."""
    files = (emulator.jobs.storage.directory / "files").iterdir()
    return [
        json.loads(line)["body"]
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if '"custom_id"' in line and '"body":{"model"' in line
    ]


def test_a_lost_state_asks_nothing_again(
    warehouse: Warehouse, emulator: RunningEmulator, tmp_path: Path, config: PluginConfig
) -> None:
    """Batches in flight are adopted by their input files, however long their lines are."""
    select = " union all ".join(
        f"select {i} as id, {blob(png(RED, 8, 8 + i, pad=90_000))} as picture" for i in range(24)
    )
    emulator.pause()
    warehouse.enrich(select, image_task(), mode="submit")
    shutil.rmtree(tmp_path / "state")
    emulator.resume()
    warehouse.restart()
    warehouse.enrich(select, image_task())
    assert warehouse.statuses() == {"done": 24}
    assert set(paid(emulator).values()) == {1}


def test_files_are_cut_by_the_bytes_of_pictures(
    warehouse: Warehouse, emulator: RunningEmulator, config: PluginConfig
) -> None:
    """None is larger than the limit, and all rows are asked."""
    warehouse.restart(config.model_copy(update={"max_bytes_per_file": 500_000}))
    warehouse.enrich(
        " union all ".join(
            f"select {i} as id, {blob(png(BLUE, 8, 8 + i, pad=60_000))} as picture"
            for i in range(12)
        ),
        image_task(),
    )
    sizes = [
        file.stat().st_size
        for file in (emulator.jobs.storage.directory / "files").iterdir()
        if b'"url"' in file.read_bytes()[:200]
    ]
    assert len(sizes) == 3
    assert max(sizes) <= 500_000
    assert warehouse.statuses() == {"done": 12}


def test_plan_counts_pictures_and_says_what_it_assumes(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Their tokens by the family's rule; addresses by an assumption. Nothing is sent."""
    select = rows_of(f"'{data_address(png(RED, 1024, 1024))}'", "'https://example.org/a.png'")
    warehouse.enrich(select, image_task(), mode="plan")
    (line,) = [line for line in warehouse.log if "to send" in line]
    counted = int(line.split("about ")[1].split(" input")[0].replace(",", ""))
    assert 0 < counted - 2 * (2833 + 4 * 5667) < 300
    assert "pictures at addresses are counted as 1024 x 1024 pixels" in line
    assert paid(emulator) == {}


def test_caps_count_pictures(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """What the text alone would allow is refused before it is sent."""
    with pytest.raises(CapError, match="max_tokens"):
        warehouse.enrich(rows_of(blob(png())), image_task(), max_tokens=5_000)
    assert paid(emulator) == {}


def test_preview_shows_the_picture(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """To the model; to the user it says what was shown."""
    warehouse.enrich(rows_of(blob(png())), image_task(), mode="preview", preview_model="p")
    text = "\n".join(warehouse.log)
    assert "[image/png 8x8]" in text
    assert shown(png()) in text


def test_small_rounds_send_pictures_too(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """What is not worth a batch is asked the same."""
    warehouse.enrich(rows_of(blob(png())), image_task(), sync_below=5, preview_model="p")
    assert captions(warehouse) == [f"caption: image/png 8x8 {shown(png())}\nWhat is this?"]


def test_answers_to_an_earlier_prompt_stay_where_the_picture_does(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """`on_task_change: new_rows`: of unchanged rows nothing is asked."""
    warehouse.enrich(rows_of(blob(png(RED)), blob(png(BLUE))), image_task())
    warehouse.enrich(
        rows_of(blob(png(RED)), blob(png(GREEN))),
        image_task(system="Be short."),
        on_task_change="new_rows",
    )
    assert len(paid(emulator)) == 3
    assert warehouse.statuses() == {"done": 2}


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"images": ["pictur"]}, {}, "names the column 'pictur'.*did you mean 'picture'"),
        ({}, {"rows_per_request": 2}, "rows_per_request packs rows, but a row with images"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    changes: dict[str, Any], options: dict[str, Any], said: str, warehouse: Warehouse
) -> None:
    """With the field and the fix."""
    with pytest.raises(ConfigurationError, match=said):
        warehouse.enrich(rows_of(blob(png())), image_task(**changes), **options)


def test_a_type_without_pictures_is_refused(warehouse: Warehouse) -> None:
    """It names what would do."""
    with pytest.raises(InputError, match="has the type INTEGER, which holds no pictures"):
        warehouse.enrich(rows_of("1"), image_task())


def test_the_local_model_reads_no_pictures(tmp_path: Path) -> None:
    """Which is said before it is loaded."""
    values = {"provider": "local", "state_dir": str(tmp_path)}
    warehouse = Warehouse(parse_config(values, duckdb_settings={}))
    with pytest.raises(ConfigurationError, match="reads text only.*responder: upstream"):
        warehouse.enrich(rows_of(blob(png())), image_task())


def test_a_table_of_blobs_is_published_as_it_is(warehouse: Warehouse) -> None:
    """The SELECT's own column stays bytes."""
    warehouse.enrich(rows_of(blob(png())), image_task())
    (row,) = warehouse.rows("select typeof(picture), picture from enriched")
    assert row == ("BLOB", png())
    assert isinstance(warehouse.connection, duckdb.DuckDBPyConnection)
