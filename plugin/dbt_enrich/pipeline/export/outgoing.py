"""What one round of a run would send, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass

from dbt_enrich.cost.prices import Price
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.new_requests import Chosen, Selection, Undone
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.state.run import Run


@dataclass(frozen=True)
class Outgoing:
    """Requests that are about to be sent, counted or claimed.

    Attributes:
        run: The run.
        rows: The staged rows.
        undone: Those that have no answer that is `done`.
        chosen: The requests to send of them.
        request: What the model asks.
        selection: What decided which requests are new.
        destination: Where they go.
        price: What tokens cost at the usual tier, or None if unknown.
    """

    run: Run
    rows: StagedRows
    undone: Undone
    chosen: Chosen
    request: EnrichmentRequest
    selection: Selection
    destination: Destination
    price: Price | None

    @property
    def tier(self) -> object:
        """The `service_tier` that requests ask for, or None."""
        return self.selection.task.parameters.get("service_tier")

    def remove(self) -> None:
        """Remove the files of the rows and requests."""
        self.undone.remove()
        self.chosen.remove()
