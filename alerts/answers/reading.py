"""What a wholesaler's SMS means, in Chinese or English. Pure: text and time in, an answer out.

Who wrote it, and about which message, is decided elsewhere. A text is taken as an answer only when
it can hardly mean anything else: whoever is misunderstood drives for nothing or not at all, whoever
gets a line of help asks again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final, Literal

import msgspec

Kind = Literal["acknowledged", "delivering", "cannot", "stop", "start", "unclear"]


class Reply(msgspec.Struct, frozen=True):
    """What was meant; `by` (ms) is the time promised by who is delivering, if one was named."""

    kind: Kind
    by: int | None = None


UNCLEAR: Final = Reply("unclear")

#: Nobody answers in longer texts; automatic replies are.
LONGEST: Final = 80

#: "By 15:00" written at ten past is a van that is late, not one that comes tomorrow.
_SLACK: Final = timedelta(minutes=30)

#: What "3" may mean when nobody says morning or afternoon: hours at which vans drive.
_DAYTIME: Final = range(6, 24)

_STOP: Final = {
    *("stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"),
    *("opt out", "td", "t", "退订", "停止", "停止接收", "停止发送", "取消订阅", "拒收"),
}
_START: Final = {
    *("start", "unstop", "subscribe", "订阅", "重新订阅", "恢复", "恢复订阅", "恢复接收"),
    *("开始", "继续接收"),
}
_CANNOT: Final = {"2", "no", "nope", "不", "否"}
_CANNOT_INSIDE: Final = re.compile(
    r"不能|不行|不了(?!解)|没法|无法|没货|没有货|缺货|无货|没有?卡|没空|没时间|来不及|不方便|去不|送不"
    r"|[不别]去|不送|不来|做不到|请假|停业"
    r"|\bcan(?: ?not|'?t)\b|\bunable\b|\bnot (?:able|possible|today|coming)\b|\bwon'?t\b"
    r"|\bwill not\b|\bimpossible\b|\b(?:no|out of) stock\b|\bno time\b|\bdon'?t have\b"
)
_ON_THE_WAY: Final = re.compile(
    r"马上|立刻|立即|路上|出发|正在送|送货中|配送中|派送中|这就|就[来到去送]|去送|送过[来去]"
    r"|\bon (?:the|my|our) way\b|\bomw\b|\bcoming\b|\bdelivering\b|\bwill deliver\b|\bright away\b"
    r"|\bimmediately\b|\bat once\b|\basap\b|\bleaving (?:now|soon)\b|^(?:now|soon|on way)$"
)
_GOT_IT: Final = re.compile(
    r"1? ?(?:(?:收到|已送|送达|送到|送完|补好|补货|已|知道|明白|了解|好|行|可以|是|嗯|没问题"
    r"|谢谢|多谢|[的了滴啊哦哈呀您你]"
    r"|okay|ok|k|yes|yep|yeah|y|received|got it|roger|copy|ack|acknowledged|noted|sure|fine"
    r"|no problem|will do|understood|done|delivered|thanks|thank you|thx)(?![a-z]) ?)*1?"
)

_PLAIN: Final = str.maketrans(
    "點時後達訂閱復馬無貨沒開個鐘來這會兩過們’‘`", "点时后达订阅复马无货没开个钟来这会两过们'''"
)
_THUMBS: Final = str.maketrans({"👍": " ok ", "👌": " ok ", "🆗": " ok ", "✅": " ok "})
_NUMBERS: Final = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_NUMBER_WORD: Final = re.compile(r"\b(?:" + "|".join(_NUMBERS) + r")\b")

_N: Final = r"(\d{1,3}|[零一二两三四五六七八九十]{1,3})"
_HOURS: Final = re.compile(
    rf"(?:{_N}(?:\.(\d))?|\b(an?)\b) ?个?(半)?(?:小时|钟头|钟(?!\w)| ?(?:hours?|hrs?|h)\b)"
    rf"(?:[ 零]?(?:and )?{_N} ?(?:分|min|m\b))?"
)
_HALF_HOUR: Final = re.compile(r"(?<!个)半个?(?:小时|钟头|钟)|\bhalf an? hour\b")
_MINUTES: Final = re.compile(rf"(?<![点时:.\d]){_N} ?(?:分钟|mins?\b|minutes?\b)")
_CLOCK: Final = re.compile(
    # 15:00, 3.30pm, 15：00
    r"(?<![\d:.])(?P<h1>\d{1,2})[:.](?P<m1>\d\d)(?![\d:.]|元)"
    # 15点, 三点半, 3点15分, 3点一刻; not 晚一点, which is no hour
    rf"|(?!(?<=[早晚快慢有差])一点)(?<!\d)(?P<h2>{_N})[点时](?![候间])"
    rf"(?:钟|(?P<half>半)|(?P<quarter>[一三])刻|(?P<m2>{_N})(?:分(?!钟))?)?"
    # 3pm, 3 o'clock, by 3, before 15
    r"|(?<![\d:.])(?P<h3>\d{1,2}) ?(?:(?=[ap]\.?m\b)|o'?clock)"
    r"|\b(?:by|before|at|around|till|until) (?P<h4>\d{1,2})(?![\d:.%])"
    # 1500
    r"|(?:^|\b(?:by|before|at|around) )(?P<h5>[01]\d|2[0-3])(?P<m5>[0-5][05])(?!\d)"
)
_DAYS: Final = [
    (3, re.compile(r"大后天")),
    (2, re.compile(r"后天|\bday after tomorrow\b")),
    (1, re.compile(r"明[天日早晚儿]|\btomorrow\b|\btmrw?\b")),
    (0, re.compile(r"今[天日早晚儿]|\btoday\b|\btonight\b|\bthis (?:morning|afternoon|evening)\b")),
]
_MORNING: Final = re.compile(r"凌晨|早上|早晨|上午|[今明]早|\d ?a\.?m\b|\bmorning\b")
_NOON: Final = re.compile(r"中午|\bnoon\b")
_EVENING: Final = re.compile(r"晚上|[今明]晚|夜里|\btonight\b|\bnight\b")
_AFTERNOON: Final = re.compile(r"下午|傍晚|\d ?p\.?m\b|\bafternoon\b|\bevening\b")
#: Parts of a day, and the hour at which they end.
_PARTS: Final = (
    (12, _NOON),
    (12, re.compile(r"上午|早上|早晨|[今明]早|\bmorning\b")),
    (18, re.compile(r"下午|\bafternoon\b")),
)


def read(text: str, *, now: int, zone: tzinfo, stopped: bool = False) -> Reply:
    """What a text that came at wall time `now` (ms) means to a reader of clocks in `zone`.

    `stopped` says that the sender takes no messages at present: then "yes" asks for them again, as
    it does at the provider's. Any text has a meaning, `unclear` if no other.
    """
    plain = _normal(text)
    words = " ".join(re.sub(r"[^\w']+", " ", plain).split())
    if words in _STOP:
        return Reply("stop")
    if words in _START or (stopped and words == "yes"):
        return Reply("start")
    if len(plain) > LONGEST or re.search(r"\?|[吗么呢]$", plain):
        return UNCLEAR
    if words in _CANNOT or _CANNOT_INSIDE.search(plain):
        return Reply("cannot")
    choice, _, rest = plain.partition(" ")
    named = _promise(plain, datetime.fromtimestamp(now / 1_000, zone))
    if named is not None or _ON_THE_WAY.search(plain):
        if choice.rstrip(".:") == "2" and rest:
            return UNCLEAR
        return Reply("delivering", None if named is None else round(named.timestamp() * 1_000))
    if words and words != "11" and _GOT_IT.fullmatch(words):
        return Reply("acknowledged")
    return UNCLEAR


def _normal(text: str) -> str:
    """One way to write it: half width, simplified, lower case, no ornaments, single spaces."""
    folded = unicodedata.normalize("NFKC", text[: 4 * LONGEST]).casefold()
    plain = folded.translate(_PLAIN).translate(_THUMBS)
    kept = "".join(
        char
        if char in ":.?'-%" or unicodedata.category(char)[0] in "LN"
        else ""
        if unicodedata.category(char) in ("Mn", "Cf", "Sk")
        else " "
        for char in plain
    )
    joined = re.sub(r"(?<=[一-鿿]) +(?=[一-鿿])", "", " ".join(kept.split()))
    # "15 : 00" and "15 点" are one word each.
    joined = re.sub(r"(?<=\d) ?([:点时]) ?(?=\d|$)", r"\1", joined)
    joined = re.sub(r"(?<=\d) (?=[点时])", "", joined)
    return joined.strip(" .:'-")


def _promise(plain: str, now: datetime) -> datetime | None:
    """The time that a text names, or None."""
    counted = _NUMBER_WORD.sub(lambda found: _NUMBERS[found[0]], plain)
    span = _span(counted)
    if span is not None:
        return now + span if timedelta(0) < span <= timedelta(days=3) else None
    day = next((days for days, word in _DAYS if word.search(plain)), None)
    clock = _CLOCK.search(counted)
    if clock is not None:
        return _moment(clock, counted, day, now)
    # A day without an hour ends at its midnight, a part of it where that ends.
    ends = next((hour for hour, part in _PARTS if part.search(plain)), 24)
    if day is not None:
        return _at(now.date() + timedelta(days=day), ends, 0, now)
    if _NOON.search(plain):
        noons = _moments(now.date(), [12], 0, now, 2)
        return next(moment for moment in noons if moment >= now - _SLACK)
    return None


def _span(plain: str) -> timedelta | None:
    """ "2小时后", "一个半小时", "in 30 min"; None where no span of time is named."""
    if _HALF_HOUR.search(plain):
        return timedelta(minutes=30)
    hours = _HOURS.search(plain)
    if hours is not None:
        number, tenths, _, half, minutes = hours.groups()
        whole = _count(number) if number else 1
        return timedelta(
            hours=whole + int(tenths or 0) / 10 + (0.5 if half else 0),
            minutes=_count(minutes) if minutes else 0,
        )
    found = _MINUTES.search(plain)
    return timedelta(minutes=_count(found[1])) if found is not None else None


def _moment(clock: re.Match[str], plain: str, day: int | None, now: datetime) -> datetime | None:
    """The moment a clock time means; None when there is no such time, or it is over."""
    found = clock.groupdict()
    written = next(value for value in (found[f"h{n}"] for n in range(1, 6)) if value)
    hour = _count(written)
    minute = 30 if found["half"] else 15 * _count(found["quarter"]) if found["quarter"] else 0
    for name in ("m1", "m2", "m5"):
        minute = _count(found[name]) if found[name] else minute
    if minute > 59 or hour > 24 or (hour == 24 and minute):
        return None
    exact, hour = _hour(hour, plain, written)
    hours = [hour] if exact or found["h5"] else [h for h in (hour, hour + 12) if h in _DAYTIME]
    first = now.date() + timedelta(days=day or 0)
    for moment in _moments(first, hours, minute, now, 1 if day is not None else 2):
        if moment >= now - _SLACK:
            return moment
    return None


def _moments(
    first: date, hours: list[int], minute: int, now: datetime, days: int
) -> Iterator[datetime]:
    for later in range(days):
        for hour in hours:
            yield _at(first + timedelta(days=later), hour, minute, now)


def _hour(hour: int, plain: str, written: str) -> tuple[bool, int]:
    """Whether the hour is sure to be one of 24, and which it is if the text names the half."""
    if hour <= 12:
        if _MORNING.search(plain):
            return True, hour % 12
        if _NOON.search(plain):
            return True, hour if hour >= 10 else hour + 12
        if _EVENING.search(plain):
            # Twelve at night is when the day ends.
            return True, hour + 12
        if _AFTERNOON.search(plain):
            return True, hour % 12 + 12
    return hour > 12 or hour == 0 or written.startswith(("0", "零")), hour


def _at(day: date, hour: int, minute: int, now: datetime) -> datetime:
    if hour == 24:
        day, hour = day + timedelta(days=1), 0
    return datetime.combine(day, time(hour, minute), now.tzinfo)


def _count(written: str) -> int:
    """25, 二十五, 两, 十, 零五."""
    if written.isdecimal():
        return int(written)
    digits = {char: value for value, char in enumerate("零一二三四五六七八九十")} | {"两": 2}
    tens, ten, ones = written.rpartition("十")
    if not ten:
        return int("".join(str(digits[char]) for char in written))
    return _count(tens or "一") * 10 + (_count(ones) if ones else 0)
