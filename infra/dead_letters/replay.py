"""Dead letters after a fix: which would be accepted now, and how they get into the stream.

Each goes through the checks of every line, with the reference tables and the mapping as they are
now. What is accepted travels as rows without a source, hence without a watermark: the SIM stage
takes them as known now. They correct the stock and count as late where the stream has passed their
time. Their ids are those of their lines, so one that is sent twice, or whose file is read again,
changes nothing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.effects import Effect
from pipelines.core.service.cases import CASE_REFUSALS
from pipelines.files import replace_file
from pipelines.ingest.accepted import rows_of
from pipelines.ingest.check import Checked, Format, believable, check
from pipelines.ingest.feeds import HTTP, SCHEME
from pipelines.ingest.feeds.messages import MessageFormat, check_messages, format_of
from pipelines.ingest.mapping.mapping import Mapping
from pipelines.ingest.pack import announcement, pack_chunk, sim_cards_of, sim_ranges_of
from pipelines.ingest.pack import dead_letters as dead_letter_envelopes
from pipelines.ingest.positions import Position
from pipelines.ingest.post import EnvelopeSink
from pipelines.ingest.reading.archive import located
from pipelines.ingest.reading.files import Chunk, SourceFile
from pipelines.ingest.reading.opening import NotYet, Unreadable, Vanished, open_file
from pipelines.ingest.reference import LoadedReference, load_reference, reference_fingerprint
from pipelines.ingest.source_clock import SourceClock
from schemas.cards import CardList
from schemas.envelope import NO_WATERMARK, Header
from schemas.errors import InputError
from schemas.fields import TIME_END
from schemas.topics import CASE_EVENTS, SIM_EVENTS

#: The source that moves the stream on by a moment, so that what was replayed is folded at rest too.
SOURCE = "replay"

#: Letters checked at a time.
_AT_ONCE = 10_000


class DeadLetter(msgspec.Struct, frozen=True):
    """A dead letter; `received_at` in ms."""

    source: str
    position: int
    received_at: int
    reason: str
    payload: bytes


@dataclass
class Recheck:
    """What the checks say of dead letters now.

    `accepted` go into the stream as `effects`; `settled` are lines of reference tables that are
    right now; `refused` come with the reason that holds now.
    """

    effects: list[Effect] = field(default_factory=list)
    accepted: list[DeadLetter] = field(default_factory=list)
    settled: list[DeadLetter] = field(default_factory=list)
    refused: list[tuple[DeadLetter, str]] = field(default_factory=list)

    @property
    def resolved(self) -> list[DeadLetter]:
        """Letters that nobody has to act on any more."""
        return self.accepted + self.settled


def recheck(
    dead_letters: Iterable[DeadLetter],
    directory: Path,
    mapping: Mapping | None,
    partitions: int,
    live: bool = False,
    tables: LoadedReference | None = None,
) -> Recheck:
    """Put dead letters to the checks, in the order of their lines; `live` as in `IngestOptions`.

    `directory` is the exchange directory that they come from: its reference tables are used, if
    none are given, and the headers of its files. Raises `InputError` if it has no reference tables.
    """
    loaded = tables or load_reference(directory / "reference")
    result = Recheck()
    ordered = sorted(dead_letters, key=lambda dead: (dead.source, dead.position))
    for source, group in groupby(ordered, key=lambda dead: dead.source):
        some = list(group)
        if source.startswith("reference/"):
            _recheck_reference(source, some, loaded, result)
            continue
        result.refused += [
            (dead, f"{dead.reason} (its case decides, and takes it back once it fits)")
            for dead in some
            if dead.reason.startswith(CASE_REFUSALS)
        ]
        some = [dead for dead in some if not dead.reason.startswith(CASE_REFUSALS)]
        lines = [dead for dead in some if dead.payload]
        if whole := [dead for dead in some if not dead.payload]:
            _recheck_file(source, directory, mapping, whole, result)
        how = _format(source, directory, mapping)
        if isinstance(how, str):
            result.refused += [(dead, how) for dead in lines]
            continue
        for start in range(0, len(lines), _AT_ONCE):
            few = lines[start : start + _AT_ONCE]
            checked = _check(few, how, believable(live))
            _recheck_lines(few, checked, loaded, partitions, result)
    if result.effects:  # The readers say so, too, perhaps not yet.
        result.effects = [
            *sim_ranges_of(loaded.reference, partitions),
            *sim_cards_of(_cards_of(result.effects, loaded.reference.cards), partitions),
            *result.effects,
        ]
    return result


def _cards_of(effects: list[Effect], cards: CardList) -> CardList:
    """Those that rows are about."""
    about = [
        effect.rows[name].to_numpy()
        for effect in effects
        if effect.rows is not None
        for name in ("imsi", "first_imsi")
        if name in effect.rows.schema.names
    ]
    return cards.filter(np.isin(cards.imsis, np.concatenate([np.empty(0, np.int64), *about])))


def _recheck_reference(
    source: str, dead_letters: list[DeadLetter], loaded: LoadedReference, result: Recheck
) -> None:
    wrong = {(line.source, line.line): line.reason for line in loaded.refused}
    for dead in dead_letters:
        reason = wrong.get((source, dead.position))
        if reason is None:
            result.settled.append(dead)
        else:
            result.refused.append((dead, reason))


def _recheck_file(
    source: str, directory: Path, mapping: Mapping | None, dead: list[DeadLetter], result: Recheck
) -> None:
    """A file that could be read no further is settled once it can: its reader reads it on."""
    if source.startswith(("events/", "cdr/")):
        try:
            for _ in rows_of(SourceFile(source, located(directory, source)), mapping):
                pass
        except InputError:
            pass
        else:
            result.settled += dead
            return
    result.refused += [
        (one, f"{one.reason} (not a line: the whole file has to be replaced)") for one in dead
    ]


def _format(source: str, directory: Path, mapping: Mapping | None) -> Format | MessageFormat | str:
    """How to read lines of a file or messages of a topic, or why they cannot be read."""
    if source.startswith(SCHEME):
        topic = source.rpartition("/")[0]
        return format_of(topic, mapping.export_of(topic) if mapping is not None else None)
    if source.startswith(HTTP):
        return Format("ndjson")
    if not source.startswith(("events/", "cdr/")):
        return "not from a file: it can only be sent again by whoever sent it"
    file = SourceFile(source, located(directory, source))
    if file.kind == "ndjson":
        return Format("ndjson")
    try:
        opened = open_file(source, file, None, mapping, False)
    except (Vanished, Unreadable, NotYet, OSError, zlib.error):
        return f"{source} is not there any more, and nothing else says what its columns are"
    if opened.how.kind == "csv" and opened.how.dialect is None:
        return f"{source} still has no header that fits"
    return opened.how


def _recheck_lines(
    dead_letters: Sequence[DeadLetter],
    checked: Checked,
    loaded: LoadedReference,
    partitions: int,
    result: Recheck,
) -> None:
    # Nothing is too late here: the SIM side says what is.
    clock = SourceClock(disorder=TIME_END)
    packed = pack_chunk(checked, "", clock, loaded.reference, partitions, SOURCE)
    reasons = {line: reason for line, reason, _ in packed.refused}
    result.effects += [effect for effect in packed.effects if effect.rows is not None]
    line = 0
    for dead in dead_letters:
        reason = reasons.get(line)
        line += dead.payload.count(b"\n") + 1  # A record may take several lines.
        if reason is not None:
            result.refused.append((dead, reason))
        else:
            result.accepted.append(dead)


def _check(dead_letters: Sequence[DeadLetter], how: Format | MessageFormat, before: int) -> Checked:
    """The dead letters as a chunk whose lines count from 0."""
    if isinstance(how, MessageFormat):
        payloads = [dead.payload for dead in dead_letters]
        starts = np.cumsum([0, *(payload.count(b"\n") + 1 for payload in payloads[:-1])])
        return check_messages(payloads, starts, how, before)[1]
    if how.kind == "parquet":
        rows = [msgspec.json.decode(dead.payload, type=dict) for dead in dead_letters]
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: pa.array([_text(row.get(name)) for row in rows]) for name in names}
        if how.export is None:  # A dead letter shows a timestamp as Python does, with a space.
            columns["start_time"] = pc.replace_substring(columns["start_time"], " ", "T")
        return check(Chunk(0, len(rows), rows=pa.record_batch(columns)), how, before)
    data = b"".join(dead.payload + b"\n" for dead in dead_letters)
    return check(Chunk(0, data.count(b"\n"), data=data), how, before)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def fix_of(directory: Path, mapping: Path | None) -> str:
    """A hash of the reference tables and the mapping file."""
    tables = reference_fingerprint(directory / "reference")
    digest = hashlib.blake2b(tables.encode(), digest_size=16)
    if mapping is not None:
        digest.update(mapping.read_bytes())
    return digest.hexdigest()


async def send(name: str, effects: list[Effect], post: EnvelopeSink) -> None:
    """Send what was accepted, and note under `name` that it was.

    When it returns, all of it is on the topics.
    """
    positions = await post.positions()
    newest = max((p.newest for p in positions.values()), default=NO_WATERMARK)
    await post.send(effects)
    if newest != NO_WATERMARK:
        # At rest the stream has promised all times up to newest + 1; what comes now is known then,
        # and is folded once the promise goes a moment further.
        newest = max(newest, _newest(effects)) + 1
        await post.send(announcement(Header("none", SOURCE, newest + 1, True), post.partitions))
    await post.keep({_note(name): Position(SOURCE, 0, "", newest=newest, done=True)})


def _newest(effects: list[Effect]) -> int:
    times = [
        pc.max(effect.rows["at"]).as_py()
        for effect in effects
        if effect.topic in (SIM_EVENTS, CASE_EVENTS)
        and effect.rows is not None
        and "at" in effect.rows.schema.names
    ]
    return max(times, default=NO_WATERMARK)


def _note(name: str) -> str:
    return f"{SOURCE}/{name}"


# Orders: what the next embedded run is to replay


def orders(data: Path) -> list[Path]:
    """Letters handed to a data directory for replay, the oldest order first."""
    return sorted((data / SOURCE).glob("*.ndjson"))


def place_order(data: Path, name: str, dead_letters: list[DeadLetter]) -> Path:
    """Leave dead letters for the next run to replay; it appears whole or not at all."""
    folder = data / SOURCE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.ndjson"
        replace_file(path, b"".join(msgspec.json.encode(dead) + b"\n" for dead in dead_letters))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    return path


def read_order(path: Path) -> list[DeadLetter]:
    """The dead letters of an order. Raises `InputError` if the file is damaged."""
    try:
        lines = path.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=DeadLetter) for line in lines]
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path} cannot be read ({error}): remove it and replay again") from None


def waiting(data: Path, done: Iterable[str]) -> list[Path]:
    """The orders that no run has carried out; `done` are the names in the positions kept."""
    known = set(done)
    return [path for path in orders(data) if _note(path.stem) not in known]


async def carry_out(
    data: Path, directory: Path, mapping: Mapping | None, post: EnvelopeSink, live: bool = False
) -> int:
    """Replay what was ordered; how many dead letters went out.

    What is refused again, because the fix was undone, is a new dead letter.
    """
    sent = 0
    for path in waiting(data, await post.positions()):
        found = recheck(read_order(path), directory, mapping, post.partitions, live)
        again = [
            effect
            for dead, reason in found.refused
            for effect in dead_letter_envelopes(
                dead.source, [(dead.position, reason, dead.payload)], post.partitions
            )
        ]
        await send(path.stem, found.effects + again, post)
        sent += len(found.accepted)
    return sent
