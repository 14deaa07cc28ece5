"""`dbt-enrich plan`: what a run would send and cost, before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import click

from dbt_enrich.cli.dbt import DbtOptions, reports_of_dbt
from dbt_enrich.cli.project import Location, project_options
from dbt_enrich.cli.selection import dbt_selection
from dbt_enrich.cli.tables import markdown_table, plain_table
from dbt_enrich.cost.money import money_text

_HEADERS = (
    "model", "rows", "answered", "new", "changed", "equal", "in flight", "requests", "files", "MB",
    "input tokens", "output tokens", "cost", "saves",
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
@project_options
def plan(
    select: tuple[str, ...],
    form: str,
    location: Location,
) -> None:
    """Say what a run would send and cost. Sends nothing.

    Reads the tables that the models select from as they are: run those first.
    """
    options = DbtOptions(location, select)
    plans = [
        report["plan"]
        for report in reports_of_dbt(options, enrichment_mode="plan")
        if "plan" in report
    ]
    if form == "json":
        click.echo(json.dumps(plans, indent=2, ensure_ascii=False))
        return
    if not plans:
        click.echo("no enrichment is selected; a Python model is planned by its own mode")
        return
    table = markdown_table if form == "markdown" else plain_table
    click.echo(table(_HEADERS, [_row(plan) for plan in plans]))
    click.echo()
    bullet = "- " if form == "markdown" else ""
    for sentence in (sentence for plan in plans for sentence in sentences(plan)):
        click.echo(bullet + sentence)


def sentences(plan: dict[str, Any]) -> list[str]:
    """Say of a plan what the table cannot."""
    name, estimate = plan["name"], plan["estimate"]
    found = []
    if plan["task_changes"] and (plan["changed"] or plan["new"]):
        changes = " and ".join(plan["task_changes"])
        found.append(f"{name}: the change of {changes} {_again(plan)}")
    if plan["price_problem"] and plan["requests"]:
        found.append(f"{name}: {plan['price_problem']}")
    if estimate["prompt_margin"]:
        found.append(
            f"{name}: input tokens from a sample of {estimate['sampled']:,} rows, "
            f"± {estimate['prompt_margin']:,} at 95 %"
        )
    if estimate["synchronous"]:
        found.append(
            f"{name}: {estimate['synchronous']:,} requests go through the synchronous endpoint, at "
            "its price (sync_below)"
        )
    if plan["requests"]:
        found.append(f"{name}: output tokens from the {estimate['completion_source']}")
    limit = plan["max_enqueued_tokens"]
    if limit and not estimate["synchronous"]:
        rounds = plan["rounds"]
        fits = "fits into" if rounds <= 1 else f"takes {rounds:,} rounds of"
        found.append(
            f"{name}: about {plan['enqueued_tokens']:,} enqueued tokens, which {fits} the "
            f"{limit:,} of the {_said_of(plan['deployments'])}"
        )
    return found


def _again(plan: dict[str, Any]) -> str:
    """Say how many rows a changed task asks again, and for how much."""
    # Where there is no table yet, all rows are new to it.
    rows = plan["changed"] or plan["new"]
    cost, sent = plan["estimate"]["cost"], plan["changed"] + plan["new"]
    if cost is None or not sent:
        return f"asks {rows:,} rows again"
    return f"asks {rows:,} rows again, about {money_text(cost * rows / sent, plan['currency'])}"


def _said_of(deployments: list[str]) -> str:
    if len(deployments) == 1:
        return f"deployment {deployments[0]}"
    return f"deployments {', '.join(deployments[:-1])} and {deployments[-1]} together"


def _row(plan: dict[str, Any]) -> list[object]:
    estimate = plan["estimate"]
    currency = plan["currency"]

    return [
        plan["name"],
        plan["staged"],
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
