"""A look at an unknown export: what it finds, and a mapping that reads the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import FIRST_IMSI, put, read
from typer.testing import CliRunner

import pipelines.ingest
from infra.cli import app
from pipelines.ingest.mapping.look import look, starting_mapping
from pipelines.ingest.mapping.mapping import load_mapping
from schemas.errors import InputError

EXAMPLES = Path(pipelines.ingest.__file__).parent / "examples"

#: A time of each layout: 2026-03-02 09:15:02 in Shanghai and the minutes after.
LAYOUTS = {
    "iso": lambda n: f"2026-03-02T09:{15 + n}:02+08:00",
    "epoch": lambda n: str(1_772_414_102 + 60 * n),
    "epoch_us": lambda n: str((1_772_414_102 + 60 * n) * 10**6),
    "german": lambda n: f"02.03.2026 09:{15 + n}:02",
    "digits": lambda n: f"2026030209{15 + n}02",
    "zoned": lambda n: f"260302 09{15 + n}02+0800",
}
NAMES = {
    "call_id": ["call_id", "CallId", "pkid"],
    "start_time": ["start_time", "StartTime", "dateTimeOrigination"],
    "imsi": ["imsi", "ServedIMSI", "account"],
}


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.tuples(*map(st.sampled_from, NAMES.values())),
    layout=st.sampled_from(list(LAYOUTS)),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    around=st.sampled_from([("", ""), ("IMSI-", ""), ("", "F"), ("I", ".0")]),
    framed=st.booleans(),
    order=st.permutations(range(6)),
)
def test_the_mapping_that_a_look_gives_reads_the_file(
    city: Path,
    names: tuple[str, str, str],
    layout: str,
    delimiter: str,
    encoding: str,
    around: tuple[str, str],
    framed: bool,
    order: list[int],
) -> None:
    before, behind = around
    rows = [
        delimiter.join([f"x{n}", LAYOUTS[layout](n), f"{before}{FIRST_IMSI + n}{behind}", "7"])
        for n in order
    ]
    lines = [delimiter.join([*names, "duration"]), *rows]
    if framed:
        lines = [delimiter.join(["HDR", "1"]), *lines, delimiter.join(["TRL", "6"])]
    path = put(city / "cdr/s/export.csv", ("\n".join(lines) + "\n").encode(encoding))
    found = look(path)
    back = max(max(order[:place]) - number for place, number in enumerate(order) if place)
    assert found.disorder_ms == max(back, 0) * 60_000
    mapping = put(city / "m.toml", starting_mapping(found, "cdr/s/*"))
    post, _ = read(city, mapping=load_mapping(mapping))
    assert post.letters() == []
    assert sorted((use[0], use[1], use[2]) for use in post.uses()) == [
        (f"x{n}", FIRST_IMSI + n, 1_772_414_102_000 + n * 60_000) for n in range(6)
    ]


def test_a_file_that_is_no_text_is_told() -> None:
    with pytest.raises(InputError, match="is not text; for records of"):
        look(EXAMPLES / "exports/cdr/msc/MSC1_20260302.ber")


@pytest.mark.parametrize(
    "sample", sorted(EXAMPLES.glob("*/cdr/*/*[!r]")), ids=lambda p: p.parent.name
)
def test_a_look_at_each_example_gives_a_mapping_that_loads(sample: Path, tmp_path: Path) -> None:
    load_mapping(put(tmp_path / "m.toml", starting_mapping(look(sample), "cdr/x/*")))
    result = CliRunner().invoke(app, ["look", str(sample)])
    assert result.exit_code == 0
    assert "A mapping file to start from" in result.output


@pytest.mark.parametrize("name", ["switch", "mediation", "exports"])
def test_a_mapping_is_checked_on_the_first_rows(name: str) -> None:
    mapping, city = EXAMPLES / f"{name}.toml", EXAMPLES / name
    result = CliRunner().invoke(app, ["mapping", "check", str(mapping), "--input", str(city)])
    assert result.exit_code == 0, result.output
    assert "start_time=2026-03-02T01:15:02" in result.output


def test_a_mapping_that_fits_no_file_is_told(tmp_path: Path, city: Path) -> None:
    mapping = put(tmp_path / "m.toml", '[[export]]\nfiles = "cdr/nowhere/*"\n')
    result = CliRunner().invoke(app, ["mapping", "check", str(mapping), "--input", str(city)])
    assert isinstance(result.exception, InputError)
    assert "fits no file" in str(result.exception)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_look_at_nothing_says_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="is empty"):
        look(put(tmp_path / "a.csv", content))


@pytest.mark.parametrize("by_end", [True, False])
def test_a_file_in_the_order_in_which_calls_end_is_known(tmp_path: Path, by_end: bool) -> None:
    calls = [(minute, 7 * minute % 50) for minute in range(30)]
    calls.sort(key=sum if by_end else lambda c: -c[1])
    rows = [f"C{m},2026-03-02T09:{m:02}:00Z,{FIRST_IMSI + m},{60 * lasts}" for m, lasts in calls]
    path = put(tmp_path / "a.csv", "\n".join(["call_id,start_time,imsi,duration_s", *rows]) + "\n")
    assert look(path).by_end == by_end
    said = CliRunner().invoke(app, ["look", str(path)]).output
    assert ('ordered_by = "end"' in said) == by_end


def test_a_mapping_of_sources_alone_says_which_folders_each_is_about(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / f"city/cdr/switch-{name}/1.csv", "call_id,start_time,imsi\n")
    mapping = put(tmp_path / "m.toml", "".join(
        f"[[source]]\nname = '{name}'\nordered_by = 'end'\n" for name in ("cdr/switch-*", "cdr/x")
    ))  # fmt: skip
    command = ["mapping", "check", str(mapping), "--input", str(tmp_path / "city")]
    said = CliRunner().invoke(app, command).output
    assert said == "source cdr/switch-*: 2 folders\nsource cdr/x: 0 folders\n"
