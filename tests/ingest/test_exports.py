"""Operators' own exports, read by their mappings: the shipped examples and all that can be said."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_harness import ListPost, call_row, csv_of, put, read

import pipelines.ingest
from pipelines.ingest.mapping.convert import convert
from pipelines.ingest.mapping.mapping import Export, load_mapping
from pipelines.ingest.reading import files
from pipelines.ingest.times import UNSURE, Layout, parse_local
from schemas.fields import EVENTS_START, OUT_OF_RANGE

EXAMPLES = Path(pipelines.ingest.__file__).parent / "examples"


def of(**fields: object) -> Export:
    return Export.model_validate({"fields": fields})


def texts(**columns: list[str]) -> dict[str, pa.Array]:
    columns = {"call_id": ["1"], "imsi": ["2"], "start_time": ["2026-03-02T09:15:02Z"]} | columns
    rows = max(map(len, columns.values()))
    return {name: pa.array((c * rows)[:rows], pa.string()) for name, c in columns.items()}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


# The examples


def test_the_switch_example() -> None:
    post, report = read(EXAMPLES / "switch", mapping=load_mapping(EXAMPLES / "switch.toml"))
    uses = {(imsi, at) for _, imsi, at, _ in post.uses()}
    assert uses == {
        (460001234500000, ms("2026-03-02T09:15:02+08:00")),
        (460001234500001, ms("2026-03-02T09:30:10+08:00")),
        (460001234500002, ms("2026-03-02T09:45:12+08:00")),
    }
    # Two lines that are the same have one id, whoever derives it.
    assert len(post.uses()) == 4
    assert {use[0] for use in post.uses()} == {
        "e1f06b00fb74a65da251d642547b666f",
        "fedb2caf1414b8147adef119e3a68ec0",
        "d9ac8c381d88a5ab63c988bd85a0876e",
    }
    assert report.outsiders == 1
    assert post.letters() == [
        (
            "cdr/switch-a/20260302.csv",
            5,
            "invalid_field: start_time: '20260302 9:41' is not like %Y%m%d %H%M%S",
            b"000120|20260302|9:41|460001234500002|8613900000004|60|17-5|20",
        )
    ]


def test_the_exports_of_five_systems() -> None:
    """Asterisk, FreeSWITCH, Cisco CUCM, ASCII and BER after 3GPP; unanswered calls are none."""
    post, report = read(EXAMPLES / "exports", mapping=load_mapping(EXAMPLES / "exports.toml"))
    assert sorted((imsi - 460001234500000, at) for _, imsi, at, _ in post.uses()) == [
        (0, ms("2026-03-02T09:15:02+08:00")),
        (0, ms("2026-03-02T09:55:00+08:00")),
        (1, ms("2026-03-02T09:20:00.350+08:00")),
        (2, ms("2026-03-02T09:40:00+08:00")),
        (3, ms("2026-03-02T09:45:02+08:00")),
        (4, ms("2026-03-02T09:47:12+08:00")),
        (5, ms("2026-03-02T09:50:03+08:00")),
    ]
    assert (post.letters(), report.unread) == ([], [])


@pytest.mark.parametrize("ending", ["DAT", "DAT.gz", "20260302"])
def test_files_of_any_name_are_found_where_the_mapping_says_so(
    city: Path, tmp_path: Path, ending: str
) -> None:
    text = csv_of(call_row(1), call_row(2)).encode()
    put(city / f"cdr/msc/CDR_1.{ending}", gzip.compress(text) if ending.endswith("gz") else text)
    put(city / f"cdr/msc/draft.{ending}", b"not yet")
    for pattern, found in (("cdr/msc/CDR_*", 2), ("cdr/msc/*", 0), ("cdr/*", 0)):
        mapping = put(tmp_path / "m.toml", f'[[export]]\nfiles = "{pattern}"\n')
        post, report = read(city, mapping=load_mapping(mapping))
        # A number may be that of a file turned over: what is in it decides.
        there = 2 if ending.isdigit() else found
        assert (len(post.uses()), report.files) == (there, there // 2), pattern
        unread = dict(report.unread)
        assert f"cdr/msc/draft.{ending}" in unread
        assert (f"cdr/msc/CDR_1.{ending}" in unread) == (not there)
        assert post.letters() == []
        again = read(city, post, mapping=load_mapping(mapping))[1]
        assert again.rows == 0


@pytest.mark.parametrize("name", ["CDR.txt", "cdr.TXT.gz", "cdr.txt.1"])
@pytest.mark.parametrize("pattern", ["cdr/msc/*", "cdr/*/*", "cdr/msc/*[tTzZ1]"])
def test_text_of_other_columns_is_read_where_a_mapping_names_its_folder(
    city: Path, tmp_path: Path, name: str, pattern: str
) -> None:
    text = b"# calls\nid|when|card\nC1|2026-03-02T09:15:02Z|460001234500001\n"
    put(city / "cdr/msc" / name, gzip.compress(text) if name.endswith("gz") else text)
    exports = f'[[export]]\nfiles = "{pattern}"\nskip_starting = ["#"]\n[export.fields]\n'
    exports += 'call_id = "id"\nstart_time = "when"\nimsi = "card"\n'
    mapping = load_mapping(put(tmp_path / "m.toml", exports))
    post, report = read(city, mapping=mapping)
    assert ([use[0] for use in post.uses()], post.letters(), report.unread) == (["C1"], [], [])
    assert read(city)[0].uses() == []


def test_the_mediation_example() -> None:
    post, report = read(EXAMPLES / "mediation", mapping=load_mapping(EXAMPLES / "mediation.toml"))
    assert post.uses() == [
        ("M-81", 460001234500000, at := ms("2026-03-02T09:15:02.350+08:00"), at),
        ("M-82", 460001234500001, at := ms("2026-03-02T09:20:44+08:00"), at),
        ("M-83", 460001234500002, at := ms("2026-03-02T09:31:07.900+08:00"), at),
    ]
    assert [(letter[1], letter[2]) for letter in post.letters()] == [
        (6, "invalid_field: start_time: 'CST' is not an offset like +08:00"),
        (7, "invalid_field: imsi: not 14 or 15 digits"),
    ]
    assert report.dead_letters == 2


@pytest.mark.parametrize("name", ["switch", "mediation"])
def test_the_examples_in_pieces_packed_and_in_other_columns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = load_mapping(EXAMPLES / f"{name}.toml")
    whole, _ = read(EXAMPLES / name, mapping=mapping)
    for path in (EXAMPLES / name).rglob("*.*"):
        target = tmp_path / path.relative_to(EXAMPLES / name)
        content = path.read_bytes()
        if "cdr" in path.parts:
            target, content = target.with_name(target.name + ".gz"), gzip.compress(content)
        put(target, content)
    monkeypatch.setattr(files, "CHUNK_BYTES", 11)
    pieces, _ = read(tmp_path, mapping=mapping)
    assert pieces.facts() == whole.facts()
    assert [letter[1:] for letter in pieces.letters()] == [letter[1:] for letter in whole.letters()]


def test_a_file_without_a_column_that_the_mapping_uses_is_one_dead_letter(city: Path) -> None:
    put(city / "cdr/mediation/a.csv", "HDR\nRecordId;Start;ServedIMSI\n1;2;3\nTRL\n")
    post, _ = read(city, mapping=load_mapping(EXAMPLES / "mediation.toml"))
    ((source, position, why, _),) = post.letters()
    assert (source, position) == ("cdr/mediation/a.csv", 1)
    assert why == (
        "malformed: no column UtcOffset, Duration, Amount, which the mapping names;"
        " the header is 'RecordId;Start;ServedIMSI'; separated by ';'"
    )


def test_what_could_not_be_read_is_once_a_mapping_says_how(city: Path, tmp_path: Path) -> None:
    put(city / "cdr/s/a.csv", "id|when|card\nC1|2026-03-02T09:15:02Z|460001234500001\n")
    put(city / "cdr/s/b.csv", csv_of(call_row(2)))
    put(city / "cdr/s/c.csv", "")
    post, report = read(city)
    assert (report.files, post.reasons()) == (3, [(1, "malformed")])
    again = read(city, post)[1]
    assert (again.files, again.rows, post.reasons()) == (1, 0, [(1, "malformed")])
    fields = 'call_id = "id"\nstart_time = "when"\nimsi = "card"\n'
    exports = f'[[export]]\nfiles = "cdr/s/a*"\n[export.fields]\n{fields}'
    mapping = load_mapping(put(tmp_path / "m.toml", exports))
    _, report = read(city, post, mapping=mapping)
    assert (report.files, report.rows, post.letters()) == (1, 1, [])
    assert [use[0] for use in post.uses()] == ["C1", "C2"]
    assert read(city, post, mapping=mapping)[1].files == 0


def test_files_that_no_export_fits_are_read_as_the_contract_says(city: Path) -> None:
    put(
        city / "cdr/other/a.csv",
        "call_id,start_time,imsi\n1,2026-03-02T09:15:02Z,460001234500000\n",
    )
    post, _ = read(city, mapping=load_mapping(EXAMPLES / "switch.toml"))
    assert [use[0] for use in post.uses()] == ["1"]


def test_a_mapping_reads_parquet_too(city: Path) -> None:
    (city / "cdr/s").mkdir(parents=True)
    local = pa.array([datetime(2026, 3, 2, 9, 15, 2, 350_000)], pa.timestamp("us"))  # noqa: DTZ001
    table = pa.table({"ID": [17], "WHEN": local, "SIM": ["I460001234500000"], "LEN": [374]})
    pq.write_table(table, city / "cdr/s/a.parquet")
    put(
        city / "m.toml",
        """[[export]]
        [export.fields]
        call_id = "ID"
        start_time = { column = "WHEN", format = "%Y-%m-%dT%H:%M:%S.%f", offset = "+08:00" }
        imsi = { column = "SIM", strip_prefix = "I" }
        duration_s = { column = "LEN", unit = "tenths" }
        """,
    )
    post, _ = read(city, mapping=load_mapping(city / "m.toml"))
    at = ms("2026-03-02T09:15:02.350+08:00")
    assert post.uses() == [("17", 460001234500000, at, at)]
    assert post.letters() == []


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "int96"])
def test_local_timestamps_in_parquet_need_only_a_zone(city: Path, unit: str) -> None:
    moment = [datetime(2026, 3, 2, 9, 15, 2), None]  # noqa: DTZ001
    times = pa.array(moment, pa.timestamp("ns" if unit == "int96" else unit))
    imsis = [Decimal(460001234500000), Decimal(460001234500001)]
    table = pa.table(
        {"call_id": [1.0, 2.0], "start_time": times, "imsi": pa.array(imsis, pa.decimal128(20, 3))}
    )
    path = put(city / "cdr/s/a.parquet", b"")
    pq.write_table(table, path, use_deprecated_int96_timestamps=unit == "int96")
    put(
        city / "m.toml",
        """[[export]]
        fields = { start_time = { column = "start_time", zone = "Asia/Shanghai" } }""",
    )
    post, _ = read(city, mapping=load_mapping(city / "m.toml"))
    at = ms("2026-03-02T09:15:02+08:00")
    assert post.uses() == [("1", 460001234500000, at, at)]
    assert [letter[1] for letter in post.letters()] == [2]


def test_parquet_that_lost_digits_is_refused(city: Path) -> None:
    imsis = pa.array([460001234500000.0, 460001234500001.0], pa.float32())
    time = pa.array([datetime(2026, 3, 2, tzinfo=UTC)] * 2)
    path = put(city / "cdr/s/a.parquet", b"")
    pq.write_table(pa.table({"CALL_ID": [1, 2], "START_TIME": time, "IMSI": imsis}), path)
    post, report = read(city)
    assert (post.uses(), report.outsiders) == ([], 0)
    assert all("cut digits off" in why for _, _, why, _ in post.letters())
    assert len(post.letters()) == 2


def test_changing_the_file_that_was_mapped_goes_on_as_ever(city: Path) -> None:
    mapping = load_mapping(EXAMPLES / "switch.toml")
    path = put(city / "cdr/switch-a/a.csv", "1|20260302|091502|460001234500000|||17|0\n")
    post, _ = read(city, ListPost(), mapping=mapping)
    with path.open("a") as file:
        file.write("2|20260302|091503|460001234500001|||17|0\n")
    _, report = read(city, post, mapping=mapping)
    assert report.rows == 1
    assert len(post.uses()) == 2


# Fields


def test_text_fields() -> None:
    export = of(
        call_id={"column": "id", "strip_prefix": "M-"},
        imsi={"column": "sim", "strip_prefix": "呼"},
        cell_id={"constant": "none"},
    )
    calls = convert(export, texts(id=[" M-1 ", "M-M-2", "3"], sim=["呼1", "2", ""]))
    assert calls.texts["call_id"].to_pylist() == ["1", "M-2", "3"]
    assert calls.texts["imsi"].to_pylist() == ["1", "2", ""]
    assert calls.texts["cell_id"].to_pylist() == ["none"] * 3
    assert "msisdn" not in calls.texts


@pytest.mark.parametrize(
    ("name", "unit", "given_", "is_"),
    [
        ("duration_s", "seconds", "37", "37"),
        ("duration_s", "tenths", "374", "37.4"),
        ("duration_s", "tenths", "370", "37"),
        ("duration_s", "milliseconds", "1", "0.001"),
        ("duration_s", "minutes", "1.5", "90"),
        ("duration_s", "tenths", "", ""),
        ("duration_s", "tenths", "1e9", "1e9"),
        ("duration_s", "tenths", "long", "long"),
        ("charge_fen", "yuan", "1.25", "125"),
        ("charge_fen", "yuan", "-0.05", "-5"),
        ("charge_fen", "yuan", "1000", "100000"),
        ("charge_fen", "yuan", "1.255", "125.5"),
        ("charge_fen", "jiao", "3", "30"),
        ("charge_fen", "fen", " 3 ", "3"),
    ],
)
def test_units(name: str, unit: str, given_: str, is_: str) -> None:
    calls = convert(of(**{name: {"column": "x", "unit": unit}}), texts(x=[given_, given_]))
    assert calls.texts[name].to_pylist() == [is_, is_]


def test_a_fraction_of_a_fen_is_refused(city: Path) -> None:
    put(city / "m.toml", "[[export]]\n[export.fields]\ncharge_fen = {column='Y', unit='yuan'}\n")
    row = "2026-03-02T09:15:02Z,460001234500000"
    put(city / "cdr/s/a.csv", f"call_id,start_time,imsi,Y\n1,{row},1.25\n2,{row},1.255\n")
    post, _ = read(city, mapping=load_mapping(city / "m.toml"))
    assert [use[0] for use in post.uses()] == ["1"]
    assert "charge_fen" in post.letters()[0][2]


def test_derived_ids_depend_on_all_their_columns_and_their_order() -> None:
    columns = texts(a=["1", "12", "1", "1 "], b=["23", "3", "23", "23"])
    ids = convert(of(call_id={"hash": ["a", "b"]}), columns).texts["call_id"].to_pylist()
    assert ids[0] == ids[2] == ids[3]
    assert ids[0] != ids[1]
    other = convert(of(call_id={"hash": ["b", "a"]}), columns).texts["call_id"].to_pylist()
    assert not set(ids) & set(other)


zones = st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/St_Johns", "Africa/Casablanca"])
locals_ = st.datetimes(datetime(2000, 1, 2), datetime(2299, 12, 30))  # noqa: DTZ001


@given(st.lists(locals_, min_size=1, max_size=20), zones)
def test_local_times_of_a_zone(moments: list[datetime], zone: str) -> None:
    export = of(start_time={"column": "t", "format": "%Y%m%d%H%M%S.%f", "zone": zone})
    moments = [m.replace(microsecond=m.microsecond // 1_000 * 1_000) for m in moments]
    given_ = [f"{m:%Y%m%d%H%M%S}.{m.microsecond // 1_000:03}" for m in moments]
    expected = [
        (m.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC))
        // timedelta(milliseconds=1)
        for m in moments
    ]
    calls = convert(export, texts(t=given_))
    assert calls.at.tolist() == expected
    assert calls.wrong == {}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-10-25 02:30:00", "2026-10-25T02:30:00+02:00"),  # comes twice: the first
        ("2026-03-29 02:30:00", "2026-03-29T01:30:00+00:00"),  # never comes
        ("2026-07-01 12:00:00", "2026-07-01T12:00:00+02:00"),
        ("2026-01-01 12:00:00", "2026-01-01T12:00:00+01:00"),
    ],
)
def test_hours_that_come_twice_or_never(text: str, at: str) -> None:
    layout = {"column": "t", "format": "%Y-%m-%d %H:%M:%S", "zone": "Europe/Berlin"}
    assert convert(of(start_time=layout), texts(t=[text])).at.tolist() == [ms(at)]


def test_formats_without_a_fixed_layout_are_read_row_by_row() -> None:
    layout = {"column": "t", "format": "%d/%m/%Y %I:%M:%S %p", "offset": "-03:30"}
    calls = convert(of(start_time=layout), texts(t=["2/3/2026 9:15:02 PM", "32/3/2026 9:15:02 PM"]))
    assert calls.at[0] == ms("2026-03-02T21:15:02-03:30")
    assert calls.wrong == {
        1: "invalid_field: start_time: '32/3/2026 9:15:02 PM' is not like %d/%m/%Y %I:%M:%S %p"
    }


def test_times_out_of_all_bounds_are_refused() -> None:
    layout = {"column": "t", "format": "%Y%m%d%H%M%S", "zone": "Asia/Shanghai"}
    given_ = ["20000101075959", "20000101080000", "23000101075959", "23000101080000"]
    calls = convert(of(start_time=layout), texts(t=[*given_, "00010101000000", "99991231235959"]))
    assert calls.at.tolist()[1:3] == [EVENTS_START, 10_413_792_000_000 - 1_000]
    assert sorted(calls.wrong) == [0, 3, 4, 5]
    assert {why.split(": ")[2] for why in calls.wrong.values()} == {OUT_OF_RANGE}


def test_iso_times_need_no_format() -> None:
    calls = convert(
        of(start_time="t"),
        texts(t=["2026-03-02T09:15:02+08:00", "2026-03-02T09:15:02.1Z", "2026-03-02T09:15:02"]),
    )
    assert calls.at.tolist() == [1772414102000, 1772442902100, UNSURE]
    assert list(calls.wrong) == [2]


FORMATS = ["%Y%m%d%H%M%S", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S,%f", "%H%M%S/%d%m%Y"]


@given(
    st.sampled_from(FORMATS),
    st.lists(
        st.text("0123456789-:., /x\0٣", min_size=10, max_size=24)
        | st.datetimes(datetime(1000, 1, 1)).map(str)  # noqa: DTZ001
        | st.tuples(st.sampled_from(FORMATS), st.datetimes(datetime(1000, 1, 1))).map(  # noqa: DTZ001
            lambda pair: f"{pair[1]:{pair[0].removesuffix('%f')}}123"
        ),
        max_size=20,
    ),
)
def test_a_layout_vouches_only_for_what_strptime_reads(text: str, given_: list[str]) -> None:
    layout = Layout.of(text)
    assert layout is not None
    local = parse_local(pa.array(given_, pa.string()), layout)
    for one, found in zip(given_, local.tolist(), strict=True):
        if found != UNSURE:
            moment = datetime.strptime(one, text).replace(tzinfo=UTC)
            assert found == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text", ["%Y%m%d", "%y%m%d%H%M%S", "%f%Y%m%d%H%M%S", "%Y%Y%m%d%H%M%S", "%"]
)
def test_formats_that_are_no_layout(text: str) -> None:
    assert Layout.of(text) is None


# Numbers since 1970, the end of a day, and what is stripped, skipped and written with commas


@given(
    st.integers(946_684_800, 10_413_791_999),
    st.sampled_from([("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]),
    st.booleans(),
)
def test_the_size_of_a_number_tells_its_unit(
    second: int, unit: tuple[str, int], named: bool
) -> None:
    name, ticks = unit
    if second * ticks >= 2**63:
        return
    layout = {"column": "t", "format": f"epoch_{name}" if named else "epoch"}
    assert convert(of(start_time=layout), texts(t=[str(second * ticks)])).at[0] == second * 1_000


@pytest.mark.parametrize(
    ("text", "layout", "at"),
    [
        ("1772414102.3509", {"format": "%s"}, "2026-03-02T09:15:02.350+08:00"),
        ("1772442902", {"format": "epoch", "offset": "+08:00"}, "2026-03-02T09:15:02+08:00"),
        ("2026-03-02T24:00:00+08:00", {}, "2026-03-03T00:00:00+08:00"),
        ("20260302 240000", {"format": "%Y%m%d %H%M%S", "offset": "Z"}, "2026-03-03T00:00:00Z"),
        (
            "2.3.2026 24:00:00",
            {"format": "%d.%m.%Y %H:%M:%S", "offset": "Z"},
            "2026-03-03T00:00:00Z",
        ),
        ("20260302091502+0800", {"format": "%Y%m%d%H%M%S%z"}, "2026-03-02T09:15:02+08:00"),
        ("2/3/2026 9:15", {"format": "%d/%m/%Y %H:%M", "offset": "+08:00"}, "2026-03-02T09:15+08"),
        ("2026-03-02 24:00", {"format": "%Y-%m-%d %H:%M", "offset": "Z"}, "2026-03-03T00:00:00Z"),
        ("2026-03-02 09:15:02", {"zone": "Asia/Shanghai"}, "2026-03-02T09:15:02+08:00"),
        ("2026-03-02T09:15:02.3509", {"offset": "+08:00"}, "2026-03-02T09:15:02.350+08:00"),
        ("2026-03-02T24:00:00", {"offset": "+08:00"}, "2026-03-03T00:00:00+08:00"),
        ("46083.3854398148", {"format": "excel", "offset": "+08:00"}, "2026-03-02T09:15:02+08:00"),
        ("46083,5", {"format": "excel", "zone": "Asia/Shanghai"}, "2026-03-02T12:00:00+08:00"),
        ("46084", {"format": "excel", "offset": "Z"}, "2026-03-03T00:00:00Z"),
    ],
)
def test_times_of_other_layouts(text: str, layout: dict[str, str], at: str) -> None:
    calls = convert(of(start_time={"column": "t"} | layout), texts(t=[text]))
    assert (calls.at.tolist(), calls.wrong) == ([ms(at)], {})


@pytest.mark.parametrize(
    ("text", "layout", "why"),
    [
        ("0", {"format": "epoch"}, "years 2000 and 2300"),
        ("1772414102", {"format": "epoch_ms"}, "years 2000 and 2300"),
        ("soon", {"format": "epoch"}, "not a number since 1970"),
        ("1772414102", {}, "a mapping can read a number"),
        ("1970-01-01T08:00:00+08:00", {}, "years 2000 and 2300"),
        ("20260302 240001", {"format": "%Y%m%d %H%M%S", "offset": "Z"}, "is not like"),
        ("2026-03-02T09:15:02Z", {"offset": "Z"}, "is not a time like 2026-03-01T08:15:30"),
        ("2026-03-02", {"format": "excel", "offset": "Z"}, "is not a spreadsheet's number of days"),
        ("20260302", {"format": "excel", "offset": "Z"}, "is not a spreadsheet's number of days"),
        ("25569", {"format": "excel", "offset": "Z"}, "years 2000 and 2300"),
    ],
)
def test_times_that_are_none_say_why(text: str, layout: dict[str, str], why: str) -> None:
    calls = convert(of(start_time={"column": "t"} | layout), texts(t=[text]))
    assert calls.at.tolist() == [UNSURE]
    assert why in calls.wrong[0]


@pytest.mark.parametrize(
    "text",
    [
        "460001234500000F",
        "460001234500000.0",
        "'460001234500000",
        '="460001234500000"',
        " 460001234500000 ",
    ],
)
def test_what_stands_around_a_number_can_be_stripped(text: str) -> None:
    imsi = {"column": "i", "strip_prefix": ["'", '="'], "strip_suffix": ['"', ".0", "F"]}
    assert convert(of(imsi=imsi), texts(i=[text])).texts["imsi"].to_pylist() == ["460001234500000"]


def test_rows_are_skipped_by_what_a_column_says(city: Path, tmp_path: Path) -> None:
    rows = [
        'a,2026-03-02T09:15:02Z,460001234500001,"1,5",yes',
        'b,2026-03-02T09:15:02Z,460001234500002,"0,0",yes',
        'c,2026-03-02T09:15:02Z,460001234500003,"0,4",no',
        'd,bad,460001234500003,"1.000,4",yes',
    ]
    put(city / "cdr/s/a.csv", "\n".join(["call_id,start_time,imsi,minutes,answered", *rows]))
    mapping = put(
        tmp_path / "m.toml",
        '[[export]]\ndecimal = ","\nskip_rows = [{ column = "answered", is = ["no"] },'
        ' { column = "minutes", at_most = 0 }]\n[export.fields]\n'
        'duration_s = { column = "minutes", unit = "minutes" }\n',
    )
    post, report = read(city, mapping=load_mapping(mapping))
    assert [use[0] for use in post.uses()] == ["a"]
    assert [(letter[1], letter[3]) for letter in post.letters()] == [(5, rows[3].encode())]
    assert (report.rows, report.dead_letters) == (4, 1)
