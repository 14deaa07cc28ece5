"""The worked projects beside the movies, built by a real dbt: seeds, enrichments, marts and tests.

All of them are built in the same runs: sent, then collected, then run to the end.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_server.server import RunningEmulator, running_emulator
from support.dbt_project import REPOSITORY, DbtProject

LONGEST = 2_000
PROJECTS = ["tag:tickets", "tag:feedback", "tag:pictures", "tag:articles", "+tag:notebook"]
SHAPES = ("circle", "ring", "square", "diamond", "triangle", "cross", "stripes")
PICTURES = REPOSITORY / "dbt_project" / "pictures"
FILMS = """movie_id,title,released_year,runtime_minutes,director,genres,overview
a,A,1990,90,D,drama,A film about a ship.
b,B,1991,91,D,drama,A film about a bird.
"""


def seen(path: Path) -> list[dict[str, Any]]:
    """Return rules that answer what a picture shows, where its bytes or its address are shown."""
    shape, colour = path.stem.split("-")
    answer = {
        "caption": f"A {shape} in {colour}.",
        "tags": [shape.upper(), colour, colour],
        "main_colour": colour,
        "shape": shape,
    }
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return [
        {"match": part, "answer": answer} for part in (f"sha256:{digest[:16]}", f"/{path.name}")
    ]


# The first rule that fits a message answers it; without one the answer only fits the columns.
RULES: list[dict[str, Any]] = [
    *(rule for shape in SHAPES for path in PICTURES.glob(f"{shape}-*.png") for rule in seen(path)),
    # A film, in JSON mode, where no schema says what to answer.
    {"match": "A film about", "answer": {"categories": ["Drama", "sea"], "summary": "A film."}},
    # Two comments in English, as the second enrichment reads them; the others say nothing.
    {
        "match": "english: Very bright",
        "answer": {
            "aspects": [
                {"aspect": "quality", "sentiment": "positive", "quote": "very  “bright”"},
                {"aspect": "battery", "sentiment": "negative", "quote": "the battery lasts"},
            ]
        },
    },
    {
        "match": "english: Keeps tea hot",
        "answer": {
            "aspects": [{"aspect": "price", "sentiment": "positive", "quote": "A bargain!"}]
        },
    },
    {"match": "english: ", "answer": {"aspects": []}},
    # Summaries of two articles that share most of their words, so that their vectors lie near.
    *(
        {
            "match": title,
            "answer": {
                "headline": f"On {what}",
                "sentence": f"It is about {what}.",
                "paragraph": f"A probe far from the Sun sends {what} to the Earth.",
            },
        }
        for title, what in (("Voyager 1, still", "signals"), ("Rocks from the far", "rocks"))
    ),
    {
        "match": "Ticket: Charged twice\n",
        "answer": {
            "category": "billing",
            "urgency": "high",
            "product_area": "billing",
            "suggested_answer": "It will be refunded.",
            "answered_from": ["H-01"],
        },
    },
    {
        "match": "Help centre:",
        "answer": {
            "category": "other",
            "urgency": "normal",
            "product_area": "other",
            "suggested_answer": None,
            "answered_from": [],
        },
    },
]


@dataclass
class Built:
    """The projects, and what was said and counted on the way.

    Attributes:
        project: They.
        emulator: Who answers.
        plan: What the chain of feedback was planned as while its first half was in flight.
        log: What dbt printed in the last run.
        outputs_before: Tickets that were answered before those of November came in.
        sent_before: Requests that were paid for before that.
    """

    project: DbtProject
    emulator: RunningEmulator
    plan: dict[str, dict[str, Any]]
    log: str
    outputs_before: dict[str, Any]
    sent_before: int

    def values(self, sql: str) -> list[Any]:
        """Return the first column of a query."""
        return [value for value, *_ in self.project.rows(sql)]


def copy_of_the_projects(directory: Path, emulator: RunningEmulator) -> DbtProject:
    """Return the projects as a clone of the repository has them, which ask the emulator."""
    # OpenAI's batches take embeddings, which Azure's do not.
    openai = {"provider": "openai", "base_url": f"{emulator.url}/v1", "api_key": emulator.api_key}
    project = DbtProject(directory, {**openai, "poll_interval": 0.05, "adoption_grace": 0.0})
    for part in ("models", "macros", "tests", "pictures", "selectors.yml"):
        path = REPOSITORY / "dbt_project" / part
        copied = project.directory / part
        shutil.copytree(path, copied) if path.is_dir() else shutil.copy(path, copied)
    shutil.copytree(REPOSITORY / "seeds", directory / "seeds")
    settings = yaml.safe_load((REPOSITORY / "dbt_project" / "dbt_project.yml").read_text())
    project.write("dbt_project.yml", {**settings, "profile": "notes"})
    return project


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The projects, sent while November's tickets are still to come, collected, and run."""
    directory = tmp_path_factory.mktemp("projects")
    films = directory / "films.csv"
    films.write_text(FILMS)
    with running_emulator(directory / "emulator") as emulator:
        emulator.rules(RULES)
        project = copy_of_the_projects(directory, emulator)

        def build(*more: str, **variables: str) -> str:
            named = json.dumps({"movies_csv": str(films), **variables})
            return project.dbt("build", "--vars", named, *more, "--select", *PROJECTS)

        untested = ("--exclude-resource-type", "test")
        october = {"tickets_until": "2026-11-01"}
        emulator.pause()
        build(*untested, enrichment_mode="submit", **october)
        listed = project.command("plan", "--json", "--select", "tag:feedback")
        plan = {planned["name"]: planned for planned in json.loads(listed)}
        emulator.resume()
        emulator.settle()
        build(*untested, enrichment_mode="collect", **october)
        outputs = "select ticket_id, enriched_at from tickets_enriched where enriched_at notnull"
        before = dict(project.rows(outputs))
        sent = len(emulator.account()["paid"])
        log = build()
        yield Built(project, emulator, plan, log, before, sent)


def test_nothing_is_paid_for_twice(built: Built) -> None:
    """In any of the projects, in any of the runs."""
    assert set(built.emulator.account()["paid"].values()) == {1}


def test_new_tickets_are_merged_in(built: Built) -> None:
    """Those of before stay as they were answered, and each counts in the week it came in."""
    outputs = dict(built.project.rows("select ticket_id, enriched_at from tickets_enriched"))
    assert len(built.outputs_before) > 40
    assert built.outputs_before.items() <= outputs.items()
    assert len(outputs) == built.values("select count(*) from tickets")[0]
    skipped = "select ticket_id from tickets_enriched where enrichment_status = 'skipped'"
    assert built.values(f"{skipped} order by all") == ["T-1012", "T-1049"]
    assert built.values("select sum(tickets) from tickets_by_week") == [len(outputs)]
    assert built.project.rows(
        "select product_area, tickets, high, urgent_share, tickets_of_week from tickets_by_week "
        "where week = '2026-09-07' and product_area = 'billing'"
    ) == [("billing", 1, 1, 1.0, 9)]


def test_a_ticket_goes_out_with_the_help_that_fits_it(built: Built) -> None:
    """Without markup and without the mail that it answers; equal ones are one request."""
    texts = dict(built.project.rows("select ticket_id, body from stg_tickets"))
    assert texts["T-1018"] == "Thanks, that worked!"
    assert texts["T-1026"].startswith(
        "Hi team,\nour webhook for note.updated stopped on Saturday &"
    )
    assert "iPhone" not in texts["T-1026"]
    assert len(texts["T-1047"]) == LONGEST
    offered = dict(built.project.rows("select ticket_id, offered_snippets from tickets_enriched"))
    assert offered["T-1001"][0] == "H-01"
    assert offered["T-1014"] is None
    keys = "select count(*), count(distinct enrichment_key) from tickets_enriched where subject = "
    assert built.project.rows(f"{keys} 'export'") == [(2, 1)]
    answers = "select ticket_id, answered_from from tickets_enriched where category = 'billing'"
    assert built.project.rows(answers) == [("T-1001", ["H-01"])]


def test_aspects_are_found_in_translations(built: Built) -> None:
    """The second enrichment waits for the first, then reads what that wrote."""
    waiting = built.plan["feedback_enriched"]
    assert waiting["waits_for"] == ["feedback_translated"]
    statuses = built.project.rows(
        "select enrichment_status, count(*) from feedback_enriched group by all order by all"
    )
    assert statuses == [("done", 68), ("skipped", 2)]
    quoted = "select aspect, is_quoted from feedback_aspects where feedback_id = "
    assert built.project.rows(f"{quoted} 'F-001' order by all") == [
        ("battery", True),
        ("quality", True),
    ]
    assert built.project.rows(f"{quoted} 'F-009'") == [("price", False)]


def test_the_second_enrichment_is_previewed_once_it_has_texts(built: Built) -> None:
    """From the translations that are there."""
    shown = built.project.command("preview", "feedback_enriched", "-n", "1")
    assert "asked:    english: Very bright" in shown
    assert '"aspects"' in shown


def test_words_that_the_comment_does_not_have_are_named_and_not_counted(built: Built) -> None:
    """The data test warns of a few, and the mart leaves them out."""
    assert "WARN 1 quotes_are_in_the_text" in built.log
    assert built.project.rows(
        "select comments, mentions, positive, negative, net_sentiment, most_criticised "
        "from sentiment_by_product_and_month "
        "where product = 'Kestrel headlamp' and month = '2026-06-01'"
    ) == [(3, 2, 1, 1, 0.0, "battery")]
    assert built.values(
        "select mentions from sentiment_by_product_and_month "
        "where product = 'Brook bottle' and month = '2026-06-01'"
    ) == [0]


def test_captions_are_of_the_pictures_that_were_shown(built: Built) -> None:
    """Files by their bytes, others by their address; a title that says another thing is found."""
    assert built.project.rows(
        "select product_id, colour_of_title, colour_of_picture, caption "
        "from titles_against_pictures where finding = 'another colour' order by all"
    ) == [
        ("P-014", "blue", "pink", "A diamond in pink."),
        ("P-026", "green", "red", "A circle in red."),
        ("P-032", "white", "grey", "A square in grey."),
        ("P-033", "black", "brown", "A square in brown."),
        ("P-044", "green", "blue", "A stripes in blue."),
    ]
    done = "select product_id, tags from products_enriched where enrichment_status = 'done'"
    tags = dict(built.project.rows(done))
    assert len(tags) == built.values("select count(*) from products")[0] - 3
    assert tags["P-001"] == ["circle", "red"]
    # The address of a picture, and a product without a title.
    assert tags["P-040"] == ["ring", "orange"]
    assert tags["P-031"] == ["diamond", "green"]


def test_a_product_without_a_usable_picture_is_named_and_never_sent(built: Built) -> None:
    """Be it missing, broken or not there at all."""
    unusable = built.project.rows(
        "select product_id, split_part(enrichment_error, ':', 1) from titles_against_pictures "
        "where finding = 'no usable picture' order by all"
    )
    assert unusable == [
        ("P-037", "missing_input"),
        ("P-038", "unusable_image"),
        ("P-039", "missing_input"),
    ]


def test_articles_are_near_those_with_a_like_summary(built: Built) -> None:
    """By vectors of their summaries; an article that is there twice is one."""
    statuses = "select enrichment_status, count(*) from articles_embedded group by all order by all"
    assert built.project.rows(statuses) == [("done", 39), ("skipped", 1)]
    assert built.values("select distinct typeof(embedding) from articles_embedded") == [
        "FLOAT[384]"
    ]
    related = "select article_id, related_id from related_articles where place = 1"
    nearest = dict(built.project.rows(related))
    assert len(nearest) == 38
    assert (nearest["A-01"], nearest["A-35"]) == ("A-35", "A-01")
    assert built.values("select count(*) from related_articles") == [3 * 38]


def test_summaries_are_translated(built: Built) -> None:
    """What the first enrichment wrote is what the second one reads."""
    translated = "select headline_de, summary_es from articles_translated where article_id = 'A-01'"
    ((german, spanish),) = built.project.rows(translated)
    assert german == "headline_de: Headline: On signals\nSummary: It is about signals."
    assert spanish.startswith("summary_es: ")


def test_films_are_asked_as_the_notebook_asks_them(built: Built) -> None:
    """In JSON mode, with the form of the answer in the system text alone."""
    films = "select title, categories, summary, enrichment_status from movies_enriched_as_notebook"
    assert built.project.rows(f"{films} order by title") == [
        ("A", ["Drama", "sea"], "A film.", "done"),
        ("B", ["Drama", "sea"], "A film.", "done"),
    ]


def test_a_bare_build_is_of_the_movies(built: Built) -> None:
    """As `make demo` builds them: the other projects go by their tags."""
    listed = built.project.dbt("ls", "--resource-type", "model", "--quiet").split()
    names = {line.rsplit(".", 1)[-1] for line in listed}
    assert {"stg_movies", "movies_enriched", "category_stats"} <= names
    assert not names & {"movies_enriched_as_notebook", "tickets_enriched", "products_enriched"}
