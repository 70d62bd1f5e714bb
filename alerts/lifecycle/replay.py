"""What would have been decided of recorded stock-outs under other rules. Pure.

The decisions are `alerts.lifecycle.lifecycle`'s own, fed from the record instead of the stream.
People's reactions are not replayed: a shelf is refilled when it was, however early its wholesaler
would have been notified. Answers count when they did, for those stock-outs they were about that had
been notified by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import NamedTuple

from alerts.lifecycle.grouping import AlertGroup, Change
from alerts.lifecycle.lifecycle import advance, defer, note_id
from alerts.lifecycle.state import HeardAnswer, WholesalerState, hear, hold
from alerts.policy.rules import PHONE, AlertRules

#: What a message to a wholesaler, or to who stands in for them, is when it tells of a stock-out.
TELLING = ("stock_out", "delayed", "digest", "reminder")


class Notice(NamedTuple):
    """A stock-out that a message named; `what` is a group's kind, `to` its address, `at` ms.

    A message is all notices of one wholesaler, moment, kind and address.
    """

    wholesaler_id: str
    at: int
    what: str
    to: str
    incident_id: str


class WholesalerRecord(NamedTuple):
    """What is on record of one wholesaler.

    `changes` are in the order of `at`, `answers` in the order in which they counted; `about` has
    the stock-outs that messages listed, by message; `notified` what went out and `failed` what did
    not; `stale` is what of that was too old to be of use, with when that was known (ms).
    """

    wholesaler_id: str
    changes: Sequence[Change]
    answers: Sequence[HeardAnswer]
    about: dict[str, list[str]]
    notified: set[Notice]
    failed: set[Notice]
    stale: dict[Notice, int]


def replay(record: WholesalerRecord, rules: AlertRules, until: int, *, final: bool) -> set[Notice]:
    """The notices that would have gone out up to `until` (ms), under the rules.

    What failed fails again, and an address that took nothing takes nothing. `final` says that the
    input ended there, see `lifecycle.advance`.
    """
    state = WholesalerState(record.wholesaler_id)
    failed = record.failed.difference(record.stale)
    deaf = {notice.to for notice in failed} - {notice.to for notice in record.notified}
    notified: set[Notice] = set()
    knew: set[tuple[str, str]] = set()
    changes = deque(record.changes)
    for moment, heard in _moments(record, until):
        last = final and moment == until and heard is None
        while changes and (last or changes[0].at < moment):
            hold(state, changes.popleft())
        for group in advance(state, moment, rules, final=last).groups:
            notices = _notices(group)
            for notice in notices:
                known = group.kind != "resolved" or (notice.incident_id, group.to) in knew
                if known and notice not in record.failed and group.to not in deaf:
                    notified.add(notice)
                    knew.add((notice.incident_id, group.to))
            for notice in notices:
                if notice in record.stale:
                    defer(state, [notice.incident_id], rules, record.stale[notice])
        if heard is not None:
            name = heard.answer.message_id
            note_id(state, name, record.about.get(name, ()), PHONE)
            hear(state, heard.answer, heard.at)
    return notified


def _notices(group: AlertGroup) -> list[Notice]:
    """What a message tells of."""
    return [
        Notice(group.wholesaler_id, group.due_at, group.kind, group.to, incident.incident_id)
        for incident in group.incidents
    ]


def _moments(record: WholesalerRecord, until: int) -> Iterator[tuple[int, HeardAnswer | None]]:
    """The watermarks at which something came in besides stock-outs, and the last."""
    answers = ((heard.at, 1, heard) for heard in record.answers if heard.at < until)
    stale = ((at, 0, None) for at in sorted({n.at + 1 for n in record.stale if n.at < until}))
    for at, _, heard in merge(answers, stale, key=lambda moment: moment[:2]):
        yield at, heard
    yield until, None
