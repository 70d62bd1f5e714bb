"""Rows as a file to keep, CSV or a workbook, as its reader's Excel opens it right.

Both have the headings of the page in the visitor's language, local times, yuan. CSV begins with a
byte order mark, without which Chinese Excel takes UTF-8 for GBK. No text becomes a formula, and no
number on a card loses its digits: in CSV such a cell begins with an apostrophe or a tab.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import xlsxwriter

from infra.desk.formats import redacted
from infra.desk.page import Download, ViewRequest
from infra.desk.parts import ColumnSpec
from infra.desk.translation import N_, localized, translate_sentences, translator

FORMATS: Final = {"csv": "text/csv; charset=utf-8", "xlsx": "application/vnd.openxmlformats-officed"
                  "ocument.spreadsheetml.sheet"}  # fmt: skip
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
_WIDTHS: Final = {"time": 20, "second": 20}
#: What a spreadsheet takes for a formula, and digits that it would round or strip of zeros.
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")
_LONG_NUMBER: Final = re.compile(r"0[0-9]+|[0-9]{12,}")


def download(
    name: str, kind: str, rows: pa.Table, columns: Sequence[ColumnSpec], request: ViewRequest
) -> Download:
    """A file of the rows; what the visitor may not see is masked in it as well."""
    words = translator(request.language)
    headings = [
        words(column.heading) + (f" ({words(N_('yuan'))})" if column.kind == "fen" else "")
        for column in columns
    ]
    write = _csv if kind == "csv" else _workbook
    content = write(headings, columns, _cells(rows, columns, request, words))
    return Download(f"{name}.{kind}", content, FORMATS[kind])


def _cells(
    rows: pa.Table,
    columns: Sequence[ColumnSpec],
    request: ViewRequest,
    words: Callable[[str], str],
) -> Iterator[list[object]]:
    """The rows as they are written: local times without a zone, yuan, translated values."""
    zone, all_numbers = ZoneInfo(request.services.zone), request.visitor.may("see_numbers")

    def cell(value: object, column: ColumnSpec) -> object:
        if value is None:
            return None
        if column.kind == "fen" and isinstance(value, int):
            return value / 100
        if isinstance(value, datetime):
            return value.astimezone(zone).replace(tzinfo=None, microsecond=0)
        if column.kind in ("status", "name"):
            return localized(str(value), words, column.name)
        if column.kind == "reasons":
            return translate_sentences(str(value), words)
        return value if all_numbers else redacted(value, column.kind)

    for batch in rows.select([column.name for column in columns]).to_batches():
        for row in zip(*(values.to_pylist() for values in batch.columns), strict=True):
            yield [cell(value, column) for value, column in zip(row, columns, strict=True)]


def _csv(headings: list[str], columns: Sequence[ColumnSpec], rows: Iterator[list[object]]) -> bytes:
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(headings)
    writer.writerows([_safe(value) for value in row] for row in rows)
    return b"\xef\xbb\xbf" + written.getvalue().encode()


def _safe(value: object) -> object:
    """A cell that a spreadsheet shows as it is."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        return value
    if _FORMULA.match(value):
        return f"'{value}"
    return f"\t{value}" if _LONG_NUMBER.fullmatch(value) else value


def _workbook(
    headings: list[str], columns: Sequence[ColumnSpec], rows: Iterator[list[object]]
) -> bytes:
    written = io.BytesIO()
    book = xlsxwriter.Workbook(
        written,
        # Text stays text: a name that begins with '=' is not a formula.
        {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False,
         "nan_inf_to_errors": True},
    )  # fmt: skip
    sheet = book.add_worksheet()
    bold = book.add_format({"bold": True})
    looks = {kind: book.add_format({"num_format": look}) for kind, look in _LOOKS.items()}
    sheet.freeze_panes(1, 0)
    for place, (heading, column) in enumerate(zip(headings, columns, strict=True)):
        sheet.set_column(place, place, max(_WIDTHS.get(column.kind, 12), len(heading) + 2))
        sheet.write_string(0, place, heading, bold)
    for number, row in enumerate(rows, 1):
        for place, (value, column) in enumerate(zip(row, columns, strict=True)):
            if value is None:
                continue
            if isinstance(value, (int, float, datetime)) or column.kind == "day":
                sheet.write(number, place, value, looks.get(column.kind))
            else:
                sheet.write_string(number, place, str(value))
    book.close()
    return written.getvalue()
