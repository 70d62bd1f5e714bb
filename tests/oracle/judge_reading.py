"""Reads an exchange directory for the judge: every line is an accepted event, a stranger's or a
dead letter. Slow where it likes to be, except for the CDRs of strangers, which are many.

Rows are checked one by one with plain Python; a regular expression in Polars only spares that
work to the rows that are beyond doubt.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipelines.simulate.truth import TrueDeadLetter
from schemas.errors import InputError

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)")
_IMSI = re.compile(r"[0-9]{14,15}")
_ICCID = re.compile(r"[0-9]{18,22}")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_COLUMNS = ("call_id", "start_time", "imsi", "msisdn", "duration_s", "cell_id", "charge_fen")
_PLAIN_ROW = (
    r"^(?<call_id>[^,\"]+),(?<local>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})"
    r"(?<sign>[+-Z])(?:(?<hours>\d\d):(?<minutes>\d\d))?,(?<imsi>[0-9]{15}),[^,\"]*,"
    r"[0-9]{1,9},[^,\"]+,[0-9]{1,12}$"
)


class Bad(Exception):
    """A line that cannot be used; the message is the reason."""


class Placement(NamedTuple):
    """`sims` are (batch number, position); `outlet_id` is where they come from or go."""

    at: int
    event_id: str
    kind: str
    outlet_id: str
    to_outlet_id: str
    sims: list[tuple[int, int]]


class Use(NamedTuple):
    at: int
    event_id: str
    sim: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    sku: str
    first_iccid: int
    first_imsi: int
    count: int


@dataclass
class Reference:
    outlets: set[str]
    wholesalers: set[str]
    batches: list[Batch]
    #: outlet_id → (valid_from, wholesaler_id), oldest first.
    assignments: dict[str, list[tuple[int, str]]]

    def by_iccid(self, iccid: int) -> tuple[int, int] | None:
        for number, batch in enumerate(self.batches):
            if 0 <= iccid - batch.first_iccid < batch.count:
                return number, iccid - batch.first_iccid
        return None

    def by_imsi(self, imsi: int) -> tuple[int, int] | None:
        for number, batch in enumerate(self.batches):
            if 0 <= imsi - batch.first_imsi < batch.count:
                return number, imsi - batch.first_imsi
        return None


@dataclass
class Read:
    """What the lines say. `uses` has each SIM's earliest use only: later ones change nothing."""

    placements: dict[str, Placement] = field(default_factory=dict)
    uses: dict[tuple[int, int], Use] = field(default_factory=dict)
    dead: list[TrueDeadLetter] = field(default_factory=list)
    beyond_bound: int = 0

    def use(self, use: Use) -> None:
        known = self.uses.get(use.sim)
        if known is None or use[:2] < known[:2]:
            self.uses[use.sim] = use


class _Bound:
    """Counts the rows of one source that came after its watermark."""

    def __init__(self, disorder_ms: int) -> None:
        self._disorder_ms = disorder_ms
        self._newest = -(2**62)
        self.beyond = 0

    def see(self, times: pl.Series) -> None:
        newest = pl.Series([self._newest, *times.cum_max().shift(1, fill_value=self._newest)])[1:]
        newest = newest.clip(lower_bound=self._newest)
        self.beyond += int((times < newest - self._disorder_ms).sum())
        if len(times):
            self._newest = max(self._newest, times.max())  # type: ignore[type-var, assignment]


def read_reference(folder: Path) -> Reference:
    """Raises `InputError` where a table is missing."""
    assignments: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in _table(folder / "assignments.csv"):
        assignments[row["outlet_id"]].append((to_ms(row["valid_from"]), row["wholesaler_id"]))
    return Reference(
        outlets={row["outlet_id"] for row in _table(folder / "outlets.csv")},
        wholesalers={row["wholesaler_id"] for row in _table(folder / "wholesalers.csv")},
        batches=[
            Batch(r["sku"], int(r["first_iccid"]), int(r["first_imsi"]), int(r["count"]))
            for r in _table(folder / "sim_batches.csv")
        ],
        assignments={outlet: sorted(spans) for outlet, spans in assignments.items()},
    )


def read_events(directory: Path, reference: Reference, disorder_ms: int) -> Read:
    """All files under events/ and cdr/, each folder in the order of its file names."""
    read = Read()
    bounds: defaultdict[Path, _Bound] = defaultdict(lambda: _Bound(disorder_ms))
    for path in files_of(directory):
        reader: Callable[[Path, str, Reference, Read], pl.Series]
        if ".ndjson" in path.suffixes:
            reader = _read_ndjson
        else:
            reader = _read_parquet if path.suffix == ".parquet" else _read_csv
        file = path.relative_to(directory).as_posix()
        bounds[path.parent].see(reader(path, file, reference, read))
    read.beyond_bound = sum(bound.beyond for bound in bounds.values())
    read.dead.sort()
    return read


def files_of(directory: Path) -> Iterator[Path]:
    """The input files of events/ and cdr/, by folder and name."""
    endings = (".ndjson", ".ndjson.gz", ".csv", ".csv.gz", ".parquet")
    for part in ("events", "cdr"):
        yield from sorted(p for p in (directory / part).rglob("*") if p.name.endswith(endings))


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file, unpacked, without their ends."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    lines = data.split(b"\n")
    return [line.removesuffix(b"\r") for line in (lines[:-1] if not lines[-1] else lines)]


def to_ms(text: str) -> int:
    """Raises ValueError for anything but a time with an offset."""
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error


def _read_ndjson(path: Path, file: str, reference: Reference, read: Read) -> pl.Series:
    times = []
    for number, line in enumerate(lines_of(path), 1):
        try:
            times.append(_event(line, reference, read))
        except Bad as bad:
            read.dead.append(TrueDeadLetter(file, number, str(bad)))
    return pl.Series(times, dtype=pl.Int64)


def _event(line: bytes, reference: Reference, read: Read) -> int:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise Bad("malformed") from error
    if not isinstance(event, dict):
        raise Bad("malformed")
    kind = event.get("type")
    if kind == "call":
        return _call({name: _as_text(event.get(name)) for name in _COLUMNS}, reference, read)
    if kind not in {"delivery", "return", "transfer", "write_off", "activation", "registration"}:
        raise Bad("unknown_type")
    event_id, at = _text(event, "event_id"), _time(event, "at")
    if kind in {"activation", "registration"}:
        imsi = _matching(event, "imsi", _IMSI)
        if kind == "registration" and not isinstance(event.get("complete"), bool):
            raise Bad("invalid_field: complete")
        sim = reference.by_imsi(int(imsi))
        if kind == "activation" and sim:
            read.use(Use(at, event_id, sim))
        return at
    placement = _placement(event, kind, at, event_id, reference)
    read.placements.setdefault(event_id, placement)
    return at


def _placement(
    event: dict[str, Any], kind: str, at: int, event_id: str, reference: Reference
) -> Placement:
    outlet = _text(event, "from_outlet_id" if kind == "transfer" else "outlet_id")
    to = _text(event, "to_outlet_id") if kind == "transfer" else ""
    wholesaler = _text(event, "wholesaler_id") if kind == "delivery" else ""
    first = int(_matching(event, "first_iccid", _ICCID))
    count = event.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise Bad("invalid_field: count")
    if kind in {"return", "write_off"}:
        _text(event, "reason")
    if outlet not in reference.outlets or (to and to not in reference.outlets):
        raise Bad("unknown_outlet")
    if wholesaler and wholesaler not in reference.wholesalers:
        raise Bad("unknown_wholesaler")
    sims = []
    for iccid in range(first, first + count):
        sim = reference.by_iccid(iccid)
        if sim is None:  # At the first stranger, or a mistyped count would be walked to its end.
            raise Bad("unknown_sim")
        sims.append(sim)
    return Placement(at, event_id, kind, outlet, to, sims)


def _read_csv(path: Path, file: str, reference: Reference, read: Read) -> pl.Series:
    header, *lines = lines_of(path) or [b""]
    names = header.decode("utf-8-sig", "replace").split(",")
    if sorted(names) != sorted(_COLUMNS):
        raise InputError(f"{path} has other columns than {','.join(_COLUMNS)}")
    # Lines that are no UTF-8 cannot match, which is all that is asked of them here.
    text = pl.Series([line.decode("utf-8", "replace") for line in lines], dtype=pl.String)
    rows = _plain_rows(text) if tuple(names) == _COLUMNS else _plain_rows(text.clear())
    times = _keep_ours(rows, reference, read)
    plain = set(rows["row"].to_list()) if len(rows) < len(lines) else None
    late: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if plain is None:
            break
        if number in plain:
            continue
        try:
            late.append((number, _call(_csv_row(line, names), reference, read)))
        except Bad as bad:
            read.dead.append(TrueDeadLetter(file, number + 2, str(bad)))
    if late:
        slow = pl.DataFrame(late, schema={"row": pl.Int64, "at": pl.Int64}, orient="row")
        return pl.concat([rows.select("row", "at"), slow]).sort("row")["at"]
    return times


def _csv_row(line: bytes, names: list[str]) -> dict[str, Any]:
    try:
        fields = next(csv.reader([line.decode()], strict=True), [])
        return dict(zip(names, fields, strict=True))
    except (csv.Error, ValueError) as error:  # not CSV, not UTF-8, or too many or few columns
        raise Bad("malformed") from error


def _plain_rows(text: pl.Series) -> pl.DataFrame:
    """row, at, call_id and imsi of the rows that are right at first sight."""
    found = text.str.extract_groups(_PLAIN_ROW).struct.unnest()
    zulu = pl.col("sign") == "Z"
    hours, minutes = (pl.col(n).cast(pl.Int64) for n in ("hours", "minutes"))
    offset = pl.when(zulu).then(0).otherwise((hours * 60 + minutes) * 60_000)
    local = pl.col("local").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f", strict=False, time_unit="ms")
    at = local.dt.epoch("ms") - pl.when(pl.col("sign") == "-").then(-offset).otherwise(offset)
    return found.select(
        row=pl.int_range(pl.len(), dtype=pl.Int64),
        at=pl.when(zulu == pl.col("hours").is_null()).then(at),
        call_id="call_id",
        imsi=pl.col("imsi").cast(pl.Int64),
    ).filter(pl.col("at").is_not_null())


def _read_parquet(path: Path, file: str, reference: Reference, read: Read) -> pl.Series:
    frame = pl.read_parquet(path)
    if missing := set(_COLUMNS) - set(frame.columns):
        raise InputError(f"{path} has no column {', '.join(sorted(missing))}")
    if not isinstance(frame.schema["start_time"], pl.Datetime):
        raise InputError(f"{path}: start_time is no timestamp")
    imsi = pl.col("imsi").cast(pl.String)
    rows = frame.select(
        row=pl.int_range(pl.len(), dtype=pl.Int64),
        at=pl.col("start_time").dt.epoch("ms"),
        call_id=pl.col("call_id"),
        imsi=pl.when(imsi.str.contains(r"^[0-9]{14,15}$")).then(imsi).cast(pl.Int64),
    )
    for (number,) in rows.filter(pl.col("imsi").is_null()).select("row").iter_rows():
        read.dead.append(TrueDeadLetter(file, number + 1, "invalid_field: imsi"))
    return _keep_ours(rows.filter(pl.col("imsi").is_not_null()), reference, read)


def _keep_ours(rows: pl.DataFrame, reference: Reference, read: Read) -> pl.Series:
    """Note the earliest use of each registered SIM; return all times, strangers' too."""
    for number, batch in enumerate(reference.batches):
        position = pl.col("imsi") - batch.first_imsi
        ours = rows.filter(position.is_between(0, batch.count - 1)).sort("at", "call_id")
        first = ours.unique("imsi", keep="first").select("at", "call_id", position)
        for at, call_id, place in first.iter_rows():
            read.use(Use(at, call_id, (number, place)))
    return rows["at"]


def _call(row: dict[str, Any], reference: Reference, read: Read) -> int:
    call_id, at = _text(row, "call_id"), _time(row, "start_time")
    imsi = _matching(row, "imsi", _IMSI)
    for name in ("duration_s", "charge_fen"):
        _matching(row, name, _WHOLE)
    sim = reference.by_imsi(int(imsi))
    if sim:
        read.use(Use(at, call_id, sim))
    return at


def _as_text(value: object) -> object:
    """JSON writes the numbers of a CDR as numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _text(event: dict[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise Bad(f"invalid_field: {name}")
    return value


def _matching(event: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = _text(event, name)
    if not pattern.fullmatch(value):
        raise Bad(f"invalid_field: {name}")
    return value


def _time(event: dict[str, Any], name: str) -> int:
    try:
        at = to_ms(_text(event, name))
    except ValueError as error:
        raise Bad(f"invalid_field: {name}") from error
    if at < 946_684_800_000:
        raise Bad(f"invalid_field: {name}")
    return at
