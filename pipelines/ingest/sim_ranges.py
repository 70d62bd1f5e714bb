"""Which SIMs an event speaks of, by the reference tables. What becomes of them is in the core."""

from __future__ import annotations

import numpy as np

from schemas.events import Delivery, Event, Refused, Registration, Return, Transfer, WriteOff
from schemas.reference import Reference
from schemas.service.events import CaseOpened, CaseStep, ServiceEvent

#: Events about where SIMs are.
Placed = Delivery | Return | Transfer | WriteOff


def sim_ranges(event: Event, reference: Reference) -> list[tuple[int, int]]:
    """(first IMSI, count) of the registered SIMs an event is about; none for a call or activation.

    Raises `Refused` for an outlet, a wholesaler, SIMs, a unit or a kind of case that the reference
    tables do not have.
    """
    if isinstance(event, Registration):
        imsi = int(event.imsi)
        return [(imsi, 1)] if reference.registered(np.array([imsi]))[0] else []
    if isinstance(event, ServiceEvent):
        _check_service(event, reference)
    if not isinstance(event, Placed):
        return []
    if isinstance(event, Transfer):
        outlets = [event.from_outlet_id, event.to_outlet_id]
    else:
        outlets = [event.outlet_id]
    for outlet_id in outlets:
        if outlet_id not in reference.outlets:
            raise Refused(f"unknown_outlet: {outlet_id} is not in outlets.csv")
    if isinstance(event, Delivery) and event.wholesaler_id not in reference.wholesalers:
        raise Refused(f"unknown_wholesaler: {event.wholesaler_id} is not in wholesalers.csv")
    if event.iccids is not None:
        return _listed(event.iccids, reference)
    ranges = reference.imsi_ranges(event.first_iccid, event.count)
    if ranges is None:
        raise Refused(
            f"unknown_sim: sim_batches.csv does not hold {event.first_iccid} and the"
            f" {event.count - 1} after it"
        )
    return ranges


def _listed(iccids: list[str], reference: Reference) -> list[tuple[int, int]]:
    found: dict[tuple[int, int], None] = {}  # A card that is listed twice is one card.
    for iccid in iccids:
        ranges = reference.imsi_ranges(iccid, 1)
        if ranges is None:
            raise Refused(f"unknown_sim: neither sim_batches.csv nor sims.csv holds {iccid}")
        found.update(dict.fromkeys(ranges))
    return list(found)


def _check_service(event: ServiceEvent, reference: Reference) -> None:
    unit_id = getattr(event, "unit_id", None)
    if unit_id is not None and unit_id not in reference.units:
        raise Refused(f"unknown_unit: {unit_id} is not in units.csv")
    rules = reference.service
    if isinstance(event, CaseOpened):
        kind = rules.kinds.get(event.kind)
        if kind is None:
            raise Refused(f"unknown_kind: cases.toml has no kind {event.kind}")
        if event.severity is not None and event.severity not in kind.severities:
            known = ", ".join(kind.severities)
            raise Refused(f"invalid_field: severity: a {event.kind} is one of {known}")
    if isinstance(event, CaseStep) and not rules.has_step(event.step):
        raise Refused(f"unknown_step: no kind in cases.toml has a step {event.step}")
