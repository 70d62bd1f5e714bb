"""*System*: how old the figures are, what contradicts the rules of stock, what is stored."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from infra.desk.freshness import of_stream
from infra.desk.page import Page, ViewRequest
from infra.desk.parts import Chart, ColumnSpec, Figure, Figures, TableSection, columns
from infra.desk.translation import N_

_UNREAD: Final = """
SELECT input, reason, listed_at FROM unread_inputs ORDER BY input LIMIT 200
"""
_MOVEMENTS: Final = "SELECT toInt64(count()) AS n FROM stock_movements_rows"
_REFUSED: Final = """
SELECT toInt64(count()) AS n FROM dead_letters_open
"""
_STORED: Final = """
SELECT table, toInt64(sum(rows)) AS rows, toInt64(sum(bytes_on_disk)) AS bytes,
       bytes / 1000 AS kilobytes
FROM system.parts WHERE active AND database = currentDatabase()
GROUP BY table ORDER BY bytes DESC LIMIT 60
"""
_SMS: Final = """
SELECT status, toInt64(count()) AS messages, toInt64(sum(segments)) AS segments,
       max(created_at) AS newest
FROM sms_messages GROUP BY status ORDER BY messages DESC
"""
_SMS_DAYS: Final = """
SELECT toDate(created_at, {zone:String}) AS day, toInt64(count()) AS messages
FROM sms_messages
WHERE created_at > (SELECT max(created_at) FROM sms_messages_rows) - INTERVAL 30 DAY
GROUP BY day ORDER BY day
"""
_ANOMALIES: Final = """
SELECT kind, toInt64(count()) AS n, max(at) AS newest FROM anomalies GROUP BY kind ORDER BY n DESC
"""
_COMPARED: Final = """
SELECT at, toInt64(rows_read) AS rows_read, toInt64(shelves) AS shelves,
       toInt64(differences) AS differences, toInt64(explained) AS explained
FROM reconcile_runs ORDER BY at DESC LIMIT 5
"""


def page(request: ViewRequest) -> Page:
    """How the system is."""
    refused = (request.row(_REFUSED) or {}).get("n")
    return Page(
        N_("System"),
        [
            Figures([
                Figure(N_("Version"), version("zerostock"), "text"),
                Figure(N_("Movements stored"), (request.row(_MOVEMENTS) or {}).get("n")),
                Figure(N_("Open dead letters"), refused, tone="bad" if refused else "good",
                       link="/dead-letters"),
            ]),
            TableSection(
                N_("Files and sources that are not read"),
                columns("unread_inputs", "input", "reason", "listed_at"),
                request.rows(_UNREAD), N_("None: all that is there is read."),
            ),
            Chart(N_("Messages by day, 30 days"), "bar", (
                ColumnSpec("day", N_("Day"), "day"), ColumnSpec("messages",
                N_("Messages"), "number"),
            ), request.rows(_SMS_DAYS),
                N_("No message went out yet.")),
            TableSection(N_("Messages by status"), (
                ColumnSpec("status", N_("Status"), "status"),
                ColumnSpec("messages", N_("Messages"), "number"),
                ColumnSpec("segments", N_("Segments"), "number"),
                ColumnSpec("newest", N_("Newest"), "time"),
            ), request.rows(_SMS), N_("No message went out yet.")),
            TableSection(N_("Events that contradict the stock"), (
                ColumnSpec("kind", N_("Kind"), "status"), ColumnSpec("n", N_("Events"), "number"),
                ColumnSpec("newest", N_("Newest"), "time"),
            ), request.rows(_ANOMALIES), N_("None."), more="/anomalies"),
            TableSection(N_("Comparisons of the tables with the input"), (
                ColumnSpec("at", N_("At"), "time"), ColumnSpec("rows_read",
                N_("Read (rows)"), "number"),
                ColumnSpec("shelves", N_("Shelves"), "number"),
                ColumnSpec("differences", N_("Differences"), "number"),
                ColumnSpec("explained", N_("Explained"), "number"),
            ), request.rows(_COMPARED), N_("Never compared: run zerostock reconcile.")),
            TableSection(N_("What is stored"), (
                ColumnSpec("table", N_("Table")), ColumnSpec("rows", N_("Rows"), "number"),
                ColumnSpec("kilobytes", N_("Size (kB)"), "number"),
            ), request.rows(_STORED), N_("Nothing.")),
        ],
        freshness=of_stream(request),
    )  # fmt: skip
