"""Working time: how much of it lies between two moments, and when so much of it will have passed.

Working hours are what the clock on the wall shows: an hour that a time change repeats is worked
twice, one that it leaves out is not worked. Times are int64 ms since the epoch, UTC.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Final

from schemas.fields import TIME_END
from schemas.service.rules import Calendar, Hours

_MINUTE: Final = 60_000

#: Working time ends here: what is due later is due at `TIME_END`.
_LAST_YEAR: Final = 2299


class WorkTime:
    """The working time of a calendar, by the year as it is asked for."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._first = self._last = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        #: Working time up to the end of each span, counted from the first.
        self._worked: list[int] = []

    def between(self, start: int, end: int) -> int:
        """Working time from `start` to `end`, ms; none if `end` is not later."""
        if end <= start:
            return 0
        self._cover(start, end)
        return self._until(end) - self._until(start)

    def after(self, start: int, length: int) -> int:
        """The first moment at which `length` ms of working time have passed since `start`."""
        if length <= 0:
            return start
        self._cover(start, start)
        while (wanted := self._until(start) + length) > (self._worked[-1] if self._worked else 0):
            if self._last >= _LAST_YEAR:
                return TIME_END
            self._extend(self._first, self._last + 1)
        place = bisect_left(self._worked, wanted)
        return self._ends[place] - (self._worked[place] - wanted)

    def _until(self, at: int) -> int:
        place = bisect_right(self._starts, at) - 1
        return self._worked[place] - max(0, self._ends[place] - at) if place >= 0 else 0

    def _cover(self, start: int, end: int) -> None:
        first, last = (
            datetime.fromtimestamp(at / 1_000, UTC).year + more
            for at, more in ((start, -1), (end, 1))
        )
        if not self._last:
            self._extend(first, last)
        elif first < self._first or last > self._last:
            self._extend(min(first, self._first), max(last, self._last))

    def _extend(self, first: int, last: int) -> None:
        years = [y for y in range(first, last + 1) if not self._first <= y <= self._last]
        spans = list(zip(self._starts, self._ends, strict=True))
        for year in years:
            spans += self._year(year)
        spans.sort()
        self._first, self._last = first, last
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]
        self._worked = list(accumulate(end - start for start, end in spans))

    def _year(self, year: int) -> Iterator[tuple[int, int]]:
        day, after = date(year, 1, 1), date(year + 1, 1, 1)
        while day < after:
            if hours := self._hours(day):
                yield from self._spans(day, hours)
            day += timedelta(days=1)

    def _hours(self, day: date) -> Hours:
        if day in self.calendar.holidays:
            return ()
        return self.calendar.week[0 if day in self.calendar.workdays else day.weekday()]

    def _spans(self, day: date, hours: Hours) -> Iterator[tuple[int, int]]:
        """The hours of a day as spans of UTC, cut where the clock on the wall was changed."""
        start, end = self._midnight(day), self._midnight(day + timedelta(days=1))
        midnight = _ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
        while start < end:
            offset = self._offset(start)
            until = self._change(start, end, offset)
            for opens, closes in hours:
                from_ = max(start, midnight + opens * _MINUTE - offset)
                to = min(until, midnight + closes * _MINUTE - offset)
                if from_ < to:
                    yield from_, to
            start = until

    def _midnight(self, day: date) -> int:
        return _ms(datetime(day.year, day.month, day.day, tzinfo=self.calendar.zone))

    def _offset(self, at: int) -> int:
        offset = datetime.fromtimestamp(at // 1_000, self.calendar.zone).utcoffset()
        assert offset is not None
        return round(offset.total_seconds()) * 1_000

    def _change(self, start: int, end: int, offset: int) -> int:
        """When, before `end`, the zone's offset first becomes another than at `start`."""
        if self._offset(end - 1_000) == offset:
            return end
        low, high = start // 1_000, end // 1_000 - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle * 1_000) == offset else (low, middle)
        return high * 1_000


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000
