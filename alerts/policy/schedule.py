"""Which policy holds when: those on the log in order, each from the watermark it met on. Pure.

A policy counts for what falls due after that watermark, whenever it is read: so a replay, and every
worker, decides alike, however the log is cut into steps.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

import msgspec

from alerts.policy.policy import parse_policy
from alerts.policy.rules import AlertRules
from schemas.answers import PolicyRecord
from schemas.envelope import NO_WATERMARK
from schemas.errors import SettingsError

log = logging.getLogger(__name__)

#: Policies kept: those that some wholesaler's alerts may not have come to yet.
_KEPT: Final = 8

#: Ids remembered: no more records are read again after a crash.
_REMEMBERED: Final = 64


class Era(NamedTuple):
    """A policy, and the event time (ms) from which on it holds."""

    since: int
    record: PolicyRecord
    rules: AlertRules


class _StoredPolicyEra(msgspec.Struct, array_like=True):
    since: int
    record: PolicyRecord


class _StoredSchedule(msgspec.Struct, array_like=True):
    seen: list[str]
    eras: list[_StoredPolicyEra]
    refused: bool = False


class PolicySchedule:
    """The policies of one partition. `rules` is what policies are bound to.

    With `awaited` its policy counts for nothing: what holds is on the log, and nothing can be
    decided before it has come.
    """

    def __init__(self, rules: AlertRules, *, awaited: bool = False) -> None:
        self._base = rules
        self._seen: list[str] = []
        self._refused = False
        self.eras = [] if awaited else [Era(NO_WATERMARK, PolicyRecord("", 0, "", ""), rules)]

    @property
    def rules(self) -> AlertRules:
        """Those that were read last."""
        return self.eras[-1].rules if self.eras else self._base

    @property
    def since(self) -> int:
        """From when on they hold."""
        return self.eras[-1].since if self.eras else NO_WATERMARK

    def knows(self, record: PolicyRecord) -> bool:
        """Whether a record was read before."""
        return record.record_id in self._seen

    def take(self, record: PolicyRecord, watermark: int) -> bool:
        """Have a record count from the watermark it met on; whether there is news in it.

        One that says what holds already changes nothing. The first holds from the beginning.
        """
        self._seen = [*self._seen, record.record_id][-_REMEMBERED:]
        mended, self._refused = self._refused, bool(record.error)
        if record.error and self.eras:
            return True
        since = max(watermark + 1, self.since) if self.eras else NO_WATERMARK
        try:
            rules = self._bound(since, record)
        except SettingsError as error:  # written by a newer version, or by a foreign program
            log.error("a policy on the log cannot be used, the old one holds: %s", error)  # noqa: TRY400
            return False
        if self.eras and rules.fingerprint == self.rules.fingerprint:
            return mended
        first = not self.eras
        self.eras = [*self.eras, Era(since, record, rules)][-_KEPT:]
        return mended or not first or bool(record.error)

    def of(self, since: int) -> AlertRules:
        """The rules for alerts that have come to the policy which holds since then."""
        held = [era.rules for era in self.eras if era.since <= since]
        return held[-1] if held else self.eras[0].rules if self.eras else self._base

    def after(self, since: int) -> list[Era]:
        """The policies that follow that one."""
        return [era for era in self.eras if era.since > since]

    def encode(self) -> bytes:
        """All of it as bytes."""
        eras = [_StoredPolicyEra(era.since, era.record) for era in self.eras]
        return msgspec.msgpack.encode(_StoredSchedule(self._seen, eras, self._refused))

    def restore(self, data: bytes) -> None:
        """Take back what `encode` wrote."""
        stored = msgspec.msgpack.decode(data, type=_StoredSchedule)
        self._seen, self._refused = stored.seen, stored.refused
        self.eras = [Era(e.since, e.record, self._bound(e.since, e.record)) for e in stored.eras]

    def _bound(self, since: int, record: PolicyRecord) -> AlertRules:
        if not record.record_id:
            return self._base
        policy = parse_policy(record.text, record.name) if record.name else None
        first = since == NO_WATERMARK
        return self._base.by(policy, None if first else (since, record.at))
