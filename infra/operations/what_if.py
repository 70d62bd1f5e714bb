"""`zerostock what-if`: what another policy would have made of the stock-outs on record.

Reads the warehouse, which keeps what happened for years; the decisions are
`alerts.lifecycle.replay`'s. Here are the figures that stand beside each other.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl
from rich.console import Console
from rich.progress import track
from rich.table import Table

from alerts.lifecycle.grouping import Change
from alerts.lifecycle.replay import TELLING, Notice, WholesalerRecord, replay
from alerts.lifecycle.state import HeardAnswer
from alerts.message.directory import ReferenceDirectory
from alerts.policy.policy import load_policy
from alerts.policy.rules import BACKUP, PHONE, AlertRules
from alerts.policy.unknown_ids import unknown_ids
from infra.settings import Settings
from infra.text import printable
from infra.wiring import zone_of
from pipelines.warehouse import Warehouse, open_for_reading
from schemas.answers import Answer
from schemas.errors import InputError, UsageError
from schemas.fields import TIME_END, parse_time
from schemas.reference import Outlet, Reference, Territory, Wholesaler

#: How long before the period the replay begins, ms: what is still open then, or was lately over,
#: counts. Longer where the policy remembers longer.
LEAD: Final = 35 * 86_400_000

#: Whose figures the first rows are.
EVERYBODY: Final = "all"

_HAPPENED: Final = "happened"
_WHAT_IF: Final = "what-if"

_WENT_OUT: Final = ("notified", "reminded", "escalated", "note")

_UNTIL: Final = """
SELECT greatest(
    (SELECT max(at) FROM incident_changes_rows),
    (SELECT toUnixTimestamp64Milli(max(at)) FROM alert_news_rows WHERE slot NOT LIKE 'answer/%'),
    (SELECT toUnixTimestamp64Milli(max(at)) FROM stock_movements_rows)
) + 1 AS until, (SELECT min(at) FROM incident_changes_rows) AS since,
(SELECT count() FROM incident_changes_rows) AS changes
"""

#: Changes of one wholesaler's stock-outs, without those that were over before a time.
_CHANGES: Final = """
SELECT
    incident_id, outlet_id, sku, wholesaler_id,
    toUnixTimestamp64Milli(opened_at) AS opened_at, toUnixTimestamp64Milli(closed_at) AS closed_at,
    at, toUnixTimestamp64Milli(restated_at) AS restated_at, withdrawn = 1 AS withdrawn
FROM incident_changes_rows FINAL
WHERE wholesaler_id = {id:String} AND at < {until:Int64} AND incident_id NOT IN (
    SELECT incident_id FROM incident_changes_rows WHERE wholesaler_id = {id:String}
    GROUP BY incident_id
    HAVING max(at) < {since:Int64} AND argMax(withdrawn OR closed_at IS NOT NULL, at)
)
ORDER BY at
"""

_ANSWERS: Final = """
SELECT
    answer_id, toUnixTimestamp64Milli(answers.at) AS at, wholesaler_id, kind, message_id,
    incident_id, detail, by,
    if(news.slot = '', toUnixTimestamp64Milli(answers.at), news.counted_at) AS counted_at
FROM (SELECT * FROM answers_rows FINAL WHERE wholesaler_id = {id:String}) AS answers
LEFT JOIN (
    SELECT slot, min(JSONExtractInt(detail, 'counted_at')) AS counted_at
    FROM alert_news_rows
    WHERE wholesaler_id = {id:String} AND slot LIKE 'answer/%' AND JSONHas(detail, 'counted_at')
    GROUP BY slot
) AS news ON news.slot = concat('answer/', answers.answer_id)
ORDER BY counted_at, at, answer_id
"""

_ABOUT: Final = """
SELECT message_id, incident_ids FROM sms_messages_rows FINAL
WHERE wholesaler_id = {id:String} AND message_id IN (
    SELECT message_id FROM answers_rows WHERE wholesaler_id = {id:String})
"""

_NOTICES: Final = """
SELECT
    wholesaler_id, toUnixTimestamp64Milli(at) AS at, JSONExtractString(detail, 'what') AS what,
    JSONExtractString(detail, 'to') AS to, incident_id, kind, toInt64(version) AS version
FROM alert_news_rows FINAL
WHERE wholesaler_id = {id:String} AND startsWith(slot, 'message/') AND kind != 'not_notified'
    AND what NOT IN ('', 'unreached')
"""

_STOCK_OUTS: Final = """
SELECT
    wholesaler_id, incident_id, toUnixTimestamp64Milli(opened_at) AS opened_at,
    toUnixTimestamp64Milli(closed_at) AS closed_at
FROM stock_incidents_rows FINAL
WHERE opened_at >= {since:Int64} AND opened_at < {until:Int64}
"""

_SCHEMA: Final = {
    "wholesaler_id": pl.String,
    "at": pl.Int64,
    "what": pl.String,
    "to": pl.String,
    "incident_id": pl.String,
}


class Period(NamedTuple):
    """From `start` to before `end`, ms; `whole` if it reaches to the end of the record."""

    start: int
    end: int
    whole: bool


class Night(NamedTuple):
    """When people sleep, in minutes of the day of a zone; it may span midnight."""

    start: int
    end: int
    zone: ZoneInfo

    def of(self, at: pl.Expr) -> pl.Expr:
        """The night that a time (ms) is in, by the day on which it began; null by day."""
        local = pl.from_epoch(at, "ms").dt.replace_time_zone("UTC")
        local = local.dt.convert_time_zone(self.zone.key)
        minute = local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute()
        inside = (minute >= self.start, minute < self.end)
        asleep = inside[0] | inside[1] if self.start >= self.end else inside[0] & inside[1]
        began = local.dt.date() - pl.when(inside[0]).then(0).otherwise(1) * timedelta(days=1)
        return pl.when(asleep).then(began)


def run_what_if(
    settings: Settings, start: str | None, end: str | None, night: str, format: str | None
) -> None:
    """Print the figures of `settings.policy` beside what happened.

    `format` is one of ClickHouse's, None for people. Raises `UsageError` for a period that is
    none, `InputError` where nothing is on record.
    """
    if settings.policy is None:
        raise UsageError("name the policy to try: --policy new.toml")
    policy, zone = load_policy(settings.policy), zone_of(settings)
    hours = _night(night, zone)
    warehouse = open_for_reading(data=settings.data, url=settings.warehouse)
    try:
        period = _period(warehouse, start, end, zone)
        reference = _reference(warehouse)
        if unknown := unknown_ids(policy, reference):
            print(f"zerostock: {unknown}", file=sys.stderr)
        rules = AlertRules(
            settings.group_wait, policy, zone=zone, places=ReferenceDirectory(reference)
        )
        stock_outs = _frame(
            warehouse, _STOCK_OUTS, {"since": period.start, "until": period.end}
        ).cast({"closed_at": pl.Int64})
        happened, what_if = _notices(
            warehouse, rules, period, final=period.whole and not settings.live
        )
        found = compare(happened, what_if, stock_outs, period, hours)
        if format is None:
            show(found, period, zone, settings.policy.name)
        else:
            sys.stdout.buffer.write(warehouse.query_bytes(_values(found), format))
            sys.stdout.buffer.flush()
    finally:
        warehouse.close()


def compare(
    happened: pl.DataFrame,
    what_if: pl.DataFrame,
    stock_outs: pl.DataFrame,
    period: Period,
    night: Night,
) -> pl.DataFrame:
    """A row of figures for everybody and for each wholesaler, of what happened and of the what-if.

    Notices have the columns of `Notice`, stock-outs those that opened in the period: wholesaler_id,
    incident_id, opened_at, closed_at. Hours are from empty to told; `hours_untold` is all the time
    in which a shelf was empty and its wholesaler did not know.
    """
    both = [
        _figures(notices, stock_outs, period, night).with_columns(run=pl.lit(run))
        for run, notices in ((_HAPPENED, happened), (_WHAT_IF, what_if))
    ]
    everybody = pl.col("wholesaler_id") != EVERYBODY
    return (
        pl.concat(both)
        .sort(everybody, "wholesaler_id", "run")
        .select("wholesaler_id", "run", pl.exclude("wholesaler_id", "run"))
    )


def _figures(
    notices: pl.DataFrame, stock_outs: pl.DataFrame, period: Period, night: Night
) -> pl.DataFrame:
    to, what = pl.col("to"), pl.col("what")
    person = pl.when(to.is_in([PHONE, BACKUP])).then(pl.col("holder") + "\0" + to).otherwise(to)
    inside = (pl.col("at") >= period.start) & ((pl.col("at") < period.end) | period.whole)
    messages = (
        _with_everybody(notices.filter(inside))
        .with_columns(night=night.of(pl.col("at")), person=person)
        .unique(["wholesaler_id", "holder", "at", "what", "to"])
    )
    woken = messages.filter(pl.col("night").is_not_null()).unique(
        ["wholesaler_id", "person", "night"]
    )
    first = (
        notices.filter(what.is_in(TELLING)).group_by("incident_id").agg(told_at=pl.col("at").min())
    )
    outs = stock_outs.join(first, on="incident_id", how="left").with_columns(
        hours=(pl.col("told_at") - pl.col("opened_at")) / 3_600_000,
        untold=(pl.min_horizontal("told_at", "closed_at", pl.lit(period.end)) - pl.col("opened_at"))
        / 3_600_000,
    )
    told = (
        _with_everybody(outs)
        .group_by("wholesaler_id")
        .agg(
            stock_outs=pl.len(),
            told=pl.col("hours").count(),
            hours_median=pl.col("hours").median(),
            hours_90=pl.col("hours").quantile(0.9, "linear"),
            hours_untold=pl.col("untold").clip(lower_bound=0).sum(),
        )
    )
    sent = messages.group_by("wholesaler_id").agg(
        messages=pl.len(),
        first=what.is_in(["stock_out", "delayed", "digest"]).sum(),
        reminders=(what == "reminder").sum(),
        to_second_phone=((what == "escalation") & (to == BACKUP)).sum(),
        to_managers=(what.is_in(["escalation", "lost"]) & (to != BACKUP)).sum(),
        notes=(what == "resolved").sum(),
    )
    wakes = woken.group_by("wholesaler_id").agg(
        woken=pl.len(),
        woken_wholesaler=(to == PHONE).sum(),
        woken_second_phone=(to == BACKUP).sum(),
        woken_managers=to.is_in([PHONE, BACKUP]).not_().sum(),
    )
    return (
        told.join(sent, on="wholesaler_id", how="full", coalesce=True)
        .join(wakes, on="wholesaler_id", how="left")
        .with_columns(pl.col(pl.UInt32).cast(pl.Int64).fill_null(0))
    )


def _with_everybody(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows by wholesaler, and all of them once more; `holder` says whose they are."""
    rows = rows.with_columns(holder=pl.col("wholesaler_id"))
    return pl.concat([rows, rows.with_columns(wholesaler_id=pl.lit(EVERYBODY))])


def _notices(
    warehouse: Warehouse, rules: AlertRules, period: Period, *, final: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What went out, and what would have gone out."""
    frames: list[tuple[pl.DataFrame, pl.DataFrame]] = []
    known = warehouse.query("SELECT DISTINCT wholesaler_id AS id FROM incident_changes_rows")
    for wholesaler_id in track(
        sorted(known["id"].to_pylist()),
        "replaying",
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ):
        record = read_record(warehouse, wholesaler_id, period, rules)
        found = replay(record, rules, period.end, final=final)
        frames.append((_columns(record.notified), _columns(found)))
    happened, what_if = zip(*frames, strict=True)
    return pl.concat(happened), pl.concat(what_if)


def _columns(notices: set[Notice]) -> pl.DataFrame:
    return pl.DataFrame(list(notices), _SCHEMA, orient="row")


def read_record(
    warehouse: Warehouse, wholesaler_id: str, period: Period, rules: AlertRules
) -> WholesalerRecord:
    """What is on record of one wholesaler up to the period's end, from well before its start."""
    flapping = rules.policy.flapping
    lead = max(LEAD, rules.damped_for, flapping.within if flapping is not None else 0)
    since = period.start - lead
    asked: dict[str, object] = {"id": wholesaler_id, "since": since, "until": period.end}
    changes = [
        Change(**row | {"withdrawn": bool(row["withdrawn"])})
        for row in warehouse.query(_CHANGES, asked).to_pylist()
    ]
    only = {"id": wholesaler_id}
    about = {r["message_id"]: r["incident_ids"] for r in warehouse.query(_ABOUT, only).to_pylist()}
    there = {change.incident_id for change in changes}
    answers = [
        HeardAnswer(row.pop("counted_at"), Answer(**row))
        for row in warehouse.query(_ANSWERS, only).to_pylist()
        if row["counted_at"] >= since or not there.isdisjoint(about.get(row["message_id"], ()))
    ]
    notified: set[Notice] = set()
    failed: set[Notice] = set()
    stale: dict[Notice, int] = {}
    for row in warehouse.query(_NOTICES, only).to_pylist():
        kind, version = row.pop("kind"), row.pop("version")
        notice = Notice(**row)
        (notified if kind in _WENT_OUT else failed).add(notice)
        if kind == "stale":
            stale[notice] = version
    return WholesalerRecord(
        wholesaler_id, changes, answers, about, notified, failed - notified, stale
    )


def _reference(warehouse: Warehouse) -> Reference:
    """The reference tables that policies speak of."""

    def rows(sql: str) -> list[dict[str, Any]]:
        return [
            {name: None if value == "" else value for name, value in row.items()}
            for row in warehouse.query(sql).to_pylist()
        ]

    territories = (Territory.model_construct(**r) for r in rows("SELECT * FROM territories"))
    wholesalers = (Wholesaler.model_construct(**r) for r in rows("SELECT * FROM wholesalers"))
    outlets = (Outlet.model_construct(**r) for r in rows("SELECT * FROM outlets"))
    return Reference(
        territories={row.territory_id: row for row in territories},
        wholesalers={row.wholesaler_id: row for row in wholesalers},
        outlets={row.outlet_id: row for row in outlets},
    )


def _period(warehouse: Warehouse, start: str | None, end: str | None, zone: ZoneInfo) -> Period:
    (record,) = warehouse.query(_UNTIL).to_pylist()
    if not record["changes"]:
        raise InputError("no stock-out is on record: `zerostock run` or the workers record them")
    since = _moment(start, "--from", zone, 0) if start else record["since"]
    until = _moment(end, "--to", zone, 1) if end else TIME_END
    period = Period(since, min(until, record["until"]), until >= record["until"])
    if period.start >= period.end:
        reach = [datetime.fromtimestamp(record[n] / 1_000, zone) for n in ("since", "until")]
        raise UsageError(
            f"nothing is on record between --from and --to: it reaches from {reach[0]:%Y-%m-%d}"
            f" to {reach[1]:%Y-%m-%d}"
        )
    return period


def _moment(text: str, option: str, zone: ZoneInfo, day_after: int) -> int:
    """A time, or the beginning (or the end) of a day of the zone."""
    try:
        day = date.fromisoformat(text) + timedelta(days=day_after)
    except ValueError:
        try:
            return parse_time(text)
        except ValueError:
            raise UsageError(f"{option} {text} is no day like 2026-03-31, and no time") from None
    return round(datetime.combine(day, time(), zone).timestamp() * 1_000)


def _night(text: str, zone: ZoneInfo) -> Night:
    try:
        start, end = (time.fromisoformat(part) for part in text.split("-"))
    except ValueError:
        raise UsageError(f"--night {text} is no span like 22:00-07:00") from None
    return Night(start.hour * 60 + start.minute, end.hour * 60 + end.minute, zone)


def _frame(
    warehouse: Warehouse, sql: str, parameters: Mapping[str, object] | None = None
) -> pl.DataFrame:
    frame = pl.from_arrow(warehouse.query(sql, parameters))
    assert isinstance(frame, pl.DataFrame)
    return frame


# Output

#: Figures for people, and how they are written.
_ROWS: Final = (
    ("stock-outs", "stock_outs", "{:,}"),
    ("told", "told", "{:,}"),
    ("hours empty until told, median", "hours_median", "{:.2f}"),
    ("hours empty until told, 90 %", "hours_90", "{:.2f}"),
    ("hours empty and untold, all together", "hours_untold", "{:,.0f}"),
    ("messages", "messages", "{:,}"),
    ("  first messages and digests", "first", "{:,}"),
    ("  reminders", "reminders", "{:,}"),
    ("  escalations to second phones", "to_second_phone", "{:,}"),
    ("  escalations to managers", "to_managers", "{:,}"),
    ("  notes of an end", "notes", "{:,}"),
    ("people woken at night", "woken", "{:,}"),
    ("  wholesalers", "woken_wholesaler", "{:,}"),
    ("  second phones", "woken_second_phone", "{:,}"),
    ("  managers", "woken_managers", "{:,}"),
)

#: Those of each wholesaler.
_SHORT: Final = ("stock_outs", "told", "hours_median", "hours_90", "messages", "woken")


def show(found: pl.DataFrame, period: Period, zone: ZoneInfo, policy: str) -> None:
    """Print the figures for people."""
    console = Console(highlight=False)
    start, end = (datetime.fromtimestamp(t / 1_000, zone) for t in (period.start, period.end))
    console.print(f"{policy}, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} {zone.key}")
    pairs = {
        name: {row["run"]: row for row in rows.to_dicts()}
        for (name,), rows in found.group_by("wholesaler_id", maintain_order=True)
    }
    table = Table("", _HAPPENED, _WHAT_IF, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    runs = pairs.pop(EVERYBODY)
    for label, name, how in _ROWS:
        table.add_row(label, *(_written(runs.get(run), name, how) for run in (_HAPPENED, _WHAT_IF)))
    console.print(table)
    written = {name: how for _, name, how in _ROWS}
    table = Table("wholesaler", *(name.replace("_", " ") for name in _SHORT), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, runs in pairs.items():
        cells = []
        for figure in _SHORT:
            was, would = (
                _written(runs.get(run), figure, written[figure]) for run in (_HAPPENED, _WHAT_IF)
            )
            cells.append(was if was == would else f"{was} → {would}")
        table.add_row(printable(str(name)) or "(nobody)", *cells)
    console.print(table)
    console.print("People's reactions are not replayed: shelves are refilled when they were.")


def _written(row: Mapping[str, Any] | None, name: str, how: str) -> str:
    value = row[name] if row is not None else None
    return "-" if value is None else how.format(value)


def _values(found: pl.DataFrame) -> str:
    """A statement whose result is the frame: ClickHouse writes it in any of its formats."""
    types = {pl.String: "String", pl.Int64: "Int64", pl.Float64: "Nullable(Float64)"}
    columns = ", ".join(f"{name} {types[type(kind)]}" for name, kind in found.schema.items())
    rows = ", ".join(f"({', '.join(map(_literal, row))})" for row in found.iter_rows())
    return f"SELECT * FROM values('{columns}', {rows})"  # noqa: S608


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
