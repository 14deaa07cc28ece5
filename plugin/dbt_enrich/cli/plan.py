"""`dbt-enrich plan`: what a run would send and cost, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from dbt_enrich.cli.dbt import DbtOptions
from dbt_enrich.cli.doors import door_of
from dbt_enrich.cli.exits import ERROR
from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.selection import dbt_selection
from dbt_enrich.cli.tables import markdown_table, plain_table
from dbt_enrich.cost.estimate import NO_OUTPUT, OF_SCHEMA, WITHOUT_REASONING
from dbt_enrich.cost.money import money_text
from dbt_enrich.task.options import Mode
from dbt_enrich.wording import counted

_HEADERS = (
    "model", "rows", "skipped", "answered", "new", "changed", "equal", "in flight", "requests",
    "files", "MB", "input tokens", "output tokens", "cost", "saves",
)  # fmt: skip


@click.command()
@dbt_selection
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="For people, for a pull request's comment, for machines.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option(
    "--full-refresh", "-f", is_flag=True, help="Plan for a run that rebuilds merged tables."
)
@project_options
def plan(
    select: tuple[str, ...],
    form: str,
    full_refresh: bool,
    location: Location,
) -> None:
    """Say what a run would send and cost. Sends nothing.

    Reads the tables that the models select from as they are: run those first. Exit code 1: an
    error, or a run would refuse (on_task_change).
    """
    options = DbtOptions(location, select, full_refresh=full_refresh)
    reports = door_of(load_project(location), options).reports(Mode.PLAN)
    plans = [report["plan"] for report in reports if "plan" in report]
    unplanned = [report["unplanned"] for report in reports if "unplanned" in report]
    if form == "json":
        for found in plans:
            found["waits_for"] = waits_for(found, plans, unplanned)
        document = [
            *plans,
            *({**other, "unplanned": True, "waits_for": other["missing"]} for other in unplanned),
        ]
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif plans or unplanned:
        _show(plans, unplanned, form)
    else:
        click.echo(
            "no enrichment is selected; to plan a Python model, give it mode: plan and run it"
        )
    if any(plan["refusal"] for plan in plans):
        raise SystemExit(ERROR)


def _show(plans: list[dict[str, Any]], unplanned: list[dict[str, Any]], form: str) -> None:
    if plans:
        table = markdown_table if form == "markdown" else plain_table
        click.echo(table(_HEADERS, [_row(plan) for plan in plans]))
        click.echo()
    bullet = "- " if form == "markdown" else ""
    text = [sentence for plan in plans for sentence in sentences(plan)]
    for sentence in [*text, *chain_sentences(plans, unplanned)]:
        click.echo(bullet + sentence)


def waits_for(
    plan: dict[str, Any], plans: list[dict[str, Any]], unplanned: list[dict[str, Any]]
) -> list[str]:
    """Return the enrichments, by name, whose answers are still to come before a model's texts are.

    Args:
        plan: The model's plan.
        plans: The plans of all models that were counted.
        unplanned: Those that could not be.
    """
    sending = {p["enrichment"]: p["name"] for p in plans if p["requests"] or p["in_flight"]}
    sending |= {other["enrichment"]: other["name"] for other in unplanned}
    named = {p["enrichment"]: p["name"] for p in plans if waits_before(p, sending)}
    known = {**named, **sending}
    found = [known[other] for other in plan["upstream"] if other in known]
    return list(dict.fromkeys([*plan["waits_for"], *found]))


def waits_before(plan: dict[str, Any], sending: Mapping[str, str]) -> bool:
    """Whether a model's own texts are still to come, so that it may send later."""
    return bool(plan["waits_for"]) or any(other in sending for other in plan["upstream"])


def chain_sentences(plans: list[dict[str, Any]], unplanned: list[dict[str, Any]]) -> list[str]:
    """Say which models cannot be counted yet, and that the sum is then not the whole."""
    found = []
    for plan in plans:
        names = waits_for(plan, plans, unplanned)
        if names:
            found.append(
                f"{plan['name']}: cannot be counted yet: it reads {' and '.join(names)}, whose "
                "answers are still to come; only what is there now is counted"
            )
    for other in unplanned:
        missing = " and ".join(other["missing"])
        found.append(f"{other['name']}: cannot be counted yet: it reads {missing}, not built yet")
    if found:
        found.append("the sum of what is counted here is not the whole")
    return found


def sentences(plan: dict[str, Any]) -> list[str]:
    """Say of a plan what the table cannot."""
    from dbt_enrich.pipeline.planning.plan import notes

    name = plan["name"]
    found = []
    if plan["refusal"]:
        found.append(f"a run would refuse: {plan['refusal']}")
    if plan["kept"]:
        found.append(
            f"{name}: {plan['kept']:,} of the answered rows keep the answers to previous versions "
            "of the task (on_task_change: new_rows)"
        )
    if plan["owed"]:
        found.append(
            f"{name}: {counted(plan['owed'], 'row waits', 'rows wait')} for the text of "
            f"{' and '.join(plan['waits_for'])}"
        )
    if plan["task_changes"] and (plan["changed"] or plan["new"]):
        changes = " and ".join(plan["task_changes"])
        found.append(f"{name}: the change of {changes} {_again(plan)}")
    if plan["retirement"]:
        found.append(f"{name}: {plan['retirement']}; move to another model before that day")
    found += [f"{name}: {note}" for note in notes(plan)]
    return found + _token_sentences(plan)


def _token_sentences(plan: dict[str, Any]) -> list[str]:
    """Say where the numbers of tokens and their cost are from, and what room they take."""
    name, estimate = plan["name"], plan["estimate"]
    found = []
    if plan["price_problem"] and plan["requests"]:
        found.append(f"{name}: {plan['price_problem']}")
    if estimate["prompt_margin"]:
        found.append(
            f"{name}: input tokens from a sample of {counted(estimate['sampled'], 'row')}, "
            f"± {estimate['prompt_margin']:,} at 95 %"
        )
    if estimate["synchronous"]:
        found.append(
            f"{name}: {counted(estimate['synchronous'], 'request goes', 'requests go')} through "
            "the synchronous endpoint, at its price"
        )
    if plan["requests"] and estimate["completion_source"] != NO_OUTPUT:
        found.append(f"{name}: output tokens from the {_source(plan)}")
    limit = plan["max_enqueued_tokens"]
    if limit and not estimate["synchronous"]:
        rounds = plan["rounds"]
        fits = "fits into" if rounds <= 1 else f"takes {rounds:,} rounds of"
        found.append(
            f"{name}: about {plan['enqueued_tokens']:,} enqueued tokens, which {fits} the "
            f"{limit:,} of the {_deployments_text(plan['deployments'])}"
        )
    return found


def _source(plan: dict[str, Any]) -> str:
    """Say where the number of output tokens is from, and what it leaves out."""
    source = str(plan["estimate"]["completion_source"])
    if source != WITHOUT_REASONING:
        return source
    return (
        f"{OF_SCHEMA}; left out are the tokens in which {plan['model']} may reason first, which "
        "are billed as output and known once some rows are answered (dbt-enrich preview shows a "
        "few)"
    )


def _again(plan: dict[str, Any]) -> str:
    """Say how many rows a changed task asks again, and for how much."""
    # Where there is no table yet, all rows are new to it.
    rows = plan["changed"] or plan["new"]
    cost, sent = plan["estimate"]["cost"], plan["changed"] + plan["new"]
    if cost is None or not sent:
        return f"asks {counted(rows, 'row')} again"
    return (
        f"asks {counted(rows, 'row')} again, about "
        f"{money_text(cost * rows / sent, plan['currency'])}"
    )


def _deployments_text(deployments: list[str]) -> str:
    if len(deployments) == 1:
        return f"deployment {deployments[0]}"
    return f"deployments {', '.join(deployments[:-1])} and {deployments[-1]} together"


def _row(plan: dict[str, Any]) -> list[object]:
    estimate = plan["estimate"]
    currency = plan["currency"]

    return [
        plan["name"],
        plan["staged"],
        plan["skipped"],
        plan["answered"],
        plan["new"],
        plan["changed"],
        plan["equal"],
        plan["in_flight"],
        plan["requests"],
        plan["files"],
        plan["bytes"] / 1e6,
        estimate["prompt_tokens"],
        estimate["completion_tokens"],
        money_text(estimate["cost"], currency),
        money_text(estimate["saved"], currency),
    ]
