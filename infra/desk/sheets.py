"""Rows as a file to keep: CSV for programs, a workbook for people."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.csv
import xlsxwriter

from infra.desk.formats import redacted
from infra.desk.page import Download
from infra.desk.parts import ColumnSpec
from infra.desk.visitor import Visitor

FORMATS: Final = {"csv": "text/csv", "xlsx": "application/vnd.openxmlformats-officedocument"
                  ".spreadsheetml.sheet"}  # fmt: skip
_LOOKS: Final = {
    "number": "#,##0",
    "decimal": "#,##0.00",
    "kwh": "#,##0.0",
    "share": "0.0%",
    "fen": "#,##0.00",
    "time": "yyyy-mm-dd hh:mm:ss",
    "second": "yyyy-mm-dd hh:mm:ss",
    "day": "yyyy-mm-dd",
}

_UNITS: Final = {"fen": " (yuan)", "time": " (UTC)", "second": " (UTC)"}
_WIDTHS: Final = {"time": 20, "second": 20}


def download(
    name: str, kind: str, rows: pa.Table, columns: Sequence[ColumnSpec], visitor: Visitor
) -> Download:
    """A file of the rows; what the visitor may not see is masked in it as well.

    CSV has the warehouse's own values; a workbook has headings, yuan, and times of UTC.
    """
    for column in columns:
        if column.kind in ("secret", "long") and not visitor.may("see_numbers"):
            place = rows.column_names.index(column.name)
            hidden = [redacted(value, column.kind) for value in rows.column(place).to_pylist()]
            rows = rows.set_column(place, column.name, pa.array(hidden, pa.string()))
    content = _csv(rows) if kind == "csv" else _workbook(rows, columns)
    return Download(f"{name}.{kind}", content, FORMATS[kind])


def _csv(rows: pa.Table) -> bytes:
    written = io.BytesIO()
    pyarrow.csv.write_csv(rows, written)
    return written.getvalue()


def _workbook(rows: pa.Table, columns: Sequence[ColumnSpec]) -> bytes:
    written = io.BytesIO()
    book = xlsxwriter.Workbook(
        written,
        # Text stays text: a name that begins with '=' is not a formula.
        {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False,
         "nan_inf_to_errors": True, "remove_timezone": True},
    )  # fmt: skip
    sheet = book.add_worksheet()
    bold = book.add_format({"bold": True})
    looks = {kind: book.add_format({"num_format": look}) for kind, look in _LOOKS.items()}
    sheet.freeze_panes(1, 0)
    for place, column in enumerate(columns):
        heading = f"{column.heading}{_UNITS.get(column.kind, '')}"
        sheet.set_column(place, place, max(_WIDTHS.get(column.kind, 12), len(heading) + 2))
        sheet.write_string(0, place, heading, bold)
    number = 0
    for batch in rows.select([column.name for column in columns]).to_batches():
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            number += 1
            for place, (value, column) in enumerate(zip(row, columns, strict=True)):
                if value is None:
                    continue
                if column.kind == "fen":
                    value = value / 100  # noqa: PLW2901
                if isinstance(value, (int, float, datetime)) or column.kind == "day":
                    sheet.write(number, place, value, looks.get(column.kind))
                else:
                    sheet.write_string(number, place, str(value))
    book.close()
    return written.getvalue()
