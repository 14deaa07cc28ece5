"""Plan: what a run would send, what it costs, and what changed since the answers that are there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dbt_enrich.config import PluginConfig
from dbt_enrich.cost.estimate import (
    NO_OUTPUT,
    OF_ANSWERS,
    OF_SCHEMA,
    SAMPLE_SIZE,
    WITHOUT_REASONING,
    Estimate,
    completion_tokens_of_schema,
    estimate,
)
from dbt_enrich.cost.image_tokens import counting_note, image_tokens
from dbt_enrich.cost.money import money_text
from dbt_enrich.cost.tokens import REASONING_PARAMETERS, count_tokens, may_reason
from dbt_enrich.endpoints.base import row_prompt
from dbt_enrich.endpoints.packs import (
    ANSWER_WRAPPING_TOKENS,
    MESSAGE_WRAPPING_TOKENS,
    pack_prompt,
)
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.pipeline.export.canary import RECOMMENDED, RECOMMENDED_ABOVE, is_proven
from dbt_enrich.pipeline.export.claim import size_to_send
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.final_failures import find_finals
from dbt_enrich.pipeline.export.new_requests import NewRequests, Selection
from dbt_enrich.pipeline.export.outgoing import Outgoing
from dbt_enrich.pipeline.planning.task_changes import changes_since
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.run.token_quota import BYTES_PER_TOKEN
from dbt_enrich.sql import identifier, literal
from dbt_enrich.state.answer_store import done_sql
from dbt_enrich.state.previous_tasks import previous_tasks
from dbt_enrich.state.run import Run
from dbt_enrich.state.tables.tasks import Task
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.failures import final_sentence
from dbt_enrich.task.vectors import vector_of
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.awaited_texts import unfinished
from dbt_enrich.wording import counted
from dbt_enrich.workspace.key_ranges import key_parts


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
        images: What is assumed of the tokens of pictures, or empty.
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
    images: str = ""

    def document(self) -> dict[str, Any]:
        """Return it for machines."""
        return asdict(self)

    def short(self) -> str:
        """Say it in a few words."""
        text = f"requests to send: {self.requests:,}"
        if self.estimate.cost is None:
            return text
        return f"{text}, {money_text(self.estimate.cost, self.currency)}"


def describe(plan: Plan) -> str:
    """Say a plan in one line."""
    estimated = plan.estimate
    again = f" ({plan.again:,} of them again)" if plan.again else ""
    tokens = f"{estimated.prompt_tokens:,}"
    if estimated.prompt_margin:
        tokens += f" ± {estimated.prompt_margin:,}"
    way = "synchronously" if estimated.synchronous else f"in {counted(plan.files, 'file')}"
    text = (
        f"{_rows_sentence(plan)}; {counted(plan.requests, 'request')} to send{again} {way}, "
        f"about {tokens} input and {estimated.completion_tokens:,} output tokens"
    )
    if estimated.cost is not None:
        cost, saved = (money_text(n, plan.currency) for n in (estimated.cost, estimated.saved))
        text += f", {cost} (saves {saved})"
    if plan.task_changes:
        text += f"; changed: {', '.join(plan.task_changes)}"
    if plan.refusal:
        text += f"; a run would refuse: {plan.refusal}"
    return "; ".join([text, *notes(plan.document())])


def _rows_sentence(plan: Plan) -> str:
    rows = f"{counted(plan.staged, 'row')}: {plan.answered:,} answered before"
    if plan.kept:
        rows += f" ({plan.kept:,} by a previous version)"
    asked = [rows, f"{plan.new:,} new", f"{plan.changed:,} changed"]
    others = others_sentence(
        f"{plan.equal:,}", plan.in_flight, plan.owed, plan.waits_for, plan.skipped
    )
    return ", ".join([*asked, *others])


def others_sentence(
    equal: str, in_flight: int, owed: int, waits_for: Sequence[str], skipped: int
) -> list[str]:
    """Say of the rows that are not asked now why they are not.

    Args:
        equal: How many rows share a request with another row, as it is said.
        in_flight: Requests that are at the service.
        owed: Rows whose text another enrichment still owes.
        waits_for: The enrichments that owe texts.
        skipped: Rows without a text.
    """
    counts = {
        "equal to others": equal,
        "in flight": f"{in_flight:,}",
        f"waiting for the text of {' and '.join(waits_for)}": f"{owed:,}",
        "skipped": f"{skipped:,}",
    }
    return [f"{count} {text}" for text, count in counts.items() if not count.startswith("0")]


def notes(plan: Mapping[str, Any]) -> list[str]:
    """Say of a plan, as its document has it, which rows are not asked, or not at once."""
    found = [final_sentence(plan["name"], plan["failed_for_good"]), plan["images"]]
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


def estimate_requests(outgoing: Outgoing) -> Estimate:
    """Count the tokens of the requests to send, of a sample where there are many."""
    estimated = _estimate_requests(outgoing)
    relayed = outgoing.destination.relayed
    if relayed and estimated.requests and relayed.takes(estimated.requests):
        return estimated.asked_synchronously()
    return estimated


def _estimate_requests(outgoing: Outgoing) -> Estimate:
    task = outgoing.selection.task
    asked, again = outgoing.chosen.requests, outgoing.chosen.alone
    completion = _completion_tokens(outgoing, task)
    if not asked:
        # The tokenizer takes its time and its memory.
        return estimate(0, [], 0.0, completion, outgoing.price, tier=outgoing.tier)
    counted = _sampled_tokens(outgoing)
    packing = outgoing.selection.packing
    mean = sum(counted) / max(1, len(counted))
    alone, packed = row_overheads(outgoing.selection, mean)
    if packing is None:
        return estimate(asked, counted, alone, completion, outgoing.price, tier=outgoing.tier)
    # Rows that failed before are asked alone.
    share = (asked - again) / max(1, asked)
    overhead = share * packed + (1 - share) * alone
    tokens, source = completion
    wrapping = 0.0 if source in (OF_ANSWERS, NO_OUTPUT) else share * ANSWER_WRAPPING_TOKENS
    estimated = estimate(
        asked,
        counted,
        overhead,
        (tokens + wrapping, source),
        outgoing.price,
        tier=outgoing.tier,
    )
    packs = math.ceil((asked - again) / packing.rows_of(mean))
    return replace(estimated, requests=packs + again)


def _sampled_tokens(outgoing: Outgoing) -> list[int]:
    """Count the tokens of the rows in a sample: their texts' and their pictures'."""
    task, pictures = outgoing.selection.task, outgoing.rows.pictures
    sampled = outgoing.run.workspace.rows(
        # The sample has a seed: a plan is the same however often it is made.
        f"select user_message, {_SIZES if pictures else '[]'} from {outgoing.rows.all_sql} "
        f"where row_id in (select row_id from {outgoing.chosen.all_sql} as chosen "
        f"using sample reservoir({SAMPLE_SIZE} rows) repeatable (7))"
    )
    texts = count_tokens((text for text, _ in sampled), task.model)
    shown = (
        image_tokens(task.model, [_size_of(size) for size in sizes], task.image_detail)
        for _, sizes in sampled
    )
    return [text + sum(images) for text, images in zip(texts, shown, strict=True)]


# Width and height of a row's pictures, which an address has none of.
_SIZES = "coalesce(list_transform(pictures, lambda p: [p.width, p.height]), [])"


def _size_of(size: Sequence[int | None]) -> tuple[int, int] | None:
    width, height = size
    return None if width is None or height is None else (width, height)


def _image_note(outgoing: Outgoing) -> str:
    """Say what is assumed of the tokens of the rows' pictures, or nothing."""
    rows = outgoing.rows
    if not (rows.pictures and outgoing.chosen.requests):
        return ""
    (addresses,) = outgoing.run.workspace.row(
        "select count(*) from (select unnest(pictures) as picture "
        f"from {rows.all_sql}) where picture.address is not null"
    )
    return counting_note(outgoing.selection.task.model, addresses=addresses)


def row_overheads(selection: Selection, mean_tokens: float) -> tuple[float, float]:
    """Return the prompt's tokens beside a row's own text: asked alone, and as it is packed.

    Args:
        selection: What is asked, and how rows are packed.
        mean_tokens: Tokens of a row's text.
    """
    task, endpoint, packing = selection.task, selection.endpoint, selection.packing
    alone = endpoint.prompt_tokens(row_prompt(task), task.model)
    if packing is None or endpoint.takes_lists:
        return alone, alone
    shared = endpoint.prompt_tokens(pack_prompt(task), task.model)
    return alone, shared / packing.rows_of(mean_tokens) + MESSAGE_WRAPPING_TOKENS


@dataclass(frozen=True)
class PlannedRows:
    """The rows of a plan, counted: see `Plan`."""

    staged: int
    skipped: int
    owed: int
    answered: int
    new: int
    files: int
    bytes: int
    upstream: tuple[str, ...]
    waits_for: tuple[str, ...]
    failed_for_good: Mapping[str, int]
    kept: int = 0
    changed: int = 0


def make_plan(
    outgoing: Outgoing,
    fresh: NewRequests,
    refusal: EnrichmentError | None,
    config: PluginConfig,
) -> Plan:
    """Work out what a run would do. Sends nothing.

    Args:
        outgoing: What an export would send.
        fresh: That, counted, and what it would not send.
        refusal: Why a run would send nothing and fail, or None.
        config: The plugin's configuration.
    """
    run, request, selection = outgoing.run, outgoing.request, outgoing.selection
    estimated = estimate_requests(outgoing)
    size = size_to_send(outgoing)
    changed = _changed_rows(outgoing)
    rows = PlannedRows(
        staged=outgoing.rows.rows,
        skipped=outgoing.rows.skipped,
        owed=outgoing.rows.owed,
        answered=outgoing.rows.keyed - outgoing.undone.rows,
        kept=_kept_rows(outgoing),
        new=outgoing.chosen.rows - changed,
        changed=changed,
        files=size.files,
        bytes=size.bytes,
        upstream=tuple(other.enrichment for other in request.upstream),
        waits_for=unfinished(request.relation.connection, request.upstream),
        failed_for_good=dict(find_finals(run, outgoing.undone, selection).kinds),
    )
    plan = plan_of(
        rows, fresh, estimated, run, request, selection, outgoing.destination, refusal, config
    )
    return replace(plan, images=_image_note(outgoing))


def plan_of(
    rows: PlannedRows,
    fresh: NewRequests,
    estimated: Estimate,
    run: Run,
    request: EnrichmentRequest,
    selection: Selection,
    destination: Destination,
    refusal: EnrichmentError | None,
    config: PluginConfig,
) -> Plan:
    """Return the plan of rows that are counted.

    Args:
        rows: The rows.
        fresh: What would be sent of them, and what not.
        estimated: What that is expected to take.
        run: The run.
        request: What the model asks.
        selection: What decides which requests are new.
        destination: Where they would go.
        refusal: Why a run would send nothing and fail, or None.
        config: The plugin's configuration.
    """
    model, canary = selection.task.model, request.options.canary
    enqueued = 0 if estimated.synchronous else rows.bytes // BYTES_PER_TOKEN
    quota = destination.spread.all_tokens
    is_many = estimated.requests > (canary or RECOMMENDED_ABOVE)
    wants_canary = is_many and not is_proven(run, selection)
    return Plan(
        name=request.model,
        enrichment=request.enrichment,
        model=model,
        deployments=destination.spread.deployments,
        version=short_version(selection.task_key),
        staged=rows.staged,
        skipped=rows.skipped,
        owed=rows.owed,
        answered=rows.answered,
        kept=rows.kept,
        new=rows.new,
        changed=rows.changed,
        equal=fresh.equal,
        in_flight=fresh.in_flight,
        again=fresh.again,
        requests=estimated.requests,
        files=0 if estimated.synchronous else rows.files,
        bytes=rows.bytes,
        estimate=estimated,
        currency=config.price_table.currency,
        price_problem=config.price_problem(model) if estimated.cost is None else None,
        retirement=config.retirement(model),
        max_enqueued_tokens=quota,
        enqueued_tokens=enqueued,
        rounds=-(-enqueued // quota) if quota else None,
        task_changes=changes_since(run.ledger, request.enrichment, selection.task_key),
        refusal=str(refusal) if refusal else None,
        upstream=rows.upstream,
        waits_for=rows.waits_for,
        failed_for_good=rows.failed_for_good,
        canary=canary if wants_canary else None,
        recommends_canary=wants_canary and canary is None,
    )


def _kept_rows(outgoing: Outgoing) -> int:
    """Count the rows that keep an answer to a previous version of the task."""
    run, rows, selection = outgoing.run, outgoing.rows, outgoing.selection
    if not selection.keeps_previous:
        return 0
    own, previous = map(run.answers.table, selection.answer_keys)
    kept = 0
    for part in key_parts(rows.rows):
        keys = part.of(rows.keys_sql)
        (found,) = run.workspace.row(
            f"select count(*) from {keys} as keys "
            f"semi join ({done_sql(previous, keys, part=part)}) as previous using (request_key) "
            f"anti join ({done_sql(own, keys, part=part)}) as own using (request_key)"
        )
        kept += found
    return kept


def _completion_tokens(outgoing: Outgoing, task: EnrichmentTask) -> tuple[float, str]:
    if vector_of(task.outputs):
        return 0.0, NO_OUTPUT
    reasons = may_reason(task.model, task.parameters)
    keys = [outgoing.selection.task_key]
    keys += [
        previous.task_key
        for previous in previous_tasks(outgoing.run.ledger, outgoing.request.enrichment, keys[0])
        if not reasons or _reasons_alike(task, previous)
    ]
    for key in keys:
        answers = outgoing.run.answers.table(key)
        (mean,) = outgoing.run.workspace.row(
            f"select avg(completion_tokens) from {answers} as answers where kind = 'done'"
        )
        if mean is not None:
            return float(mean), OF_ANSWERS
    # Of reasoning nothing is known before the first answers, whose tokens count it.
    return completion_tokens_of_schema(task.outputs), WITHOUT_REASONING if reasons else OF_SCHEMA


def _reasons_alike(task: EnrichmentTask, previous: Task) -> bool:
    """Whether a previous task's answers took as much reasoning as a task's are expected to."""
    was = previous.document.get("parameters") or {}
    return previous.document.get("model") == task.model and all(
        was.get(name) == task.parameters.get(name) for name in REASONING_PARAMETERS
    )


def _changed_rows(outgoing: Outgoing) -> int:
    """Count the rows to send whose unique key the enriched table holds already."""
    existing, relation = outgoing.request.existing, outgoing.request.relation
    columns = {name.lower() for name in existing.columns} if existing else set()
    keys = relation.unique_key
    if existing is None or not all(key.lower() in columns for key in keys):
        return 0
    named = ", ".join(f"cast({identifier(key)} as varchar)" for key in keys)
    changed = 0
    for part, chosen in outgoing.chosen.files.items():
        asking = (
            f"select row_id from read_parquet({literal(outgoing.undone.files[part])}) as undone "
            f"where request_key in (select request_key from read_parquet({literal(chosen)}))"
        )
        found = relation.connection.execute(
            f"select count(*) from {relation.name} as staged "
            f"where rowid in ({asking}) and ({named}) in (select ({named}) from {existing.name})"
        ).fetchone()
        changed += int(found[0]) if found else 0
    return changed
