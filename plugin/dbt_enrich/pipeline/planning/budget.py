"""Budget: what has been sent, held against the caps before more is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from dbt_enrich.clock import Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.profile import provider_of
from dbt_enrich.cost.caps import Cap, Spent, breach
from dbt_enrich.cost.estimate import Estimate
from dbt_enrich.cost.money import money_text
from dbt_enrich.cost.prices import FREE, Price, PriceTable
from dbt_enrich.environment import command_began
from dbt_enrich.errors import CapError
from dbt_enrich.pipeline.run.token_quota import estimated_tokens
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.sent_with import tier_of
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.options import EnrichmentOptions

_OF_MODEL = "the model's meta.enrichment"
_OF_RUN = "caps.run in the plugin's config"
_OF_DAY = "caps.day in the plugin's config"


def run_began(clock: Clock) -> datetime:
    """Return when the run began: with its first dbt where a command runs several, else now."""
    return command_began() or clock.now()


@dataclass
class ModelBudget:
    """What one run of one model has sent."""

    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True)
class Reservation:
    """Who is about to send.

    Attributes:
        model: The dbt model's name.
        enrichment: Its unique id.
        logical_model: The logical model that is asked.
        options: The model's own caps.
    """

    model: str
    enrichment: str
    logical_model: str
    options: EnrichmentOptions


class Budget:
    """What the models of one run have sent, and the caps on it.

    Args:
        config: The plugin's configuration.
        namespace: The mark of the project's batches.
        clock: The time.

    Attributes:
        opened_at: When the run of all models began.
    """

    def __init__(self, config: PluginConfig, namespace: str, clock: Clock) -> None:
        self._clock = clock
        self._config = config
        self._namespace = namespace
        self._spent = Spent()
        self._lock = threading.Lock()
        self._began = command_began()
        self.opened_at = run_began(clock)

    def is_set(self, options: EnrichmentOptions) -> bool:
        """Whether anything is limited for a model."""
        caps = self._config.caps
        return any(cap.is_set for cap in (caps.run, caps.day, model_cap(options)))

    def reserve(
        self,
        request: Reservation,
        model_budget: ModelBudget,
        estimate: Callable[[], Estimate],
    ) -> Estimate | None:
        """Take what is about to be sent from the caps on this process, whole or not at all.

        Args:
            request: Who is about to send.
            model_budget: What this run of the model has sent.
            estimate: Counts what is about to be sent; called only where there is a cap.

        Returns:
            The estimate, or None where nothing is limited.

        Raises:
            CapError: A cap would be passed; nothing was reserved.
        """
        if not self.is_set(request.options):
            return None
        wanted = estimate()
        if not wanted.requests:
            return wanted
        self._demand_price(request, wanted)
        caps = self._config.caps
        with self._lock:
            self._refuse(request, model_cap(request.options), model_budget.spent, wanted, _OF_MODEL)
            self._refuse(request, caps.run, self._spent, wanted, _OF_RUN)
            self._spent = self._spent.plus(wanted)
            model_budget.spent = model_budget.spent.plus(wanted)
        return wanted

    def give_back(self, model_budget: ModelBudget, reserved: Estimate, sent: int) -> None:
        """Return what was reserved for requests that were not sent after all."""
        share = min(1.0, sent / max(1, reserved.requests)) - 1.0
        with self._lock:
            self._spent = self._spent.plus(reserved, share)
            model_budget.spent = model_budget.spent.plus(reserved, share)

    def check_ledger(
        self,
        request: Reservation,
        wanted: Estimate,
        ledger: Ledger,
        *,
        but_not: Collection[str] = (),
    ) -> None:
        """Hold what is about to be sent against what the ledger knows of other runs.

        Called while no other run can claim, so that two runs cannot pass a cap together.

        Args:
            request: Who is about to send.
            wanted: What.
            ledger: What the other runs have claimed.
            but_not: Names of shards that were never sent, and whose requests are wanted again.

        Raises:
            CapError: A cap would be passed.
        """
        if not wanted.requests:
            return
        caps = self._config.caps
        if caps.day.is_set:
            midnight = self._clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
            self._refuse(request, caps.day, self._sent(ledger, midnight, but_not), wanted, _OF_DAY)
        if self._began is None:
            return
        # One command that runs dbt several times is one run.
        own = model_cap(request.options)
        if own.is_set:
            sent = self._sent(ledger, self._began, but_not, request.enrichment)
            self._refuse(request, own, sent, wanted, _OF_MODEL)
        if caps.run.is_set:
            self._refuse(
                request, caps.run, self._sent(ledger, self._began, but_not), wanted, _OF_RUN
            )

    def _demand_price(self, request: Reservation, wanted: Estimate) -> None:
        caps = self._config.caps
        limits = (caps.run, caps.day, model_cap(request.options))
        if wanted.cost is None and any(cap.max_cost is not None for cap in limits):
            unknown = self._config.price_problem(request.logical_model)
            raise CapError(
                f"model '{request.model}': max_cost is set, but {unknown}. Nothing was sent"
            )

    def _refuse(
        self, request: Reservation, cap: Cap, spent: Spent, wanted: Estimate, where: str
    ) -> None:
        currency = self._config.price_table.currency
        problem = breach(cap, spent, wanted, currency=currency, where=where)
        if problem:
            raise CapError(f"model '{request.model}': {problem}")

    def _sent(
        self,
        ledger: Ledger,
        since: datetime,
        but_not: Collection[str],
        enrichment: str | None = None,
    ) -> Spent:
        shards = [
            shard
            for shard in ledger.shards.all(since=since, enrichment=enrichment)
            if shard.step != Step.RELEASED
            and shard.shard not in but_not
            and (since != self._began or shard.namespace == self._namespace)
        ]
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
    """Return the tokens of a shard's prompts and answers: counted, else as estimated.

    What came home without a count, such as a batch that failed as a whole, took none.
    """
    if shard.prompt_tokens is not None or shard.is_closed:
        return shard.prompt_tokens or 0, shard.completion_tokens or 0
    prompt = shard.estimated_prompt_tokens
    if prompt is None:
        prompt = estimated_tokens(shard.bytes)
    return prompt, shard.estimated_completion_tokens or 0


@dataclass(frozen=True)
class Spending:
    """What shards cost.

    Attributes:
        cost: At batch price, what was asked synchronously at its tier's; None if a price is
            unknown.
        saved: What the synchronous endpoint would have cost more, or None.
        currency: What they are in.
    """

    cost: float | None
    saved: float | None
    currency: str

    def sentence(self) -> str:
        """Say the cost and what it saves."""
        if self.cost is None:
            return "an unknown cost"
        cost, saved = (money_text(amount, self.currency) for amount in (self.cost, self.saved))
        return f"{cost}, saved {saved}"


def spending(shards: Iterable[Shard], config: PluginConfig) -> Spending:
    """Add up what shards cost, and what batches saved of it, from their counted tokens."""
    table = config.price_table
    cost = saved = 0.0
    for shard in shards:
        if shard.prompt_tokens is None:
            continue
        price = _price_of(shard, table, config)
        paid = _paid(shard, price) if price else None
        if price is None or paid is None:
            return Spending(None, None, table.currency)
        cost += paid
        prompt, completion = shard_tokens(shard)
        saved += price.synchronous_cost(prompt, completion, shard.cached_tokens or 0) - paid
    return Spending(cost, saved, table.currency)


def shard_cost(shard: Shard, config: PluginConfig) -> float | None:
    """Return what a shard costs, as far as its tokens are known, or None."""
    price = _price_of(shard, config.price_table, config)
    return _paid(shard, price) if price else None


def _price_of(shard: Shard, table: PriceTable, config: PluginConfig) -> Price | None:
    """Return what a shard's tokens cost: by its deployment's zone, and as long as its prompts are.

    Of the prompts only the sum is known, so they count as long where they are so on average.
    """
    provider = provider_of(shard.service)
    if provider is not None and provider.is_free:
        return FREE
    price = table.find(shard.model or "", config.zone_of(shard.deployment or ""))
    return price.at((shard.prompt_tokens or 0) / max(1, shard.requests)) if price else None


def _paid(shard: Shard, price: Price) -> float | None:
    """Return what a shard costs by the endpoint that it is asked of."""
    prompt, completion = shard_tokens(shard)
    if shard.synchronous:
        price = price.of_tier(tier_of(shard))
        return price.synchronous_cost(prompt, completion, shard.cached_tokens or 0)
    return price.batch_cost(prompt, completion)
