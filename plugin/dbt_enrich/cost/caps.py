"""Caps: what a run, a model or a day may take, checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from dbt_enrich.cost.estimate import Estimate
from dbt_enrich.cost.money import money_text
from dbt_enrich.wording import counted


class Cap(BaseModel):
    """A cap; what is None is not limited.

    Attributes:
        max_cost: In the currency of the prices, at batch price.
        max_requests: Requests sent.
        max_tokens: Tokens of prompts and answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_cost: float | None = Field(default=None, ge=0)
    max_requests: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=0)

    @property
    def is_set(self) -> bool:
        """Whether anything is limited."""
        return any(
            limit is not None for limit in (self.max_cost, self.max_requests, self.max_tokens)
        )


class Caps(BaseModel):
    """The profile's caps.

    Attributes:
        run: What one `dbt run` may take, over all of its models.
        day: What may be sent on one day (UTC), over all runs of the state directory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Cap = Cap()
    day: Cap = Cap()


@dataclass(frozen=True)
class Spent:
    """What has been sent already.

    Attributes:
        cost: What it costs, as estimated until it is known.
        requests: How many requests.
        tokens: Their tokens.
    """

    cost: float = 0.0
    requests: int = 0
    tokens: int = 0

    def plus(self, estimate: Estimate, share: float = 1.0) -> Spent:
        """Return what will have been sent with some more requests, or a share of them."""
        tokens = estimate.prompt_tokens + estimate.completion_tokens
        return Spent(
            cost=self.cost + (estimate.cost or 0.0) * share,
            requests=self.requests + round(estimate.requests * share),
            tokens=self.tokens + round(tokens * share),
        )


def breach(cap: Cap, spent: Spent, estimate: Estimate, *, currency: str, where: str) -> str | None:
    """Say which cap some more requests would pass, what they take and how to allow it, or None.

    Args:
        cap: The cap.
        spent: What was sent before under it.
        estimate: What is about to be sent.
        currency: What costs are in.
        where: Where the cap is set, such as `caps.day of the plugin's config`.
    """

    def cost_text(amount: float, beside: float) -> str:
        return money_text(amount, currency, beside=beside)

    total = spent.plus(estimate)
    passed = [
        (name, text(limit, after), text(before, limit), text(after, limit))
        for name, limit, before, after, text in (
            ("max_cost", cap.max_cost, spent.cost, total.cost, cost_text),
            ("max_requests", cap.max_requests, spent.requests, total.requests, _whole),
            ("max_tokens", cap.max_tokens, spent.tokens, total.tokens, _whole),
        )
        if limit is not None and after > limit
    ]
    if not passed:
        return None
    name, limit, before, after = passed[0]
    cost = "an unknown price" if estimate.cost is None else money_text(estimate.cost, currency)
    tokens = estimate.prompt_tokens + estimate.completion_tokens
    already = "" if not spent.requests else f" ({before} of it sent before)"
    return (
        f"{counted(estimate.requests, 'request')} of about {tokens:,} tokens, {cost}, would bring "
        f"{name} to {after}{already}, past the {limit} of {where}; nothing was sent. Raise "
        f"{name} there to allow it, or select fewer rows"
    )


def _whole(number: float, _beside: float) -> str:
    return f"{number:,.0f}"
