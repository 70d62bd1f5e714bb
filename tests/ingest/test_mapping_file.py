"""Mapping files: what they may say, and how they are told that they may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from ingest_harness import put

from pipelines.ingest.mapping.mapping import Mapping, load_mapping, parse_offset
from schemas.errors import MappingError


def load(folder: Path, text: str) -> Mapping:
    return load_mapping(put(folder / "m.toml", text))


def field(line: str) -> str:
    return f"[[export]]\n[export.fields]\n{line}\n"


def test_an_empty_export_is_the_contract(tmp_path: Path) -> None:
    export = load(tmp_path, "[[export]]\n").export_of("cdr/s/a.csv")
    assert export is not None
    assert export.reads == ["call_id", "start_time", "imsi"]
    assert export.missing(["imsi", "x"]) == ["call_id", "start_time"]


def test_the_first_export_that_fits_is_used(tmp_path: Path) -> None:
    mapping = load(
        tmp_path,
        '[[export]]\nfiles = "cdr/a/*"\ndelimiter = "|"\n[[export]]\nfiles = "cdr/*.csv"\n',
    )
    first, second = mapping.export
    assert mapping.export_of("cdr/a/x/1.csv") is first
    assert mapping.export_of("cdr/b/1.csv") is second
    assert mapping.export_of("cdr/b/1.csv.gz") is None
    assert mapping.export_of("events/a.csv") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "give an [[export]], or a [[source]]"),
        ("export = []", "give an [[export]], or a [[source]]"),
        ("[export]\n", "export: Input should be a valid list"),
        ("[[exports]]\n", "exports: is not a key of mapping files"),
        (
            "[[export]]\n[[source]]\nname = 'cdr/a'\nordered_by = 'end'\n",
            'cdr/a is ordered by "end": its export cdr/* must name duration_s',
        ),
        ("[[source]]\nname = 'a'\nordered_by = 'time'\n", "source[1].ordered_by: Input should be"),
        ("[[export]]\n[[export]]\nfile = '*'\n", "export[2].file: is not a key of mapping files"),
        ("[[export]]\ndelimiter = '||'\n", "export[1].delimiter: must be one ASCII character"),
        ("[[export]]\ndelimiter = ' '\n", "export[1].delimiter: must be one ASCII character"),
        ("[[export]]\nskip_lines = -1\n", "export[1].skip_lines: Input should be greater than"),
        ("[[export]]\nskip_starting = ['']\n", "export[1].skip_starting[1]: String should"),
        ("[[export]]\ncolumns = ['a', 'a']\n", "export[1]: columns: two have the same name"),
        ("[[export]]\ncolumns = ['imsi']\n", "export[1]: fields use call_id, start_time, which"),
        (field("imsi = 5"), "export[1].fields.imsi: Input should be a valid dictionary"),
        (field("imsi = {}"), "export[1].fields.imsi: give either a column or a constant"),
        (field("imsi = {column='a', constant='b'}"), "fields.imsi: give either a column or a cons"),
        (field("imsi = {column='a', unit='fen'}"), "fields.imsi.unit: is not a key of mapping"),
        (field("duration_s = {column='a', unit='hours'}"), "fields.duration_s.unit: Input should"),
        (field("charge_fen = {column='a', unit='tenths'}"), "fields.charge_fen.unit: Input sho"),
        (field("call_id = {hash=[]}"), "fields.call_id.hash: List should have at least 1 item"),
        (field("start_time = {date='d'}"), "start_time: give either a column, or a date and a"),
        (field("start_time = {column='c', date='d', time='t'}"), "start_time: give either a col"),
        (field("start_time = {date='d', time='t'}"), "fields.start_time: give a format, like"),
        (
            field("start_time = {column='c', zone='UTC', offset='Z'}"),
            "start_time: give one of zone",
        ),
        (field("start_time = {column='c', format='excel'}"), "start_time: give one of zone"),
        (
            field("start_time = {column='c', format='%Y%m%d %H%M%S'}"),
            "start_time: give one of zone",
        ),
        (
            field("start_time = {column='c', format='%Y%m%d', zone='UTC'}"),
            "start_time.format: '%Y%m%d' must give a date and a time to the minute",
        ),
        (
            field("start_time = {column='c', format='%Y%m%d%H%M%S%z', zone='UTC'}"),
            "fields.start_time: the format has the offset: leave out zone",
        ),
        (
            field("start_time = {column='c', format='%Y%m%d %H%M%S', zone='Asia/Shangai'}"),
            "start_time.zone: no time zone has the name 'Asia/Shangai'",
        ),
        (
            field("start_time = {column='c', format='%Y%m%d %H%M%S', zone='../etc'}"),
            "start_time.zone: no time zone has the name",
        ),
        (
            field("start_time = {column='c', format='%Y%m%d %H%M%S', offset='8'}"),
            "start_time.offset: '8' is not an offset like +08:00",
        ),
        (
            field("start_time = {column='c', format='%Y%m%d %H%M%S', zone='UTC', offset='Z'}"),
            "start_time: give one of zone, offset and offset_column",
        ),
        ("[[export\n", "is not TOML: "),
    ],
)
def test_a_wrong_mapping_file_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MappingError) as error:
        load(tmp_path, text)
    told = str(error.value)
    assert told.startswith(str(tmp_path / "m.toml"))
    assert says in told
    assert "\n" not in told


def test_a_mapping_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"nowhere\.toml cannot be read: No such file"):
        load_mapping(tmp_path / "nowhere.toml")
    put(tmp_path / "m.toml", b"\xff")
    with pytest.raises(MappingError, match=r"m\.toml is not TOML"):
        load_mapping(tmp_path / "m.toml")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("Z", 0), ("+08:00", 480), ("+0800", 480), ("+08", 480), ("-03:30", -210), ("-00:15", -15)],
)
def test_offsets(text: str, minutes: int) -> None:
    assert parse_offset(text) == minutes


@pytest.mark.parametrize("text", ["", "8", "08:00", "+8", "+24:00", "+08:60", "UTC", "+08:00 "])
def test_what_is_no_offset(text: str) -> None:
    with pytest.raises(ValueError, match="is not an offset"):
        parse_offset(text)
