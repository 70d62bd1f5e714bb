"""A block: what is known of `SIM_BLOCK` consecutive SIMs, and its bytes in the state table.

State is facts: the first use of each SIM, the placements that covered it, and what is held until
the watermark passes; a SIM's place follows from them. Facts only grow, and adding one twice changes
nothing, so repeating work after a crash is harmless.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from pipelines.core.stock import placement as rules
from pipelines.core.stock.placement import Placement, PlacementType, Use
from pipelines.core.stock.sim_registry import UNUSED, Int64s, SimRegistry
from schemas.topics import SIM_BLOCK


class _StoredBlock(msgspec.Struct, array_like=True):
    """The bulk of a block: offsets (u16) and first uses (i64 ms) of its used SIMs, and placements.

    `ids` has the events of those first uses that history may still be restated for, by offset:
    msgpack of dict[int, str]. It is written seldom; what came since is in `_StoredRecent`.
    """

    folded: int
    used: bytes
    first_use: bytes
    history: list[Placement]
    ids: bytes


class _StoredRecent(msgspec.Struct, array_like=True):
    """First uses since the bulk was written, by offset (time in ms, event), and what is held."""

    folded: int
    used: dict[int, tuple[int, str]]
    held_placements: list[Placement]
    held_uses: list[Use]


#: First uses of a block that are rewritten at each commit before they go into its bulk.
_MOST_RECENT = 50

#: Ends the key of a block's recent part; the number alone is the key of its bulk.
_RECENT = b"+"


#: What `_StoredBlock.ids` is while there are none.
_NO_IDS = msgspec.msgpack.encode({})

_decode_ids = msgspec.msgpack.Decoder(dict[int, str]).decode


def block_number(key: bytes) -> int:
    """The number of the block that an entry of the state table belongs to."""
    return int(key.removesuffix(_RECENT))


class Block:
    """The facts about `SIM_BLOCK` consecutive SIMs."""

    def __init__(self, number: int, registry: SimRegistry) -> None:
        self.number = number
        self.first_imsi = number * SIM_BLOCK
        self._registry = registry
        self._view = registry.block_view(number)
        self._viewed = registry.first_use
        self.folded = 0
        self.history: list[Placement] = []
        self.held_placements: dict[tuple[str, int], Placement] = {}
        self.held_uses: dict[int, list[Use]] = {}
        self._recent: dict[int, tuple[int, str]] = {}
        self._ids = _NO_IDS
        self._bulk_is_old = False
        self._seen: set[tuple[str, int]] = set()
        # Where each SIM is, as an index into `_outlets`; follows from the history.
        self._outlets: list[str] = [rules.NOWHERE]
        self._place = np.zeros(SIM_BLOCK, np.int16)

    @property
    def first_use(self) -> Int64s:
        """When each SIM was first used, ms: the block's part of `SimRegistry.first_use`."""
        if self._viewed is not self._registry.first_use:  # which grew
            self._view = self._registry.block_view(self.number)
            self._viewed = self._registry.first_use
        return self._view

    def hold_placement(self, fact: Placement) -> bool:
        """Keep a placement until its time; False if it is known already, or was folded.

        A copy from a source that was too late with it may come before the punctual one.
        """
        if fact.known_at < self.folded:
            return False
        held = self.held_placements.get(fact.key)
        if fact.key in self._seen and (held is None or held.known_at <= fact.known_at):
            return False
        self._seen.add(fact.key)
        self.held_placements[fact.key] = fact
        return True

    def hold_use(self, fact: Use) -> bool:
        """Keep a use until its time.

        False if it was folded, or if an earlier one known no later makes it needless.
        """
        if fact.known_at < self.folded:
            return False
        held = self.held_uses.setdefault(fact.imsi, [])
        if any(u.order <= fact.order and u.known_at <= fact.known_at for u in held):
            return False
        held[:] = [u for u in held if not (fact.order <= u.order and fact.known_at <= u.known_at)]
        held.append(fact)
        return True

    def due(self, watermark: int) -> list[Placement | Use]:
        """Take out all held facts known before the watermark, in the order of folding."""
        facts: list[Placement | Use] = []
        for key, fact in list(self.held_placements.items()):
            if fact.known_at < watermark:
                facts.append(self.held_placements.pop(key))
        for imsi, uses in list(self.held_uses.items()):
            facts.extend(u for u in uses if u.known_at < watermark)
            uses[:] = [u for u in uses if u.known_at >= watermark]
            if not uses:
                del self.held_uses[imsi]
        facts.sort(key=lambda f: (f.known_at, f.counts_at, f.event_id))
        return facts

    def next_known(self) -> int | None:
        """When the earliest held fact became known."""
        times = [f.known_at for f in self.held_placements.values()]
        times += [u.known_at for uses in self.held_uses.values() for u in uses]
        return min(times, default=None)

    def place(self, imsi: int) -> str:
        """Where a SIM is that is not active."""
        return self.outlet(int(self._place[imsi - self.first_imsi]))

    def places(self, fact: Placement) -> tuple[slice, Int64s]:
        """The offsets a placement covers, and the outlet index of each."""
        start = fact.first_imsi - self.first_imsi
        covered = slice(start, start + fact.count)
        return covered, self._place[covered].astype(np.int64)

    def outlet_index(self, outlet_id: str) -> int:
        """The index that stands for an outlet in this block."""
        try:
            return self._outlets.index(outlet_id)
        except ValueError:
            self._outlets.append(outlet_id)
            return len(self._outlets) - 1

    def outlet(self, index: int) -> str:
        """The outlet behind an index."""
        return self._outlets[index]

    def put(self, offsets: slice | Int64s, outlet_id: str) -> None:
        """Note where SIMs are now."""
        self._place[offsets] = self.outlet_index(outlet_id)

    def remember(self, fact: Placement) -> None:
        """Add a folded placement to the history."""
        insort(self.history, fact, key=lambda f: f.order)
        self._bulk_is_old = True

    def use(self, use: Use) -> None:
        """Note a SIM's first use, or an earlier one than was known."""
        offset, at = use.imsi - self.first_imsi, max(use.counts_at, UNUSED + 1)
        self.first_use[offset] = at
        self._recent[offset] = at, use.event_id

    def first_use_of(self, imsi: int) -> Use | None:
        """A SIM's first use; its event is '' when history is no longer restated so far back."""
        offset = imsi - self.first_imsi
        at = int(self.first_use[offset])
        if at == UNUSED:
            return None
        since, event_id = self._recent.get(offset, (UNUSED, ""))
        if since != at:
            event_id = _decode_ids(self._ids).get(offset, "")
        return Use(at, event_id, at, imsi, at)

    def entries(self, restate_within: int) -> Iterator[tuple[bytes, bytes]]:
        """What has to be written to the state table: the bulk only if it must, then the rest."""
        key = str(self.number).encode()
        if self._bulk_is_old or len(self._recent) > _MOST_RECENT:
            self._bulk_is_old = False
            since = self.folded - restate_within
            ids = _decode_ids(self._ids)
            ids |= {o: id for o, (at, id) in self._recent.items() if at == self.first_use[o]}
            ids = {o: event for o, event in ids.items() if self.first_use[o] >= since}
            self._ids = msgspec.msgpack.encode(ids) if ids else _NO_IDS
            self._recent.clear()
            yield key, self.encode()
        held = sorted(self.held_placements.values(), key=lambda f: f.order)
        uses = [u for _, uses in sorted(self.held_uses.items()) for u in uses]
        yield (
            key + _RECENT,
            msgspec.msgpack.encode(_StoredRecent(self.folded, self._recent, held, uses)),
        )

    def encode(self) -> bytes:
        """The bulk as it is kept in the state table."""
        used = np.flatnonzero(self.first_use != UNUSED)
        return msgspec.msgpack.encode(
            _StoredBlock(
                self.folded,
                used.astype(np.uint16).tobytes(),
                self.first_use[used].tobytes(),
                self.history,
                self._ids,
            )
        )

    def restore(self, key: bytes, value: bytes) -> None:
        """Take back an entry of `entries`, newer ones of a key after older ones."""
        if key.endswith(_RECENT):
            self._restore_recent(value)
        else:
            self._restore_bulk(value)

    def _restore_bulk(self, data: bytes) -> None:
        stored = msgspec.msgpack.decode(data, type=_StoredBlock)
        used = np.frombuffer(stored.used, np.uint16)
        self._first_used(used, np.frombuffer(stored.first_use, np.int64))
        self.history = stored.history
        self._ids = stored.ids
        self._outlets = [rules.NOWHERE]
        self._place[:] = 0
        for fact in self.history:
            self._replay(fact)
        self._settle(stored.folded)

    def _restore_recent(self, data: bytes) -> None:
        """The bulk may come before or after its recent part, or be newer."""
        stored = msgspec.msgpack.decode(data, type=_StoredRecent)
        self._recent = stored.used
        self._first_used(
            np.fromiter(stored.used.keys(), np.uint16),
            np.fromiter((at for at, _ in stored.used.values()), np.int64),
        )
        self.held_placements = {f.key: f for f in stored.held_placements}
        self.held_uses = {}
        for use in stored.held_uses:
            self.held_uses.setdefault(use.imsi, []).append(use)
        self._settle(stored.folded)

    def _first_used(self, offsets: npt.NDArray[np.uint16], at: Int64s) -> None:
        """First uses only ever move back, so the earliest of all that was written holds."""
        known = self.first_use[offsets]
        self.first_use[offsets] = np.where(known == UNUSED, at, np.minimum(known, at))

    def _settle(self, folded: int) -> None:
        """What was known before the newest mark has been folded, whatever an older entry holds."""
        self.folded = max(self.folded, folded)
        done = {f.key for f in self.history}
        self.held_placements = {
            key: f
            for key, f in self.held_placements.items()
            if f.known_at >= self.folded and key not in done  # an older entry has a later copy
        }
        kept = {
            imsi: [u for u in uses if u.known_at >= self.folded]
            for imsi, uses in self.held_uses.items()
        }
        self.held_uses = {imsi: uses for imsi, uses in kept.items() if uses}
        self._seen = done | set(self.held_placements)

    def _replay(self, fact: Placement) -> None:
        """Move the SIMs of a folded placement, given in event order."""
        covered, places = self.places(fact)
        here = self.outlet_index(fact.outlet_id)
        if fact.type == PlacementType.DELIVERY:
            self._place[covered] = here
            return
        _, target = fact.outlet_id, rules.NOWHERE
        if fact.type == PlacementType.TRANSFER:
            target = fact.to_outlet_id
        self._place[covered] = np.where(places == here, self.outlet_index(target), places)
