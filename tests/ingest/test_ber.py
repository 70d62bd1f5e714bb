"""Call records of 3GPP TS 32.298 in BER, written by the library by a fuller module than is read."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import asn1tools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import FIRST_IMSI, ListPost, put, read

import pipelines.ingest
from pipelines.ingest.mapping.mapping import Mapping, load_mapping
from pipelines.ingest.reading import decoding
from schemas.errors import MappingError

EXAMPLES = Path(pipelines.ingest.__file__).parent / "examples"
MODULE = (EXAMPLES / "ts32298.asn").read_text("utf-8")

#: What a switch writes beside what the example's module names: in between, behind, in depth.
FULL = asn1tools.compile_string(
    MODULE.replace(
        "mtCallRecord [1] MTCallRecord", "mtCallRecord [1] MTCallRecord,\n moSMS [6] Sms"
    )
    .replace("MOCallRecord ::= SET {", "MOCallRecord ::= SET { recordType [0] INTEGER,")
    .replace(
        "answerTime    [23]",
        "mscClassmarks [21] SEQUENCE OF LocationAreaAndCell OPTIONAL,"
        "seizureTime [22] TimeStamp OPTIONAL, answerTime [23]",
    )
    .replace(
        "callReference [32] CallReferenceNumber",
        "callReference [32] CallReferenceNumber, systemType [50] INTEGER OPTIONAL",
    )
    .replace(
        "IMSI ::=", "Sms ::= SET { recordType [0] INTEGER, servedIMSI [1] IMSI }\nIMSI ::=", 1
    ),
    "ber",
)


def tbcd(digits: str) -> bytes:
    digits += "F" * (len(digits) % 2)
    return bytes.fromhex("".join(digits[n + 1] + digits[n] for n in range(0, len(digits), 2)))


def stamp(text: str) -> bytes:
    return bytes.fromhex(text[:12]) + text[12].encode() + bytes.fromhex(text[13:])


def call(number: int, **more: Any) -> tuple[str, dict[str, Any]]:
    return "moCallRecord", {
        "recordType": 0,
        "servedIMSI": tbcd(str(FIRST_IMSI + number)),
        "servedMSISDN": b"\x91" + tbcd(f"86139{number:08}"),
        "location": {"locationAreaCode": b"\x00\x11", "cellId": b"\x00\x04"},
        "mscClassmarks": [{"locationAreaCode": b"\x00\x11", "cellId": b"\x00\x05"}],
        "seizureTime": stamp("260302094957+0800"),
        "answerTime": stamp("260302095003+0800"),
        "callDuration": 37,
        "causeForTerm": 0,
        "callReference": number.to_bytes(3, "big"),
        "systemType": 1,
    } | more


def encoded(*records: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(bytes(FULL.encode("CallEventRecord", record)) for record in records)


def sms(number: int) -> tuple[str, dict[str, Any]]:
    return "moSMS", {"recordType": 6, "servedIMSI": tbcd(str(FIRST_IMSI + number))}


@pytest.fixture(scope="module")
def mapping() -> Mapping:
    return load_mapping(EXAMPLES / "exports.toml")


def test_the_example_is_what_the_library_writes() -> None:
    unanswered = call(6, callDuration=0)
    received = {"servedIMSI": tbcd("460001234500000"), "callDuration": 5, "callReference": b"\x09"}
    received |= {"answerTime": stamp("260302095500+0800")}
    expected = encoded(call(5), sms(6), unanswered, ("mtCallRecord", received))
    assert (EXAMPLES / "exports/cdr/msc/MSC1_20260302.ber").read_bytes() == expected


RECORDS = st.lists(
    st.one_of(
        st.integers(0, 99).map(call),
        st.integers(0, 99).map(sms),
        st.integers(0, 9).map(lambda number: call(number, callDuration=0)),
    ),
    max_size=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    records=RECORDS,
    filler=st.sampled_from([b"", b"\x00" * 7, b"\xff" * 3]),
    step=st.sampled_from([3, 100, 1 << 17]),
    cut=st.integers(0, 200),
    packed=st.booleans(),
)
def test_records_in_any_blocks_are_read_and_a_last_one_waits(
    city: Path,
    mapping: Mapping,
    records: list[tuple[str, dict[str, Any]]],
    filler: bytes,
    step: int,
    cut: int,
    packed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "_STEP", step)
    pieces = [encoded(record) + filler for record in records]
    whole = b"".join(pieces)
    file, post = city / "cdr/msc/a.ber", ListPost()
    for data in (whole[: len(whole) - cut], whole):
        put(file, gzip.compress(data) if packed else data)
        read(city, post, mapping=mapping)
    calls = [r["servedIMSI"] for name, r in records if name[:2] == "mo" and r.get("callDuration")]
    got = {imsi for _, imsi, _, _ in post.uses()}
    assert got == {int(bytes(b % 16 * 16 + b // 16 for b in i).hex()[:15]) for i in calls}
    assert post.letters() == []
    file.unlink()


def test_a_record_that_cannot_be_read_takes_no_other_with_it(city: Path, mapping: Mapping) -> None:
    bad = bytearray(encoded(call(2)))
    bad[-2] = 0x40  # the length of the last field is wrong
    nobody = call(3)
    del nobody[1]["servedIMSI"]
    put(city / "cdr/msc/a.ber", encoded(call(1)) + bytes(bad) + encoded(nobody, call(4)))
    post, _ = read(city, mapping=mapping)
    assert [use[1] - FIRST_IMSI for use in sorted(post.uses(), key=lambda use: use[1])] == [1, 4]
    (_, first, why, payload), (_, second, missing, _) = post.letters()
    assert (first, second, missing) == (2, 3, "invalid_field: imsi: not 14 or 15 digits")
    assert why.startswith("malformed: ")
    assert bytes(bad).hex() in payload.decode()


def test_a_file_that_is_none_is_one_dead_letter(city: Path, mapping: Mapping) -> None:
    put(city / "cdr/msc/a.ber", encoded(call(1)) + b"\xa0\x89" + b"\x7f" * 90)
    put(city / "cdr/msc/b.ber", b"call_id,start_time,imsi\n" * 20_000)
    put(city / "cdr/msc/c.ber", b"\xa0\x83\x01\x00\x00" * 20_000)
    post, _ = read(city, mapping=mapping)
    assert len(post.uses()) == 1
    assert {source for source, *_ in post.letters()} == {f"cdr/msc/{n}.ber" for n in "abc"}


def test_memory_does_not_grow_with_the_records(mapping: Mapping) -> None:
    records = next(export for export in mapping.export if export.asn1 is not None).records
    block = encoded(*map(call, range(300)))
    peaks = []
    for blocks in (2, 20):
        tracemalloc.start()
        count = sum(lines.count(b"\n") for lines in records.lines(iter([block] * blocks)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == 300 * blocks
    assert peaks[1] < 1.5 * peaks[0]


def test_an_indefinite_length_is_read(city: Path, mapping: Mapping) -> None:
    data = encoded(call(1))
    put(city / "cdr/msc/a.ber", (data[:1] + b"\x80" + data[2:] + b"\x00\x00") * 2)
    post, _ = read(city, mapping=mapping)
    assert [use[1] for use in post.uses()] == [FIRST_IMSI + 1] * 2


@pytest.mark.parametrize(
    ("export", "says"),
    [
        ('asn1 = {module = "no.asn", record = "A"}', "no.asn cannot be read"),
        ('asn1 = {module = "bad.asn", record = "A"}', "the module is not ASN.1"),
        ('asn1 = {module = "m.asn", record = "Call"}', "the module has no type Call; it has"),
        (
            'asn1 = {module = "m.asn", record = "CallEventRecord"}',
            "has no field call_id, start_time, imsi",
        ),
        (
            'asn1 = {module = "m.asn", record = "CallEventRecord"}\ncolumns = ["a"]',
            "asn1 leaves columns",
        ),
    ],
)
def test_what_is_wrong_with_a_module_is_told_in_one_line(
    tmp_path: Path, export: str, says: str
) -> None:
    put(tmp_path / "m.asn", MODULE)
    put(tmp_path / "bad.asn", "no module")
    put(tmp_path / "m.toml", f"[[export]]\n{export}\n")
    with pytest.raises(MappingError, match=says) as error:
        load_mapping(tmp_path / "m.toml")
    assert "\n" not in str(error.value)
