"""All-pairs testing: few cases in which every pair of values of two factors occurs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations, product

Case = dict[str, str]
Pair = tuple[str, str, str, str]


def all_pairs(
    factors: Mapping[str, Sequence[str]], *, seed: int = 0, tries: int = 40
) -> list[Case]:
    """Return cases in which every pair of values of two factors occurs at least once.

    Greedy: each case is begun with a pair that is still wanted, and is the best of some tries to
    fill in the rest.

    Args:
        factors: The values of each factor.
        seed: Of the tries; the same seed gives the same cases.
        tries: How many are made for a case.
    """
    chance = random.Random(seed)
    wanted = {
        (first, a, second, b)
        for first, second in combinations(factors, 2)
        for a, b in product(factors[first], factors[second])
    }
    cases: list[Case] = []
    while wanted:
        first, a, second, b = min(wanted)
        begun = {first: a, second: b}
        found = [
            {name: begun.get(name) or chance.choice(list(factors[name])) for name in factors}
            for _ in range(tries)
        ]
        best = max(found, key=lambda case: len(pairs_of(case) & wanted))
        wanted -= pairs_of(best)
        cases.append(best)
    return cases


def covering(cases: Sequence[Case], *groups: tuple[str, ...]) -> list[Case]:
    """Return few of the cases in which every combination of each group's values occurs.

    Args:
        cases: The cases to choose from.
        groups: Names of factors whose combinations, as far as they are among the cases, count.
    """
    wanted = {_value(case, group) for case in cases for group in groups}
    chosen: list[Case] = []
    while wanted:
        best = max(cases, key=lambda case: len({_value(case, group) for group in groups} & wanted))
        wanted -= {_value(best, group) for group in groups}
        chosen.append(best)
    return chosen


def pairs_of(case: Case) -> set[Pair]:
    """Return the pairs of values that occur in a case."""
    return {(first, case[first], second, case[second]) for first, second in combinations(case, 2)}


def _value(case: Case, group: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, case[name]) for name in group)
