"""The watchdog's outlet: made up by readers so that somebody sees when the chain breaks.

Every few minutes it is given a card and loses it: a stock-out that goes through readers, stock and
alerts workers like any other, and ends in the alerts worker instead of on a phone. It is no shop of
anybody: the warehouse takes no row about it, so no table and no figure has it.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

#: The outlet, its wholesaler and its SKU; sources and events of watchdogs begin so.
WATCHDOG: Final = "zerostock-watchdog"

#: Its cards. 999 is the country code of networks that are nobody's.
FIRST_IMSI: Final = 999_990_000_000_000
FIRST_ICCID: Final = "8999990000000000000"
CARDS: Final = 1_000


def without_watchdog(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that are about real outlets."""
    names = rows.schema.names
    if "outlet_id" in names:
        made_up = pc.equal(rows["outlet_id"], WATCHDOG)
    elif "event_id" in names:
        made_up = pc.starts_with(rows["event_id"], WATCHDOG)
    else:
        return rows
    return rows.filter(pc.invert(made_up)) if pc.any(made_up).as_py() else rows
