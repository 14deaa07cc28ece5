"""What requests will cost, before they are sent: tokens of a sample, and of earlier answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dbt_enrich.cost.prices import Price
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.types import DataType, EnumType, ListType, ScalarType, StructType

# Above so many requests the tokens of a sample of that size are counted.
SAMPLE_SIZE = 2_000
_Z = 1.96
# Where the number of an answer's tokens is from.
OF_ANSWERS = "earlier answers"
OF_SCHEMA = "schema"
WITHOUT_REASONING = "schema without reasoning"
NO_OUTPUT = "none"
# Tokens of a value that nothing earlier tells of: a sentence, a date, a number.
_TEXT_TOKENS = 30
_SHORT_TOKENS = 8
_NUMBER_TOKENS = 3
_LIST_ITEMS = 3


@dataclass(frozen=True)
class Estimate:
    """What requests are expected to take.

    Attributes:
        requests: How many there are.
        prompt_tokens: Tokens of their prompts.
        prompt_margin: Half the width of the 95 % interval of `prompt_tokens`; 0 if all were
            counted.
        completion_tokens: Tokens of their answers.
        completion_source: `earlier answers`, `schema`, `schema without reasoning` (the model may
            reason, which is billed as output, and nothing is known of how much), or `none`, as
            vectors are no tokens.
        sampled: How many requests were counted.
        synchronous: How many are asked of the synchronous endpoint.
        cost: What they cost, or None without a price.
        saved: What the synchronous endpoint would cost more, or None without a price.
        synchronous_cost: What they cost there, at the tier that they ask for, or None without a
            price.
        usual_cost: The same at the usual tier.
    """

    requests: int
    prompt_tokens: int
    prompt_margin: int
    completion_tokens: int
    completion_source: str
    sampled: int
    cost: float | None
    saved: float | None
    synchronous: int = 0
    synchronous_cost: float | None = None
    usual_cost: float | None = None

    def asked_synchronously(self) -> Estimate:
        """Return the estimate of the same requests at the synchronous endpoint's price."""
        cost = self.synchronous_cost
        saved = None if cost is None or self.usual_cost is None else self.usual_cost - cost
        return replace(self, synchronous=self.requests, cost=cost, saved=saved)


def estimate(
    requests: int,
    row_tokens: Sequence[int],
    overhead: float,
    completion: tuple[float, str],
    price: Price | None,
    *,
    tier: object = None,
) -> Estimate:
    """Scale the tokens of a sample up to all requests.

    Args:
        requests: How many requests there are.
        row_tokens: Tokens of the user messages in the sample, or of all of them.
        overhead: Tokens of a request that are the same for every row.
        completion: Expected tokens of one answer, and where the number is from.
        price: What the model's tokens cost, if it is known.
        tier: The `service_tier` that the requests ask for, or None.
    """
    count = len(row_tokens)
    mean = sum(row_tokens) / count if count else 0.0
    margin = 0.0
    if 1 < count < requests:
        variance = sum((tokens - mean) ** 2 for tokens in row_tokens) / (count - 1)
        margin = _Z * math.sqrt(variance / count * (1 - count / requests)) * requests
    prompt = round((mean + overhead) * requests)
    answered, source = round(completion[0] * requests), completion[1]
    cost = full = tiered = None
    if price:
        long = [n for tokens in row_tokens if price.is_long(n := tokens + overhead)]
        share = len(long) / count if count else 0.0
        long_prompt = sum(long) / count * requests if count else 0.0
        parts = [(price, prompt - long_prompt, answered * (1 - share))]
        if long and price.long:
            parts.append((price.long, long_prompt, answered * share))
        batch = [part.batch_cost(asked, given) for part, asked, given in parts]
        known = [amount for amount in batch if amount is not None]
        cost = sum(known) if len(known) == len(batch) else None
        full = sum(part.synchronous_cost(asked, given) for part, asked, given in parts)
        tiered = sum(
            part.of_tier(tier).synchronous_cost(asked, given) for part, asked, given in parts
        )
    return Estimate(
        requests=requests,
        prompt_tokens=prompt,
        prompt_margin=round(margin),
        completion_tokens=answered,
        completion_source=source,
        sampled=count,
        cost=cost,
        saved=None if cost is None or full is None else full - cost,
        synchronous_cost=tiered,
        usual_cost=full,
    )


def completion_tokens_of_schema(outputs: Sequence[OutputColumn]) -> float:
    """Return the tokens that an answer under a schema takes, where no earlier answer tells."""
    return 4 + sum(_name_tokens(output.name) + _value_tokens(output.type) for output in outputs)


def _name_tokens(name: str) -> int:
    # The name, its quotes, colon and comma.
    return 3 + name.count("_") + max(1, len(name) // 6)


def _value_tokens(kind: DataType) -> float:
    match kind:
        case EnumType():
            return _NUMBER_TOKENS
        case ListType():
            item = _value_tokens(kind.item)
            return 2 + _LIST_ITEMS * (1 + min(item, _SHORT_TOKENS))
        case StructType():
            fields = kind.fields
            return 2 + sum(_name_tokens(name) + _value_tokens(t) for name, t in fields)
        case ScalarType(name="varchar"):
            return _TEXT_TOKENS
        case ScalarType(name=name) if name.startswith(("date", "time")):
            return _SHORT_TOKENS
    return _NUMBER_TOKENS


def part_of(tokens: int | None, share: float) -> int | None:
    """Return a share of some tokens, or None where nobody counted them."""
    return None if tokens is None else round(tokens * share)
