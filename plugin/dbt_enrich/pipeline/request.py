"""What one model asks of the engine, and what it is given back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dbt_enrich.endpoints.embeddings import MAX_INPUTS
from dbt_enrich.endpoints.packs import Packing
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.state.shards import Shard
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions, Via
from dbt_enrich.warehouse.awaited_texts import Upstream
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.placement import Placement
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.warehouse.stays import Stays

# A list of so many vectors is a reply of a megabyte, and asks for next to none of a limit on
# requests.
_ROWS_OF_LIST = 128
# Four bytes count as a token, and a token has one byte at least: with one text more, which has
# 8,192 at most, a list stays below the 300,000 that the service takes.
_TOKENS_OF_LIST = 70_000


@dataclass(frozen=True)
class Constraint:
    """A constraint that can be looked at row by row, or key by key.

    Attributes:
        name: What it is, for messages.
        breaks: Condition of the rows that break it; empty for a key.
        key: Columns whose values may not repeat; empty otherwise.
    """

    name: str
    breaks: str = ""
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnrichmentRequest:
    """What one model asks of the engine.

    Attributes:
        relation: The staged rows.
        task: What is asked of them.
        options: How far the run goes.
        enrichment: The dbt model's unique id.
        existing: The enriched table that is there already, or None.
        target: The enriched table, quoted and qualified, or None where it has no name.
        full_refresh: Whether the table is built anew, whatever the options say.
        upstream: Other enrichments that the model reads.
        empty: Whether dbt builds without rows (`--empty`), so that nothing is sent or waited for.
        constraints: Constraints of an enforced contract.
        placement: Where it is published.
        stays: How much of the table that is there may stay.
        is_ordered: Whether the table's rows are to stand in the order of the staged ones.
        errors_may_stay: Whether its errors table may.
        done: Rows of the model that are not staged, as the database has their answers.
        kept: How many of these keep an answer to a previous version of the task.
    """

    relation: StagedRelation
    task: EnrichmentTask
    options: EnrichmentOptions
    enrichment: str
    existing: ExistingTable | None = None
    target: str | None = None
    full_refresh: bool = False
    upstream: tuple[Upstream, ...] = ()
    empty: bool = False
    constraints: tuple[Constraint, ...] = ()
    placement: Placement = field(default_factory=Placement)
    stays: Stays = Stays.NOTHING
    is_ordered: bool = True
    errors_may_stay: bool = False
    done: int = 0
    kept: int = 0

    def identified(self) -> EnrichmentRequest:
        """Return the request with the task whose answers are its own, and what it is sent with.

        Raises:
            ConfigurationError: `via` is flex, and the parameters name another tier.
        """
        changes: dict[str, Any] = {}
        if self.options.packs and not self.options.pack_shares_answers:
            changes["variant"] = f"{self.task.variant or ''}:packed"
        if self.options.via == Via.FLEX:
            tier = self.task.parameters.get("service_tier", Via.FLEX)
            if tier != Via.FLEX:
                raise ConfigurationError(
                    f"model '{self.model}': enrichment.via is flex, but "
                    f"enrichment.parameters.service_tier is {tier!r}",
                    fix="take service_tier out, or write via: synchronous. Nothing was sent",
                )
            # No part of a row's identity.
            changes["parameters"] = {**self.task.parameters, "service_tier": str(Via.FLEX)}
        return replace(self, task=self.task.model_copy(update=changes)) if changes else self

    @property
    def model(self) -> str:
        """The dbt model's name."""
        return self.relation.model

    @property
    def packing(self) -> Packing | None:
        """How many rows go into one request, or None for one."""
        options = self.options
        if self.task.endpoint == EndpointName.EMBEDDINGS:
            return vector_packing(options)
        if not options.packs:
            return None
        return Packing(rows=options.rows_per_request, tokens=options.tokens_per_request)

    @property
    def merged_into(self) -> ExistingTable | None:
        """The table that the rows are merged into, or None where it is built from them."""
        merges = self.options.publish == "merge" and not self.full_refresh
        return self.existing if merges else None


def vector_packing(options: EnrichmentOptions) -> Packing | None:
    """Return how many texts go into one request for embeddings, or None for one.

    They share nothing but the request, so that a list is as good as each by itself; but a text that
    is refused has all of its list asked once more.
    """
    if options.max_attempts < 2:
        return None
    tokens = min(options.tokens_per_request or _TOKENS_OF_LIST, _TOKENS_OF_LIST)
    rows = options.rows_per_request or (MAX_INPUTS if options.tokens_per_request else _ROWS_OF_LIST)
    return Packing(rows=min(rows, MAX_INPUTS), tokens=tokens)


@dataclass(frozen=True)
class Figures:
    """What one run did, in numbers, beside the rows that it published.

    Attributes:
        mode: How far the run went.
        requests: Requests that it sent.
        rows_touched: Rows of the table that it changed where the rest stayed, or None where the
            table was built anew, or merged into.
        prompt_tokens: Tokens of the prompts whose answers the run took in.
        cached_tokens: How many of them the service had cached.
        completion_tokens: Tokens of those answers.
        cost: What those answers cost, or None if a price is unknown.
        saved: What the synchronous price would have been more, or None.
        currency: What cost and saved are in.
    """

    mode: str
    requests: int = 0
    rows_touched: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    saved: float | None = None
    currency: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        run_id: The run, whose scratch directory `Engine.finish` removes after publishing.
        enriched_sql: SELECT of the enriched table.
        errors_sql: SELECT of the errors table.
        summary: One line for the log.
        figures: What the run did, in numbers.
        status: What dbt's result line says of a run that publishes no rows.
        warning: What dbt is to warn of, or empty.
        replaces: Whether an existing table is replaced. `plan` and `preview` leave it alone, and
            make empty, typed tables where there are none.
        merges: Whether the rows are merged into an existing table rather than replacing it.
        comment: What the table's comment says of how it was made.
        rows: How many rows the table has, or are merged.
        touched: How many rows `enriched_sql` yields, where they alone are put into the table that
            is there, or None where all are.
        gone: How many rows of that table the SELECT does not yield as they are, then.
        replaces_errors: Whether the errors table is another one than is there.
        content: Expressions of what a row holds, whose sums `Engine.finish` is to be given, or
            None.
    """

    run_id: str
    enriched_sql: str
    errors_sql: str
    summary: str
    figures: Figures
    status: str = ""
    warning: str = ""
    replaces: bool = True
    merges: bool = False
    comment: str = ""
    rows: int = 0
    touched: int | None = None
    gone: int = 0
    replaces_errors: bool = True
    content: tuple[str, ...] | None = None


@dataclass
class Tally:
    """What one run did, beside the rows' statuses."""

    sent: int = 0
    requests: int = 0
    reused: int = 0
    stored: list[Shard] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts whose answers were stored."""
        return sum(shard.prompt_tokens or 0 for shard in self.stored)

    @property
    def cached_tokens(self) -> int:
        """How many of them the service had cached."""
        return sum(shard.cached_tokens or 0 for shard in self.stored)

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answers that were stored."""
        return sum(shard.completion_tokens or 0 for shard in self.stored)
