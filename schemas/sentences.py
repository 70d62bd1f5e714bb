"""What jobs say of a row in words, for people: reasons and explanations in the tables.

Each sentence stands here once, so that the desk can say it in another language. Tables hold English
and part sentences by `; `; `{}` is a number, a name or an amount.
"""

from __future__ import annotations

from typing import Final

#: What parts the sentences of one text.
BETWEEN: Final = "; "

# an outlet to promote
SELLS: Final = "sells {} a month, number {} of {}"
GREW: Final = "grew by {} %"
GROWTH_NOT_KNOWN: Final = "growth not known"
KNOWN_UNTIL: Final = "not decided: known until {} only"
EMPTY_ON: Final = "empty on {} of {} shelf days"

# commission: a SIM's line, and what becomes of the lines
ACTIVATED: Final = "activated"
SILENT: Final = "taken back: silent for {} days by day {}"
DIVERTED: Final = "taken back: diversion confirmed"
DISMISSED: Final = "given back: diversion dismissed"
FEE_EARNS: Final = "fee {} yuan earns {} yuan"
NO_FEE: Final = "{} has no fee in the plan"
LINES_TIMES: Final = "lines: {} × {}"
FEES_TIMES: Final = "fees / 2 × {}: {} × {}"
TAKEN_BACK: Final = "{} taken back"
GIVEN_BACK: Final = "{} given back"

# a unit of the grid, a meter
PARENT_UNKNOWN: Final = "its parent {} is not among the grid units"
LOOP: Final = "the hierarchy has a loop: {}"
NO_SUPPLY: Final = "no supply reading"
OVERSOLD: Final = "more was sold than supplied: check meters and who hangs on this unit"
METERS_READ: Final = "{} of {} meters read: the loss may be a gap"
READ_UNTIL: Final = "readings until {} only"
NO_CUSTOMER_READ: Final = "no customer's meter was read"
LOSS_OVER: Final = "loss rate over {}"
OWN_LOSS_UNKNOWN: Final = "own loss unknown: {} of {} children have no supply reading"
NOTHING_USED: Final = "nothing used"
USED_LESS: Final = "{}% less than its {} months before"
USED_MORE: Final = "{}% more than its {} months before"
NEIGHBOURS: Final = "neighbours {}%"

# a customer's credit
THEFTS: Final = "{} record(s) of tampering or theft in a year"
OVERDUE: Final = "{} yuan overdue, the oldest for {} days"
PAID_LATE: Final = "paid late {} time(s) in a year, {} days on average"
DISPUTES: Final = "{} dispute(s) in a year"

SENTENCES: Final = (
    SELLS, GREW, GROWTH_NOT_KNOWN, KNOWN_UNTIL, EMPTY_ON,
    ACTIVATED, SILENT, DIVERTED, DISMISSED, FEE_EARNS, NO_FEE, LINES_TIMES, FEES_TIMES,
    TAKEN_BACK, GIVEN_BACK,
    PARENT_UNKNOWN, LOOP, NO_SUPPLY, OVERSOLD, METERS_READ, READ_UNTIL, LOSS_OVER,
    NO_CUSTOMER_READ,
    OWN_LOSS_UNKNOWN,
    NOTHING_USED, USED_LESS, USED_MORE, NEIGHBOURS,
    THEFTS, OVERDUE, PAID_LATE, DISPUTES,
)  # fmt: skip
