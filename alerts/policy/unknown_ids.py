"""What a policy speaks of that nobody knows: a slip in an id, and the rule would do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from alerts.policy.policy import EVERYWHERE, Matcher, Policy

if TYPE_CHECKING:
    from schemas.reference import Reference


def unknown_ids(policy: Policy, reference: Reference) -> str:
    """One line that names them, each once and in the order of the file's parts; "" for none.

    An sku is not looked for: batches of a new one may come later.
    """
    known = {
        "outlet": reference.outlets.keys(),
        "territory": reference.territories.keys(),
        "wholesaler": reference.wholesalers.keys(),
    }
    unknown = [pair for pair in dict.fromkeys(_named(policy)) if pair[1] not in known[pair[0]]]
    if not unknown:
        return ""
    names = ", ".join(f"{kind} {name}" for kind, name in unknown)
    return f"the policy speaks of {names}, and the reference tables have no such"


def _named(policy: Policy) -> Iterator[tuple[str, str]]:
    for territory in policy.managers:
        if territory != EVERYWHERE:
            yield "territory", territory
    matchers: list[Matcher] = [*policy.silences]
    for hours in (policy.quiet_hours, *(own.quiet_hours for own in policy.wholesalers.values())):
        if hours:
            matchers += hours.except_
    for matcher in matchers:
        yield from (("outlet", name) for name in matcher.outlet or ())
        yield from (("territory", name) for name in matcher.territory or ())
        yield from (("wholesaler", name) for name in matcher.wholesaler or ())
    for maintenance in policy.maintenance:
        yield from (("territory", name) for name in maintenance.territory)
    for leave in policy.leave:
        yield from (("wholesaler", name) for name in leave.wholesaler)
    yield from (("wholesaler", name) for name in policy.wholesalers)
