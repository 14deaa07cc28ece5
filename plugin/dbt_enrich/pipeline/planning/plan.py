"""Plan: what a run would send, what it costs, and what changed since the answers that are there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dbt_enrich.cost.changes import task_changes
from dbt_enrich.cost.estimate import (
    OF_ANSWERS,
    OF_SCHEMA,
    SAMPLE_SIZE,
    WITHOUT_REASONING,
    Estimate,
    completion_tokens_of_schema,
    estimate,
)
from dbt_enrich.cost.money import money_text
from dbt_enrich.cost.prices import Price
from dbt_enrich.cost.tokens import REASONING_PARAMETERS, count_tokens, may_reason
from dbt_enrich.endpoints.base import row_prompt
from dbt_enrich.endpoints.packs import (
    ANSWER_WRAPPING_TOKENS,
    MESSAGE_WRAPPING_TOKENS,
    pack_prompt,
)
from dbt_enrich.pipeline.export.canary import RECOMMENDED
from dbt_enrich.pipeline.export.claim import size_to_send
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.new_requests import Chosen, NewRequests, Selection, Undone
from dbt_enrich.pipeline.run.token_quota import BYTES_PER_TOKEN
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import identifier, literal
from dbt_enrich.state.former_tasks import former_tasks
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.tables.tasks import Task
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.failures import final_sentence
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.awaited_texts import Upstream, unfinished
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.wording import counted


@dataclass(frozen=True)
class Plan:
    """What a run of one model would do.

    Attributes:
        name: The dbt model's name.
        enrichment: Its unique id.
        model: The logical model that is asked.
        deployments: The deployments that serve it, as one queue.
        version: The task's short hash.
        staged: Rows of the SELECT.
        skipped: Rows without a text to send.
        owed: Rows whose text another enrichment still owes.
        answered: Rows that were answered before.
        kept: Those of them that keep an answer to a previous version of the task.
        new: Rows to send that the enriched table does not hold yet.
        changed: Rows to send that it holds with another text or another task.
        equal: Rows that share a request with another row.
        in_flight: Requests at the service already.
        again: Requests that failed before and are asked again.
        requests: Requests to send.
        files: Input files that they fill; 0 where they are asked synchronously.
        bytes: Bytes of those files.
        estimate: Tokens and cost of the requests.
        currency: What the cost is in.
        price_problem: Why there is no cost, or None.
        retirement: That the provider ends the model within 90 days, or None.
        max_enqueued_tokens: The quota of all its deployments together, or None if one is unknown.
        enqueued_tokens: What the requests would hold of it.
        rounds: How many times the quota is filled, or None if it is unknown.
        task_changes: What changed since the newest task that has answers.
        refusal: Why a run would send nothing and fail, or None.
        upstream: Unique ids of the enrichments that the model reads.
        waits_for: Those of them, by name, that are not built or still owe texts.
        failed_for_good: Rows that failed and are not asked again, by kind of failure.
        canary: How many requests are sent before the others are, or None for all at once.
        recommends_canary: Whether that should be so.
    """

    name: str
    enrichment: str
    model: str
    deployments: tuple[str, ...]
    version: str
    staged: int
    skipped: int
    owed: int
    answered: int
    kept: int
    new: int
    changed: int
    equal: int
    in_flight: int
    again: int
    requests: int
    files: int
    bytes: int
    estimate: Estimate
    currency: str
    price_problem: str | None
    retirement: str | None
    max_enqueued_tokens: int | None
    enqueued_tokens: int
    rounds: int | None
    task_changes: tuple[str, ...]
    refusal: str | None
    upstream: tuple[str, ...]
    waits_for: tuple[str, ...]
    failed_for_good: Mapping[str, int] = field(default_factory=dict)
    canary: int | None = None
    recommends_canary: bool = False

    def document(self) -> dict[str, Any]:
        """Return it for machines."""
        return asdict(self)

    def short(self) -> str:
        """Say it in a few words."""
        said = f"requests to send: {self.requests:,}"
        if self.estimate.cost is None:
            return said
        return f"{said}, {money_text(self.estimate.cost, self.currency)}"


def describe(plan: Plan) -> str:
    """Say a plan in one line."""
    estimated = plan.estimate
    again = f" ({plan.again:,} of them again)" if plan.again else ""
    tokens = f"{estimated.prompt_tokens:,}"
    if estimated.prompt_margin:
        tokens += f" ± {estimated.prompt_margin:,}"
    way = "synchronously" if estimated.synchronous else f"in {counted(plan.files, 'file')}"
    said = (
        f"{_rows_said(plan)}; {counted(plan.requests, 'request')} to send{again} {way}, "
        f"about {tokens} input and {estimated.completion_tokens:,} output tokens"
    )
    if estimated.cost is not None:
        cost, saved = (money_text(n, plan.currency) for n in (estimated.cost, estimated.saved))
        said += f", {cost} (saves {saved})"
    if plan.task_changes:
        said += f"; changed: {', '.join(plan.task_changes)}"
    if plan.refusal:
        said += f"; a run would refuse: {plan.refusal}"
    return "; ".join([said, *notes(plan.document())])


def _rows_said(plan: Plan) -> str:
    rows = f"{counted(plan.staged, 'row')}: {plan.answered:,} answered before"
    if plan.kept:
        rows += f" ({plan.kept:,} by a previous version)"
    parts = [rows, f"{plan.new:,} new", f"{plan.changed:,} changed"]
    if plan.equal:
        parts.append(f"{plan.equal:,} equal to others")
    if plan.in_flight:
        parts.append(f"{plan.in_flight:,} in flight")
    if plan.owed:
        parts.append(f"{plan.owed:,} waiting for the text of {' and '.join(plan.waits_for)}")
    if plan.skipped:
        parts.append(f"{plan.skipped:,} skipped")
    return ", ".join(parts)


def notes(plan: Mapping[str, Any]) -> list[str]:
    """Say of a plan, as its document has it, which rows are not asked, or not at once."""
    found = [final_sentence(plan["name"], plan["failed_for_good"])]
    if plan["canary"]:
        found.append(
            f"{counted(plan['canary'], 'request goes', 'requests go')} first (canary), the others "
            "once the first answers are back and valid"
        )
    if plan["recommends_canary"]:
        found.append(
            f"the task is new: set enrichment.canary: {RECOMMENDED} to send that many requests "
            "first, and the others once the first answers are back and valid"
        )
    return [sentence for sentence in found if sentence]


@dataclass(frozen=True)
class PlanInputs:
    """Where a plan is read from.

    Attributes:
        rows: The staged rows.
        undone: Those that have no answer that is `done`.
        chosen: The requests to send of them.
        relation: The staged relation in the user's database.
        selection: What decided which requests are new.
        destination: Where they would go.
        price: What tokens cost, or None if nobody knows.
        run: The run.
    """

    rows: StagedRows
    undone: Undone
    chosen: Chosen
    relation: StagedRelation
    selection: Selection
    destination: Destination
    price: Price | None
    run: Run


def estimate_requests(inputs: PlanInputs) -> Estimate:
    """Count the tokens of the requests to send, of a sample where there are many."""
    estimated = _estimate_requests(inputs)
    few = inputs.destination.few
    if few and estimated.requests and few.takes(estimated.requests):
        return estimated.asked_synchronously()
    return estimated


def _estimate_requests(inputs: PlanInputs) -> Estimate:
    task = inputs.selection.task
    asked, again = inputs.chosen.requests, inputs.chosen.alone
    completion = _completion_tokens(inputs, task)
    if not asked:
        # The tokenizer takes its time and its memory.
        return estimate(0, [], 0.0, completion, inputs.price)
    texts = inputs.run.workspace.rows(
        # The sample has a seed: a plan is the same however often it is made.
        f"select user_message from {inputs.rows.all_sql} where row_id in "
        f"(select row_id from {inputs.chosen.all_sql} as chosen "
        f"using sample reservoir({SAMPLE_SIZE} rows) repeatable (7))"
    )
    counted = count_tokens((text for (text,) in texts), task.model)
    packing = inputs.selection.packing
    mean = sum(counted) / max(1, len(counted))
    alone, packed = row_overheads(inputs.selection, mean)
    if packing is None:
        return estimate(asked, counted, alone, completion, inputs.price)
    # Rows that failed before are asked alone.
    share = (asked - again) / max(1, asked)
    overhead = share * packed + (1 - share) * alone
    tokens, source = completion
    wrapping = 0.0 if source == OF_ANSWERS else share * ANSWER_WRAPPING_TOKENS
    estimated = estimate(asked, counted, overhead, (tokens + wrapping, source), inputs.price)
    packs = math.ceil((asked - again) / packing.rows_of(mean))
    return replace(estimated, requests=packs + again)


def row_overheads(selection: Selection, mean_tokens: float) -> tuple[float, float]:
    """Return the prompt's tokens beside a row's own text: asked alone, and as it is packed.

    Args:
        selection: What is asked, and how rows are packed.
        mean_tokens: Tokens of a row's text.
    """
    task, endpoint, packing = selection.task, selection.endpoint, selection.packing
    alone = endpoint.prompt_tokens(row_prompt(task), task.model)
    if packing is None:
        return alone, alone
    shared = endpoint.prompt_tokens(pack_prompt(task), task.model)
    return alone, shared / packing.rows_of(mean_tokens) + MESSAGE_WRAPPING_TOKENS


def make_plan(
    inputs: PlanInputs,
    fresh: NewRequests,
    *,
    answered: int,
    kept: int,
    existing: ExistingTable | None,
    currency: str,
    price_problem: str | None,
    retirement: str | None,
    max_enqueued_tokens: int | None,
    refusal: str | None,
    upstream: Sequence[Upstream],
) -> Plan:
    """Work out what a run would do. Sends nothing.

    Args:
        inputs: Where the plan is read from.
        fresh: What an export would send.
        answered: Rows that were answered before.
        kept: Those of them that keep an answer to a previous version of the task.
        existing: The enriched table that is there, or None.
        currency: What costs are in.
        price_problem: Why there is no price, or None.
        retirement: That the model ends soon, or None.
        max_enqueued_tokens: The quota of all deployments together, or None if it is unknown.
        refusal: Why a run would send nothing and fail, or None.
        upstream: The enrichments that the model reads.
    """
    selection = inputs.selection
    estimated = estimate_requests(inputs)
    size = size_to_send(
        inputs.run, inputs.chosen, inputs.rows, inputs.selection, inputs.destination
    )
    changed = _changed_rows(inputs, existing)
    enqueued = 0 if estimated.synchronous else size.bytes // BYTES_PER_TOKEN
    return Plan(
        name=inputs.relation.model,
        enrichment=inputs.destination.enrichment,
        model=selection.task.model,
        deployments=inputs.destination.spread.deployments,
        version=short_version(selection.task_key),
        staged=inputs.rows.rows,
        skipped=inputs.rows.skipped,
        owed=inputs.rows.owed,
        answered=answered,
        kept=kept,
        new=inputs.chosen.rows - changed,
        changed=changed,
        equal=fresh.equal,
        in_flight=fresh.in_flight,
        again=fresh.again,
        requests=estimated.requests,
        files=0 if estimated.synchronous else size.files,
        bytes=size.bytes,
        estimate=estimated,
        currency=currency,
        price_problem=price_problem if estimated.cost is None else None,
        retirement=retirement,
        max_enqueued_tokens=max_enqueued_tokens,
        enqueued_tokens=enqueued,
        rounds=-(-enqueued // max_enqueued_tokens) if max_enqueued_tokens else None,
        task_changes=changes_since(inputs.run.ledger, inputs.destination.enrichment, selection),
        refusal=refusal,
        upstream=tuple(other.enrichment for other in upstream),
        waits_for=unfinished(inputs.relation.connection, upstream),
    )


def changes_since(ledger: Ledger, enrichment: str, selection: Selection) -> tuple[str, ...]:
    """Name what changed since the newest other task of a model that has answers."""
    former = former_tasks(ledger, enrichment, selection.task_key)
    if not former or ledger.answers.live(selection.task_key):
        return ()
    current = ledger.tasks.get(selection.task_key)
    if current is None:
        return ()
    return tuple(task_changes(former[0].document, current.document))


def _completion_tokens(inputs: PlanInputs, task: EnrichmentTask) -> tuple[float, str]:
    reasons = may_reason(task.model, task.parameters)
    keys = [inputs.selection.task_key]
    keys += [
        former.task_key
        for former in former_tasks(inputs.run.ledger, inputs.destination.enrichment, keys[0])
        if not reasons or _reasons_alike(task, former)
    ]
    for key in keys:
        answers = inputs.run.answers.table(key)
        (mean,) = inputs.run.workspace.row(
            f"select avg(completion_tokens) from {answers} as answers where kind = 'done'"
        )
        if mean is not None:
            return float(mean), OF_ANSWERS
    # Of reasoning nothing is known before the first answers, whose tokens count it.
    return completion_tokens_of_schema(task.outputs), WITHOUT_REASONING if reasons else OF_SCHEMA


def _reasons_alike(task: EnrichmentTask, former: Task) -> bool:
    """Whether a former task's answers took as much reasoning as a task's are expected to."""
    was = former.document.get("parameters") or {}
    return former.document.get("model") == task.model and all(
        was.get(name) == task.parameters.get(name) for name in REASONING_PARAMETERS
    )


def _changed_rows(inputs: PlanInputs, existing: ExistingTable | None) -> int:
    """Count the rows to send whose unique key the enriched table holds already."""
    columns = {name.lower() for name in existing.columns} if existing else set()
    keys: Sequence[str] = inputs.relation.unique_key
    if existing is None or not all(key.lower() in columns for key in keys):
        return 0
    named = ", ".join(f"cast({identifier(key)} as varchar)" for key in keys)
    changed = 0
    for part, chosen in inputs.chosen.files.items():
        asking = (
            f"select row_id from read_parquet({literal(inputs.undone.files[part])}) as undone "
            f"where request_key in (select request_key from read_parquet({literal(chosen)}))"
        )
        found = inputs.relation.connection.execute(
            f"select count(*) from {inputs.relation.name} as staged "
            f"where rowid in ({asking}) and ({named}) in (select ({named}) from {existing.name})"
        ).fetchone()
        changed += int(found[0]) if found else 0
    return changed
