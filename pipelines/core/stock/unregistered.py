"""First uses of SIMs that no batch holds yet: kept until one does, else for ever.

The earliest use of each such SIM is a fact like any other, and a batch may name the SIM later. A
SIM takes 8 bytes for its number, 8 for the time, and the event's id as long as history is restated
so far back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.stock.sim_registry import Int64s

#: Begins the keys of the state table.
UNREGISTERED_KEY: Final = b"unregistered"

#: Uses that are rewritten at each commit before they are written once and for all, and how many
#: of these an entry of the state table holds.
_MOST_OPEN: Final = 500
_ENTRY_ROWS: Final = 2_000

#: Uses that wait beside the sorted ones: so many, or this share of those.
_MOST_RECENT: Final = 10_000
_RECENT_SHARE: Final = 16

#: Instead of a time: a batch names the SIM now.
_TAKEN: Final = np.iinfo(np.int64).min


class FirstUse(NamedTuple):
    """A SIM's earliest use, `at` in ms; the event is '' when it is too old to be restated."""

    imsi: int
    at: int
    event_id: str


class _StoredUses(msgspec.Struct, array_like=True):
    """Columns of uses: IMSIs and times (int64, ms) as bytes, and ids."""

    imsis: bytes
    at: bytes
    ids: list[str]


#: The same as arrays.
_Run = tuple[Int64s, Int64s, pa.Array]


class UnregisteredUses:
    """The earliest use of each SIM, of all that were given; ids as old as `since` (ms) may go."""

    def __init__(self) -> None:
        self.since = _TAKEN
        none = np.empty(0, np.int64)
        # Ascending by IMSI, each once; `_recent` has what is earlier or not there, `_restored`
        # what was read back and not sorted in yet.
        self._imsis, self._at, self._ids = none, none, pa.array([], pa.string())
        self._recent: dict[int, tuple[int, str]] = {}
        self._restored: list[_Run] = []
        self._open: dict[int, tuple[int, str]] = {}
        self._entries = 0

    def __len__(self) -> int:
        return len(self._imsis) + len(self._recent)

    @property
    def nbytes(self) -> int:
        """Bytes that the sorted uses take."""
        return self._imsis.nbytes + self._at.nbytes + int(self._ids.nbytes)

    def keep(self, imsis: Int64s, at: Int64s, ids: pa.Array) -> bool:
        """Take uses, one a row; whether any of them is its SIM's earliest."""
        if self._restored:
            self._merge()
        places, there = self._places(imsis)
        rows = np.flatnonzero(~there)
        if len(self._imsis):
            earlier = there & (at <= self._at[places])
            rows = np.union1d(rows, np.flatnonzero(earlier))
        changed = False
        for row, event_id in zip(rows.tolist(), ids.take(pa.array(rows)).to_pylist(), strict=True):
            imsi, use = int(imsis[row]), (int(at[row]), event_id)
            known = self._recent.get(imsi)
            if known is None and there[row]:
                known = int(self._at[places[row]]), self._ids[int(places[row])].as_py()
            if known is None or use < known:
                self._recent[imsi] = self._open[imsi] = use
                changed = True
        if len(self._recent) > max(_MOST_RECENT, len(self._imsis) // _RECENT_SHARE):
            self._merge()
        return changed

    def take(self, first: Int64s, end: Int64s) -> list[FirstUse]:
        """Hand out the uses of SIMs in ranges, and keep them no more; `end` is past the last."""
        self._merge()
        starts, ends = (np.searchsorted(self._imsis, border) for border in (first, end))
        some = np.flatnonzero(starts < ends).tolist()
        runs = [np.arange(starts[i], ends[i]) for i in some]
        rows = np.concatenate(runs) if runs else np.empty(0, np.int64)
        rows = rows[self._at[rows] != _TAKEN]
        found = zip(
            self._imsis[rows].tolist(),
            self._at[rows].tolist(),
            self._ids.take(pa.array(rows)).to_pylist(),
            strict=True,
        )
        taken = [FirstUse(*use) for use in found]
        self._at[rows] = _TAKEN
        for use in taken:
            self._open.pop(use.imsi, None)
        return taken

    def _places(self, imsis: Int64s) -> tuple[Int64s, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Where each IMSI is among the sorted ones, and whether it is there."""
        if not len(self._imsis):
            return np.zeros(len(imsis), np.int64), np.zeros(len(imsis), np.bool_)
        places = np.minimum(np.searchsorted(self._imsis, imsis), len(self._imsis) - 1)
        return places, self._imsis[places] == imsis

    def _merge(self) -> None:
        """Sort in what waits beside the sorted uses, and drop what is not needed any more."""
        if not self._recent and not self._restored:
            return
        recent = _columns(self._recent)
        runs = [recent, *self._restored, (self._imsis, self._at, self._ids)]
        imsis, at = (np.concatenate([run[i] for run in runs]) for i in (0, 1))
        # What is recent is earlier; of what was read back nobody knows.
        order = np.lexsort((at, imsis)) if self._restored else np.argsort(imsis, kind="stable")
        first = np.ones(len(order), np.bool_)
        first[1:] = imsis[order[1:]] != imsis[order[:-1]]
        order = order[first]
        order = order[at[order] != _TAKEN]
        self._imsis, self._at = imsis[order], at[order]
        ids = pa.concat_arrays([run[2] for run in runs]).take(pa.array(order))
        old = self._at < self.since
        self._ids = pc.if_else(pa.array(old), "", ids) if old.any() else ids
        self._recent, self._restored = {}, []

    # Keeping state

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        """What has to be written to the state table since the last time.

        What is taken stays in older entries: whoever restores them finds it used already.
        """
        if len(self._open) > _MOST_OPEN:
            imsis, at, ids = _columns(self._open)
            for start in range(0, len(imsis), _ENTRY_ROWS):
                rows = slice(start, start + _ENTRY_ROWS)
                key = UNREGISTERED_KEY + b"/%d" % self._entries
                yield key, _encode((imsis[rows], at[rows], ids[rows]))
                self._entries += 1
            self._open = {}
        yield UNREGISTERED_KEY, _encode(_columns(self._open))

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back an entry of `snapshot`; entries may repeat each other."""
        stored = msgspec.msgpack.decode(value, type=_StoredUses)
        imsis, at = (np.frombuffer(data, np.int64) for data in (stored.imsis, stored.at))
        self._restored.append((imsis, at, pa.array(stored.ids, pa.string())))
        number = key.removeprefix(UNREGISTERED_KEY).removeprefix(b"/")
        if number:
            self._entries = max(self._entries, int(number) + 1)
        else:
            uses = zip(at.tolist(), stored.ids, strict=True)
            self._open = dict(zip(imsis.tolist(), uses, strict=True))


def _columns(uses: dict[int, tuple[int, str]]) -> _Run:
    return (
        np.fromiter(uses, np.int64, len(uses)),
        np.fromiter((at for at, _ in uses.values()), np.int64, len(uses)),
        pa.array([event_id for _, event_id in uses.values()], pa.string()),
    )


def _encode(run: _Run) -> bytes:
    imsis, at, ids = run
    return msgspec.msgpack.encode(_StoredUses(imsis.tobytes(), at.tobytes(), ids.to_pylist()))
