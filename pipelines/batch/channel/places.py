"""Where wholesalers sell and where calls are made, for the channel job. Pure; no figures here."""

from __future__ import annotations

import polars as pl

from pipelines.core.channel.diversion import DiversionRules
from schemas.reference import Reference


def _areas(reference: Reference) -> dict[str, str]:
    """Territory → the one just below the root that it is part of: what a wholesaler is bound to.

    Without a root that has parts: what is in it as a whole is in none of them.
    """
    whole = {row.parent_id for row in reference.territories.values()}
    found = {}
    for territory_id in reference.territories:
        chain, here = [territory_id], reference.territories[territory_id].parent_id
        while here and here not in chain and here in reference.territories:
            chain.append(here)
            here = reference.territories[here].parent_id
        if len(chain) > 1 or territory_id not in whole:
            found[territory_id] = chain[-2] if len(chain) > 1 else territory_id
    return found


def unknown_ids(reference: Reference, rules: DiversionRules) -> list[str]:
    """What the rules name that the reference tables do not know, in words: it has no effect."""
    areas = set(_areas(reference).values())
    named = (
        ("ignored_cells", "cell", set(rules.ignored_cells) - reference.cells.keys()),
        (
            "ignored_territories",
            "territory",
            set(rules.ignored_territories) - reference.territories.keys(),
        ),
        (
            "neighbours",
            "part of the city just below its root",
            {name for pair in rules.neighbours.items() for name in (pair[0], *pair[1])} - areas,
        ),
    )
    return [
        f"invalid_field: diversion.{key}: {name!r} is no {what}"
        for key, what, names in named
        for name in sorted(names)
    ]


def home(reference: Reference, rules: DiversionRules, start: int, end: int) -> pl.DataFrame:
    """wholesaler_id, area, own: where a wholesaler held outlets in the month, and neighbours."""
    areas = _areas(reference)
    pairs = set()
    by_outlet: dict[str, list[tuple[int, str]]] = {}
    for row in reference.assignments:
        by_outlet.setdefault(row.outlet_id, []).append((row.valid_from, row.wholesaler_id))
    for outlet_id, spans in by_outlet.items():
        spans.sort()
        shop = reference.outlets.get(outlet_id)
        area = areas.get(shop.territory_id or "", "") if shop else ""
        for number, (begins, who) in enumerate(spans):
            ends = spans[number + 1][0] if number + 1 < len(spans) else end
            if area and begins < end and ends > start:
                near = rules.neighbours.get(area, ())
                pairs |= {(who, area), *((who, other) for other in near)}
    return pl.DataFrame(
        [(*pair, True) for pair in sorted(pairs)],
        schema={"wholesaler_id": pl.String, "area": pl.String, "own": pl.Boolean},
        orient="row",
    )


def cells(reference: Reference, rules: DiversionRules) -> pl.DataFrame:
    """cell_id, area; without cells that say nothing."""
    areas, ignored = _areas(reference), rules
    return pl.DataFrame(
        [
            (cell.cell_id, areas[cell.territory_id])
            for cell in reference.cells.values()
            if cell.territory_id in areas
            and cell.cell_id not in ignored.ignored_cells
            and not {cell.territory_id, areas[cell.territory_id]} & set(ignored.ignored_territories)
        ],
        schema={"cell_id": pl.String, "area": pl.String},
        orient="row",
    )
