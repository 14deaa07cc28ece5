"""Claims: the requests that shards hold, and what becomes of those whose run has died unsent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.endpoints.request_lines import RequestLines
from dbt_enrich.errors import LostOwnershipError
from dbt_enrich.pipeline.export.manifests import NO_REQUESTS
from dbt_enrich.sql import literals
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import FileKind, StateFile, missing
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.workspace.database import read_parquet
from dbt_enrich.workspace.key_ranges import key_parts


def abandoned_shards(run: Run) -> list[Shard]:
    """Return the claims of dead runs that never asked the service for a batch: nothing was paid."""
    return [shard for shard in run.ledger.shards.open() if _is_abandoned(shard, run)]


def let_go(run: Run, shards: Sequence[Shard]) -> None:
    """Free abandoned claims, and remove their files; what a run has taken up meanwhile stays."""
    for shard in shards:
        with suppress(LostOwnershipError):
            run.ledger.shards.record(shard, Step.RELEASED, detail={"reason": "never submitted"})
            run.store.requests(shard.shard).unlink(missing_ok=True)
            run.files.remove(StateFile(FileKind.MANIFEST, shard.shard))


@dataclass(frozen=True)
class Seen:
    """The names in the ledger that decided which requests of a task are new.

    Attributes:
        in_flight: Shards that are claimed and not yet stored, but for those of dead runs that never
            sent them: the next export takes them up.
        answers: Files of the answer store.
    """

    in_flight: frozenset[str]
    answers: frozenset[str]


def seen_now(run: Run, answer_keys: Sequence[str]) -> Seen:
    """Return what the ledger holds of a task now.

    Args:
        run: The run.
        answer_keys: The task, and any others whose answers stand for its own.
    """
    return Seen(
        in_flight=frozenset(_in_flight(run, answer_keys[0])),
        answers=frozenset(name for key in answer_keys for name in run.ledger.answers.live(key)),
    )


def in_flight_sql(run: Run, task_key: str) -> str:
    """Build a table expression over the requests of a task that are claimed and not yet stored.

    What another process stores afterwards stays in it, so take it before the answers.
    """
    return manifests_sql(run, _in_flight(run, task_key))


def _in_flight(run: Run, task_key: str) -> list[str]:
    shards = run.ledger.shards.open(task_key=task_key)
    return [shard.shard for shard in shards if not _is_abandoned(shard, run)]


def _held(run: Run, shards: Iterable[str]) -> dict[str, Path]:
    """Keep manifests for this run, as another may remove them; those that are gone are left out.

    Raises:
        LedgerError: One is gone whose requests are still claimed, to be sent at any moment.
    """
    files = [StateFile(FileKind.MANIFEST, name) for name in shards]
    held = run.files.hold(files, run.workspace.directory)
    gone = [file for file in files if file not in held]
    for shard in run.ledger.shards.named(file.name for file in gone) if gone else ():
        # What is at the service tells by its answers which requests it holds.
        if shard.step.is_unsent and run.owners.is_driven(shard):
            raise missing(StateFile(FileKind.MANIFEST, shard.shard), run.files.place)
    return {file.name: path for file, path in held.items()}


def manifests_sql(run: Run, shards: Iterable[str]) -> str:
    """Build a table expression over the requests of some shards, by their names."""
    return read_parquet(list(_held(run, shards).values()), empty=NO_REQUESTS)


def standing_claims(
    run: Run,
    abandoned: Sequence[Shard],
    wanted: Sequence[Path],
    lines: RequestLines,
) -> list[Shard]:
    """Return the abandoned shards whose files would be written again as they are.

    They wait for room in a quota, mostly, and may be at the service already: to write and upload
    them once more at every run would be in vain.

    Args:
        run: The run.
        abandoned: Claims of dead runs.
        wanted: Parquet files of the requests that are to be sent now.
        lines: How they are written.
    """
    exported = [s for s in abandoned if s.step in (Step.EXPORTED, Step.UPLOADED)]
    held = _held(run, [shard.shard for shard in exported])
    written = [(s, held[s.shard]) for s in exported if s.shard in held]
    forms = _forms(run, [manifest for _, manifest in written], wanted)
    return [
        shard
        for (shard, _), form in zip(written, forms, strict=True)
        if form.is_one and _is_worded(shard, form, lines, run.store)
    ]


def _is_abandoned(shard: Shard, run: Run) -> bool:
    return shard.step.is_unsent and not run.owners.is_driven(shard)


@dataclass(frozen=True)
class _Form:
    """What the requests of a claimed shard have in common, as they are to be sent now.

    Attributes:
        unwanted: How many are not to be sent now, or in another attempt.
        enlarge: The least and the most by which their token limit is enlarged.
        is_first: Whether all of them are first attempts.
        positions: The most rows of one of its packs, or None where rows are alone.
    """

    unwanted: int
    enlarge: tuple[int, int]
    is_first: bool
    positions: int | None

    @property
    def is_one(self) -> bool:
        """Whether all of them go into one file; only first attempts are packed."""
        least, most = self.enlarge
        return not self.unwanted and least == most and (not self.positions or self.is_first)


def _forms(run: Run, held: list[Path], wanted: Sequence[Path]) -> list[_Form]:
    """Return the forms of some shards by their manifests, in their order."""
    if not held:
        return []
    manifests = read_parquet(held, empty=NO_REQUESTS)
    has_packs = "position" in run.workspace.columns(f"from {manifests}")
    position = "claimed.position" if has_packs else "cast(null as integer)"
    wanted_sql = f"read_parquet({literals(wanted)})"
    (requests,) = run.workspace.row(f"select count(*) from {wanted_sql}")
    found = [
        row
        for part in key_parts(requests)
        for row in run.workspace.rows(
            f"""
            select
                claimed.file_index, count(*) filter (wanted.request_key is null),
                min(wanted.enlarge), max(wanted.enlarge), bool_and(wanted.is_first), max({position})
            from (select *, file_index from {manifests} where {part.condition}) as claimed
            left join {part.of(wanted_sql)} as wanted
                using (request_key, attempt)
            group by claimed.file_index
            """
        )
    ]
    return [_form([row[1:] for row in found if row[0] == number]) for number in range(len(held))]


def _form(parts: Sequence[tuple[int, int | None, int | None, bool | None, int | None]]) -> _Form:
    unwanted, least, most, firsts, positions = zip(*parts, strict=True) if parts else ([],) * 5
    return _Form(
        unwanted=sum(unwanted),
        enlarge=(min(filter(None, least), default=0), max(filter(None, most), default=1)),
        is_first=all(firsts),
        positions=max(filter(None, positions), default=None),
    )


def _is_worded(shard: Shard, form: _Form, lines: RequestLines, store: StateDirectory) -> bool:
    """Whether the first line of a shard's file has the constant texts of its requests now."""
    template = lines.template(
        shard.deployment or "",
        enlarge=form.enlarge[0] * (form.positions or 1),
        packed=form.positions is not None,
    )
    with suppress(FileNotFoundError), store.requests(shard.shard).open("rb") as file:
        return template.fits(file.readline().decode(errors="replace").rstrip("\n"))
    return False
