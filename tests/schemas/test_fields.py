"""Times, numbers of cards and phones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.fields import TIME_END, Iccid, Imsi, Phone, Time, parse_time

offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2299, 12, 30), timezones=offsets)  # noqa: DTZ001


@given(moments)
def test_a_time_is_what_it_says_to_the_millisecond(moment: datetime) -> None:
    at = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time(moment.isoformat(timespec="milliseconds")) == at
    assert parse_time(moment.isoformat(timespec="microseconds")) == at  # finer is cut off
    assert parse_time(moment.isoformat(timespec="seconds")) == at // 1_000 * 1_000


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T08:00:00+08:00", 0),
        ("2299-12-31T23:59:59.999999999Z", TIME_END - 1),
        ("2026-03-02T09:15:02.5+08:00", 1772414102500),
        ("2024-02-29T00:00:00-00:30", 1709166600000),
    ],
)
def test_times_at_the_borders(text: str, at: int) -> None:
    assert parse_time(text) == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-02",
        "2026-03-02T09:15:02",
        "2026-03-02 09:15:02Z",
        "1969-12-31T23:59:59Z",
        "2300-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-03-02T24:00:01Z",
        "2026-03-02T09:15:02+0800",
        "2026-03-02T09:15:02+24:00",
        "2026-03-02T09:15:02,5Z",
        "２026-03-02T09:15:02Z",
        " 2026-03-02T09:15:02Z",
        "2026-03-02T09:15:02Z\n",
    ],
)
def test_what_is_no_time_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|day|month|hour|range|offset"):
        parse_time(text)


@pytest.mark.parametrize("value", [0, 1.0, True, None, b"2026-03-02T09:15:02Z"])
def test_a_time_is_text(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Time).validate_python(value)


@pytest.mark.parametrize(
    "text", ["4600012345000", "4600012345000000", "46000123450000٣", "x" * 15, " 460001234500000"]
)
def test_an_imsi_has_14_or_15_digits(text: str) -> None:
    for good in ("460001234500000", "46000123450000"):
        assert TypeAdapter(Imsi).validate_python(good) == good
    with pytest.raises(ValidationError, match=r"not 14 or 15 digits"):
        TypeAdapter(Imsi).validate_python(text)


@pytest.mark.parametrize("text", ["4.60010000000003E+14", "4,6E+14", "4.6e14"])
def test_an_imsi_that_a_spreadsheet_has_rounded_says_so(text: str) -> None:
    with pytest.raises(ValidationError, match="has cut digits off"):
        TypeAdapter(Imsi).validate_python(text)


@pytest.mark.parametrize(
    ("text", "iccid"),
    [
        ("8" * 18, "8" * 18),
        ("8" * 22, "8" * 22),
        ("898604b7192271000001", "898604B7192271000001"),
        ("8944476500008878576F", "8944476500008878576"),
        ("8944476500008878576f", "8944476500008878576"),
    ],
)
def test_an_iccid_is_in_capitals_and_without_its_filler(text: str, iccid: str) -> None:
    assert TypeAdapter(Iccid).validate_python(text) == iccid


@pytest.mark.parametrize(
    "text", ["8" * 17, "8" * 23, "8986000000000000000G", "8986 000000000000000"]
)
def test_what_is_no_iccid_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="not an ICCID"):
        TypeAdapter(Iccid).validate_python(text)


@pytest.mark.parametrize(
    "text", ["13800138000", "+", "+86", "+86138", "+999123456789", 8613800138000]
)
def test_a_phone_is_one_that_can_be_called(text: object) -> None:
    assert TypeAdapter(Phone).validate_python("+86 138 0013 8000") == "+8613800138000"
    with pytest.raises(ValidationError, match=r"phone"):
        TypeAdapter(Phone).validate_python(text)
