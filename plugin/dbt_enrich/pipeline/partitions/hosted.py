"""Hosted rows in parts: more of them than one machine is to take stay in the host."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from dbt_enrich.errors import concerning
from dbt_enrich.pipeline import hosted
from dbt_enrich.pipeline.hosted import HostedModel, ModelOnHost, Worked
from dbt_enrich.pipeline.partitions.engine import (
    PartedEngine,
    PartedModel,
    PartedOutcome,
    empty_relation,
)
from dbt_enrich.pipeline.planning.constraints import of_answers
from dbt_enrich.pipeline.request import Outcome
from dbt_enrich.state.tables.publications import KEPT
from dbt_enrich.task.options import Mode
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.host import Host
from dbt_enrich.warehouse.parted_rows import PartedHost, PartedRows


def work(engine: PartedEngine, host: Host, model: HostedModel) -> Worked:
    """Enrich the staged rows of a model, and write their results, where the rows fit.

    They come to this machine, unless more of them than `partition_rows` have no answer and the
    host's own machines can work on them.

    Raises:
        EnrichmentError: As `hosted.work`, or the rows stay where they lie and the task, or the
            state, does not do for that. Paid answers are safe in every case.
    """
    if isinstance(host, PartedHost):
        engine.check()
        with concerning(model=model.name):
            parted = _Work(engine, host, host, model)
            if parted.is_more_than(engine.config.partition_rows):
                return parted.done()
    return hosted.work(engine, host, model)


class _Work(ModelOnHost):
    """One model's work, on rows that stay where they lie.

    Args:
        engine: The engine.
        host: The host.
        parted: The host, as one that has rows worked on there.
        model: The model.
    """

    def __init__(
        self, engine: PartedEngine, host: Host, parted: PartedHost, model: HostedModel
    ) -> None:
        super().__init__(host, model)
        self._engine = engine
        self._parted = parted
        self._staged = self.staged()
        self._task_key = engine.task_key_of(self._asked())
        # All rows, where the table of results is about to be made anew.
        self._task = self._task_key if self.results(self._staged) else None
        self._due, self._done = parted.count_rows(
            self._tables, task=self._task, version=short_version(self._task_key)
        )

    def is_more_than(self, rows: int) -> bool:
        """Whether more rows than that would come to one machine."""
        shows_all = self._model.options.mode in (Mode.PLAN, Mode.PREVIEW)
        return self._due + (self._done.done if shows_all else 0) > rows

    def done(self) -> Worked:
        owing = tuple(
            other.name for other, table, _ in self.upstream_tables() if self._parted.has_due(table)
        )
        model = self._model
        relation = empty_relation(self._staged, self._tables.unique_key, model.name)
        self.check_merged(relation, self._staged)
        asked = replace(
            self._asked(),
            constraints=of_answers(relation, model.constraints),
            owing=owing,
            done=self._done.done,
        )
        known = self._parted.known_answers(
            self._tables, task=self._task_key, version=short_version(self._task_key)
        )
        outcome = self._engine.enrich_parted(asked, self._rows(), known)
        counts = None
        try:
            if outcome.enriched is None:
                settled, changed = _as_planned(outcome), 0
            else:
                settled, changed, counts = self._published(outcome)
        finally:
            self._engine.finish(outcome.run_id, counts)
        return Worked(settled, changed)

    def _published(self, outcome: PartedOutcome) -> tuple[Outcome, int, dict[str, int]]:
        """Write the results.

        Returns:
            What came of the rows, how many of them have another result, and all rows by status.
        """
        with self._parted.parted_results(
            self._tables,
            outcome.enriched,
            outcome.errors,
            task=self._task_key,
            outputs=[output.name for output in self._model.task.outputs],
            keeps=self._model.options.on_pending == "keep",
        ) as results:
            settled = self._engine.settled(outcome, results.counts, self._done.done)
            if results.counts.changed:
                results.put()
        counts = Counter(results.counts.statuses)
        counts["done"] += self._done.done
        counts[KEPT] += self._done.kept
        counts.update(self.unstaged(short_version(self._task_key)))
        found = {status: rows for status, rows in counts.items() if rows}
        return settled, results.counts.changed, found

    def _rows(self) -> PartedRows:
        task = self._model.task
        named = (*task.template.columns, *task.optional, *self._tables.unique_key)
        return self._parted.parted_rows(
            self._tables,
            {name.lower() for name in named},
            task=self._task,
            rows=self._due,
            rows_of_part=self._engine.config.partition_rows,
        )

    def _asked(self) -> PartedModel:
        model = self._model
        return PartedModel(
            name=model.name,
            enrichment=model.enrichment,
            unique_key=self._tables.unique_key,
            task=model.task,
            options=model.options,
            target=model.target,
            placement=self.placement,
            upstream=tuple(other.enrichment for other in model.upstream),
        )


def _as_planned(outcome: PartedOutcome) -> Outcome:
    return Outcome(
        run_id=outcome.run_id,
        enriched_sql="",
        errors_sql="",
        summary=outcome.summary,
        figures=outcome.figures,
        replaces=False,
    )
