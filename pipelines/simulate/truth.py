"""What is true of an exchange directory, as plain data, and its files under `truth/`.

Times are int ms since the epoch in memory and ISO 8601 in UTC in the files. Lists are sorted, so
that two truths compare with `==`. How a truth is found out is none of this file's business.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple


class TrueIncident(NamedTuple):
    """A shelf was empty from `opened_at` to `closed_at`; `wholesaler_id` is "" if nobody's."""

    outlet_id: str
    sku: str
    wholesaler_id: str
    opened_at: int
    closed_at: int | None


class TrueMessage(NamedTuple):
    """One SMS; `incidents` are (outlet_id, sku, opened_at), in the order they opened."""

    wholesaler_id: str
    sent_for_at: int
    incidents: tuple[tuple[str, str, int], ...]


class TrueAnomaly(NamedTuple):
    event_id: str
    iccid: str
    kind: str
    at: int


class TrueDeadLetter(NamedTuple):
    """`line` counts from 1, a CSV header included; in Parquet it is the row, from 1."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class Truth:
    """`stock` has every outlet and SKU that ever held a SIM, those at zero too."""

    stock: dict[tuple[str, str], int]
    incidents: list[TrueIncident]
    messages: list[TrueMessage]
    anomalies: list[TrueAnomaly]
    dead_letters: list[TrueDeadLetter]
    #: Usable rows that came after their own source's watermark, repeats of a row included.
    beyond_bound: int = 0

    def dead_reasons(self) -> Counter[str]:
        """How many dead letters of each reason, without the detail after the colon."""
        return Counter(dead.reason.split(":")[0] for dead in self.dead_letters)


def incident_order(incident: TrueIncident) -> tuple[int, str, str]:
    return (incident.opened_at, incident.outlet_id, incident.sku)


def write_truth(truth: Truth, folder: Path) -> None:
    """Write stock, incidents, messages, anomalies and dead_letters as CSV into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(
        folder / "stock.csv",
        ("outlet_id", "sku", "on_hand"),
        ((*shelf, on_hand) for shelf, on_hand in sorted(truth.stock.items())),
    )
    write_csv(
        folder / "incidents.csv",
        TrueIncident._fields,
        ((*i[:3], _utc(i.opened_at), _utc(i.closed_at)) for i in truth.incidents),
    )
    write_csv(
        folder / "messages.csv",
        TrueMessage._fields,
        (
            (m.wholesaler_id, _utc(m.sent_for_at), " ".join(map(_written, m.incidents)))
            for m in truth.messages
        ),
    )
    write_csv(
        folder / "anomalies.csv",
        TrueAnomaly._fields,
        ((*a[:3], _utc(a.at)) for a in truth.anomalies),
    )
    write_csv(folder / "dead_letters.csv", TrueDeadLetter._fields, truth.dead_letters)


def read_truth(directory: Path) -> Truth:
    """The truth that `simulate` left in an exchange directory."""
    folder = directory / "truth"
    return Truth(
        stock={(o, s): int(n) for o, s, n in _rows(folder / "stock.csv")},
        incidents=[
            TrueIncident(o, s, w, _ms(opened), _ms(closed) if closed else None)
            for o, s, w, opened, closed in _rows(folder / "incidents.csv")
        ],
        messages=[
            TrueMessage(w, _ms(at), tuple(map(_listed, incidents.split(" "))))
            for w, at, incidents in _rows(folder / "messages.csv")
        ],
        anomalies=[
            TrueAnomaly(e, i, k, _ms(at)) for e, i, k, at in _rows(folder / "anomalies.csv")
        ],
        dead_letters=[
            TrueDeadLetter(f, int(line), reason)
            for f, line, reason in _rows(folder / "dead_letters.csv")
        ],
    )


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A small CSV file with a header and plain line feeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def _written(incident: tuple[str, str, int]) -> str:
    outlet_id, sku, opened_at = incident
    return f"{outlet_id}/{sku}@{_utc(opened_at)}"


def _listed(text: str) -> tuple[str, str, int]:
    shelf, _, at = text.partition("@")
    outlet_id, _, sku = shelf.partition("/")
    return outlet_id, sku, _ms(at)


def _utc(ms: int | None) -> str:
    if ms is None:
        return ""
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
