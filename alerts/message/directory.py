"""Who and where: what alerts ask of the reference tables. Reading them is elsewhere."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple, Protocol

from alerts.message.compose import EmptyShelf
from schemas.messages import ListedIncident

if TYPE_CHECKING:
    from schemas.reference import Reference


class Contact(NamedTuple):
    """A wholesaler's row: numbers as they were entered, '' where there is none."""

    wholesaler_id: str
    name: str
    phone: str
    backup_phone: str
    language: str


class Directory(Protocol):
    """The reference tables as they are now."""

    def wholesaler(self, wholesaler_id: str) -> Contact | None:
        """The wholesaler, or None when no table knows the id."""

    def successor(self, wholesaler_id: str, outlet_id: str, at: int) -> str:
        """Who acts at a time (ms) for a wholesaler who held an outlet: often the same."""

    def shelf(self, incident: ListedIncident) -> EmptyShelf:
        """The outlet as people call it; names are '' where there is none."""


class ReferenceDirectory:
    """A directory over the tables as they were read; also `alerts.policy.rules.Places`."""

    def __init__(self, reference: Reference) -> None:
        self._tables = reference

    def replace(self, reference: Reference) -> None:
        """Look things up in other tables from now on."""
        self._tables = reference

    def wholesaler(self, wholesaler_id: str) -> Contact | None:
        """See `Directory`."""
        row = self._tables.wholesalers.get(wholesaler_id)
        if row is None:
            return None
        phones = (row.phone or "", row.backup_phone or "")
        return Contact(wholesaler_id, row.name, *phones, row.language or "")

    def successor(self, wholesaler_id: str, outlet_id: str, at: int) -> str:
        """See `Directory`."""
        return self._tables.successor(wholesaler_id, outlet_id, at)

    def shelf(self, incident: ListedIncident) -> EmptyShelf:
        """See `Directory`."""
        outlet = self._tables.outlets.get(incident.outlet_id)
        territory = self._tables.territories.get((outlet and outlet.territory_id) or "")
        return EmptyShelf(
            incident.outlet_id,
            outlet.name if outlet is not None else "",
            territory.name if territory is not None else "",
            incident.sku,
            incident.opened_at,
        )

    def territories(self, outlet_id: str) -> tuple[str, ...]:
        """See `alerts.policy.rules.Places`."""
        return self._tables.territories_of(outlet_id)

    def closed_on(self, outlet_id: str) -> date | None:
        """See `alerts.policy.rules.Places`."""
        outlet = self._tables.outlets.get(outlet_id)
        return outlet.closed_on if outlet is not None else None
