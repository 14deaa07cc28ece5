"""Budget: what has been sent, held against the caps before more is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dbt_enrich.config import PluginConfig
from dbt_enrich.cost.caps import Cap, Spent, breach
from dbt_enrich.cost.estimate import Estimate
from dbt_enrich.cost.prices import FREE, Price
from dbt_enrich.errors import CapError
from dbt_enrich.ledger import Ledger, Shard, Step
from dbt_enrich.pipeline.room import estimated_tokens
from dbt_enrich.task import EnrichmentOptions


@dataclass
class ModelBudget:
    """What one run of one model has sent."""

    spent: Spent = field(default_factory=Spent)


class Budget:
    """What the models of one `dbt run` have sent, and the caps on it.

    Args:
        config: The plugin's configuration.
    """

    def __init__(self, config: PluginConfig) -> None:
        self._config = config
        self._spent = Spent()
        self._lock = threading.Lock()

    def is_set(self, options: EnrichmentOptions) -> bool:
        """Whether anything is limited for a model."""
        caps = self._config.caps
        return any(cap.is_set for cap in (caps.run, caps.day, model_cap(options)))

    def reserve(
        self,
        model: str,
        logical_model: str,
        options: EnrichmentOptions,
        model_budget: ModelBudget,
        ledger: Ledger,
        estimate: Callable[[], Estimate],
    ) -> Estimate | None:
        """Take what is about to be sent from the caps, whole or not at all.

        Args:
            model: The dbt model's name.
            logical_model: The logical model that is asked.
            options: The model's own caps.
            model_budget: What this run of the model has sent.
            ledger: What was sent today.
            estimate: Counts what is about to be sent; called only where there is a cap.

        Returns:
            The estimate, or None where nothing is limited.

        Raises:
            CapError: A cap would be passed; nothing was reserved.
        """
        if not self.is_set(options):
            return None
        wanted = estimate()
        caps = self._config.caps
        table = self._config.price_table()
        costs = any(cap.max_cost is not None for cap in (caps.run, caps.day, model_cap(options)))
        if costs and wanted.requests and wanted.cost is None:
            raise CapError(
                f"model '{model}': max_cost is set, but {table.unknown(logical_model)}. "
                "Nothing was sent"
            )
        with self._lock:
            checks = (
                (model_cap(options), model_budget.spent, "the model's meta.enrichment"),
                (caps.run, self._spent, "caps.run in the plugin's config"),
                (caps.day, self._today(ledger), "caps.day in the plugin's config"),
            )
            for cap, spent, where in checks:
                problem = breach(cap, spent, wanted, currency=table.currency, where=where)
                if problem:
                    raise CapError(f"model '{model}': {problem}")
            self._spent = self._spent.plus(wanted)
            model_budget.spent = model_budget.spent.plus(wanted)
        return wanted

    def _today(self, ledger: Ledger) -> Spent:
        if not self._config.caps.day.is_set:
            return Spent()
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        shards = [s for s in ledger.all_shards(since=midnight) if s.step != Step.RELEASED]
        return Spent(
            cost=sum(shard_cost(shard, self._config) or 0.0 for shard in shards),
            requests=sum(shard.requests for shard in shards),
            tokens=sum(sum(shard_tokens(shard)) for shard in shards),
        )


def model_cap(options: EnrichmentOptions) -> Cap:
    """Return the cap of a model's own YAML."""
    return Cap(
        max_cost=options.max_cost, max_requests=options.max_requests, max_tokens=options.max_tokens
    )


def shard_tokens(shard: Shard) -> tuple[int, int]:
    """Return the tokens of a shard's prompts and answers: counted, else as estimated."""
    if shard.prompt_tokens is not None:
        return shard.prompt_tokens, shard.completion_tokens or 0
    prompt = shard.estimated_prompt_tokens
    if prompt is None:
        prompt = estimated_tokens(shard.bytes)
    return prompt, shard.estimated_completion_tokens or 0


@dataclass(frozen=True)
class Spending:
    """What shards cost.

    Attributes:
        cost: At batch price, what was asked synchronously at its own; None if a price is unknown.
        saved: What the synchronous endpoint would have cost more, or None.
        currency: What they are in.
    """

    cost: float | None
    saved: float | None
    currency: str

    def said(self) -> str:
        """Say the cost and what it saves."""
        if self.cost is None:
            return "an unknown cost"
        return f"{self.currency} {self.cost:,.4f}, saved {self.saved:,.4f}"


def spending(shards: Iterable[Shard], config: PluginConfig) -> Spending:
    """Add up what shards cost, and what batches saved of it, from their counted tokens."""
    table = config.price_table()
    cost = saved = 0.0
    for shard in shards:
        if shard.prompt_tokens is None:
            continue
        price = FREE if shard.service == "local" else table.find(shard.model or "")
        if price is None:
            return Spending(None, None, table.currency)
        paid = _paid(shard, price)
        cost += paid
        prompt, completion = shard_tokens(shard)
        saved += price.synchronous_cost(prompt, completion, shard.cached_tokens or 0) - paid
    return Spending(cost, saved, table.currency)


def shard_cost(shard: Shard, config: PluginConfig) -> float | None:
    """Return what a shard costs, as far as its tokens are known, or None."""
    price = FREE if shard.service == "local" else config.price_table().find(shard.model or "")
    return _paid(shard, price) if price else None


def _paid(shard: Shard, price: Price) -> float:
    """Return what a shard costs by the endpoint that it is asked of."""
    prompt, completion = shard_tokens(shard)
    if shard.synchronous:
        return price.synchronous_cost(prompt, completion, shard.cached_tokens or 0)
    return price.batch_cost(prompt, completion)
