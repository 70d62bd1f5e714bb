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

#: What is said around a command without changing it.
_POLITE: Final = re.compile(
    r"\b(?:please|pls|plz|kindly|just|now|immediately|thanks|thank you|thx)\b"
    r"|请|麻烦|帮我|给我|我要|我想|立即|立刻|马上|谢谢|[了吧啊呀哦]"
)
_STOP: Final = re.compile(
    r"stop ?all|cancel|end|quit|revoke|td?|回?td?退订"
    r"|(?:stop|unsubscribe|opt ?out|remove|opt me out)(?: (?:it|me|this|that|us|all|any|these|those"
    r"|the|your|my|to|from|of|with|more|sending|texting|messaging|alerting|texts?|messages?|sms"
    r"|alerts?|notifications?|list|number))*"
    r"|(?:do not|don't|no longer|never) (?:text|message|sms|contact|write to|send)"
    r"(?: (?:me|us|any|more|anymore|again|texts?|messages?|sms))*"
    r"|no more (?:texts?|messages?|sms|alerts?)"
    r"|(?:退订|停止?|停发|拒收|拒绝|取消订阅|(?:别|不要|勿|不用)再?发|不要再给我发)"
    r"(?:再?发|接收|发送|推送|订阅)?(?:这些|此类)?(?:短信|信息|消息|通知|提醒)?"
)
_START: Final = re.compile(
    r"(?:start|unstop|resume|(?:re)?subscribe|opt (?:me )?(?:back )?in)"
    r"(?: (?:me|again|sending|messages?|alerts?|texts?))*"
    r"|(?:重新)?订阅|恢复(?:订阅|接收|发送)?|开始(?:接收|发送)?|继续(?:接收|发送)"
)
#: A phone says that something was done to our text: “…”, which it quotes.
_REACTION: Final = re.compile(
    r"^(?:liked|loved|disliked|laughed at|emphasi[sz]ed|questioned|reacted|replied|removed)\b"
    r".*[“\"「『‘']"
    r"|^[^\w]*\bto [“\"「『‘']|^(?:对|给|为)[“\"「『‘'].*[”\"」』’'].{0,12}$"
    r"|^.{0,8}(?:喜欢|不喜欢|点赞|赞|大笑|强调|质疑|疑问|表情)了?[“\"「『‘']",
    re.DOTALL,
)
#: Parts of a reply that repeat what it answers: lines that mail and chat programs mark, and long
#: passages between quotation marks.
_QUOTED: Final = re.compile(
    r"^ *[>＞|][^\n]*$|^-{2,} ?(?:original|forwarded|原).*\Z"
    r"|“[^”]{8,}”|「[^」]{8,}」|『[^』]{8,}』|《[^》]{8,}》|\"[^\"]{12,}\"",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
#: Words of our own texts that no answer has.
_OURS: Final = re.compile(
    r"please refill|out of .{1,40} cards|cards since \d|in stock again|not refilled yet|\bto bring$"
    r"|请补货|手机卡售完|手机卡至|手机卡即将|尚未补货|后附补货数|^已补货:"
)
#: An hour before which nothing happens is no hour by which something does.
_NOT_BEFORE: Final = re.compile(
    r"\b(?:not|no|never) (?:before|until|till|earlier|sooner)|\b(?:after|from|earliest|since) \d"
    r"|最早|不到\d|\d[点分半时]?钟?(?:过后|之后|以后|后|起|再)(?!天)|[点半刻分]钟?(?:过后|之后|以后|后|起|再)(?!天)"
    r"|(?:before|until|till|by) .{1,12}\b(?:i am|i'm|we are) (?:busy|away|out|in)"
)
_CANNOT: Final = {"2", "no", "nope", "不", "否"}
#: What phones send by themselves, and people who are busy: it is about talking, not about cards.
_TALK: Final = re.compile(
    r"\b(?:talk|speak|answer|call(?:ed|ing)?|phone|text|reply|respond|message)\b"
    r"|接听|接电话|通话|说话|讲话|回复|回电|联系|看手机|来电"
)
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

#: All that a promise may say besides its time: one that says more may mean something else.
_PROMISE_WORDS: Final = re.compile(
    r"\b(?:i'?ll|we'?ll|i'?m|we'?re|i|we|am|are|is|will|shall|would|can|could|should|be|being|there"
    r"|here|by|before|at|around|about|approx(?:imately)?|roughly|till|until|in|within|latest|the|my"
    r"|our|your|a|an|it|them|that|this|some|on|way|omw|over|out|to|for|of|and|then|with|you|him|her"
    r"|deliver(?:y|ed|ing|s)?|deliveries|come|comes|coming|arriv(?:e|es|ing|al)|bring(?:ing|s)?"
    r"|drop(?:ping)?|refill(?:ing|ed)?|restock(?:ing|ed)?|go|going|get|getting|send(?:ing)?|make|do"
    r"|cards?|stock|sims?|boxe?s?|shops?|stores?|vans?|driver|guy|man|eta|expected|expect|hopefully"
    r"|ok|okay|k|yes|yep|yeah|y|received|got|roger|copy|ack|acknowledged|noted|sure|fine|no problem"
    r"|understood|done|thanks|thank|thx|sharp|exactly|o'?clock|hrs?|hours?|mins?|minutes?|half"
    r"|now|soon|right|away|immediately|once|asap|next|time|day|hello|hi|please|leaving|left|already"
    r"|just|[ap]\.?m|also|today|tonight|morning|noon|afternoon|evening|night|all)\b"
    r"|收到|知道|明白|了解|没问题|可以|谢谢|多谢|您好|你好|好|嗯|行|是|已经|已|我们?|咱们|他们?|司机|师傅"
    r"|车|货车|会|将|能|就|这就|便|在|正在|大概|大约|约|左右|差不多|预计|估计|应该|争取|尽量|保证|一定"
    r"|准时|最晚|最迟|之前|以前|前|之内|以内|内|送货|送过|送达|送到|送来|送去|配送|派送|送|到达|到店|到"
    r"|补货|补上|补|上货|带|拿|过来|过去|过|来|去|给|您|你|店里?|门店|卡|货|安排|马上|立刻|立即|尽快|路上"
    r"|途中|中|出发|的|了|啊|哦|哈|呀|吧|滴|钟|点|人|们|那边|那里|这边|一下|今天|今日|上午|下午|晚上|早上"
    r"|中午|傍晚|都|全部|新"
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

#: A span of time counts from now.
_LATER: Final = r"(?:(?:之|以|过)?后(?!天)| (?:from now|later))?"
_N: Final = r"(\d{1,3}|[零一二两三四五六七八九十]{1,3})"
_HOURS: Final = re.compile(
    rf"(?:{_N}(?:\.(\d))?|\b(an?)\b) ?个?(半)?(?:小时|钟头|钟(?!\w)| ?(?:hours?|hrs?|h)\b)"
    rf"(?:[ 零]?(?:and )?{_N} ?(?:分|min|m\b))?{_LATER}"
)
_HALF_HOUR: Final = re.compile(rf"(?:(?<!个)半个?(?:小时|钟头|钟)|\bhalf an? hour\b){_LATER}")
_MINUTES: Final = re.compile(rf"(?<![点时:.\d]){_N} ?(?:分钟|mins?\b|minutes?\b){_LATER}")
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
    own = _without_quotes(text)
    plain = _normal(own)
    words = " ".join(re.sub(r"[^\w']+", " ", plain).split())
    command = " ".join(_POLITE.sub(" ", words).split())
    if _STOP.fullmatch(command):
        return Reply("stop")
    if _START.fullmatch(command) or (stopped and words == "yes"):
        return Reply("start")
    if len(plain) > LONGEST or re.search(r"\?|[吗么呢]$", plain) or _OURS.search(plain):
        return UNCLEAR
    if _NOT_BEFORE.search(_MINUTES.sub("", _HOURS.sub("", _HALF_HOUR.sub("", plain)))):
        return UNCLEAR
    if words in _CANNOT or _CANNOT_INSIDE.search(plain):
        return UNCLEAR if _TALK.search(plain) else Reply("cannot")
    promised = _promise(plain, datetime.fromtimestamp(now / 1_000, zone))
    if promised is not None:
        by, rest = promised
        return Reply("delivering", round(by.timestamp() * 1_000)) if _is_promise(rest) else UNCLEAR
    if _ON_THE_WAY.search(plain):
        return Reply("delivering") if _is_promise(plain) else UNCLEAR
    if words and words != "11" and _GOT_IT.fullmatch(words):
        return Reply("acknowledged")
    return UNCLEAR


def _without_quotes(text: str) -> str:
    """The text without what it repeats of another; '' for a reaction, which says nothing else."""
    text = text[: 8 * LONGEST].strip()
    if _REACTION.search(text.lower()):
        return ""
    own = _QUOTED.sub(" ", text)
    # A text that is quoted as a whole is just decorated.
    return own if own.strip(" \n\t.。!！") else text


def _is_promise(rest: str) -> bool:
    """Whether a text says nothing besides a time but what people say of a delivery."""
    left = _PROMISE_WORDS.sub(" ", re.sub(r"^1\b", "", rest))
    return not re.search(r"\w", left)


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


def _promise(plain: str, now: datetime) -> tuple[datetime, str] | None:
    """The time that a text names and what else it says, or None."""
    counted = _NUMBER_WORD.sub(lambda found: _NUMBERS[found[0]], plain)
    words = [part for _, part in _DAYS] + [_MORNING, _NOON, _EVENING, _AFTERNOON]

    def rest(named: re.Match[str]) -> str:
        left = f"{counted[: named.start()]} {counted[named.end() :]}"
        for word in words:
            left = word.sub(" ", left)
        return left

    span = _span(counted)
    if span is not None:
        length, found = span
        return (now + length, rest(found)) if timedelta(0) < length <= timedelta(days=3) else None
    day = next((days for days, word in _DAYS if word.search(plain)), None)
    clock = _CLOCK.search(counted)
    if clock is not None:
        moment = _moment(clock, counted, day, now)
        return (moment, rest(clock)) if moment is not None else None
    # A day without an hour ends at its midnight, a part of it where that ends.
    ends = next((hour for hour, part in _PARTS if part.search(plain)), 24)
    nothing = re.compile("").search(counted)
    assert nothing is not None
    if day is not None:
        return _at(now.date() + timedelta(days=day), ends, 0, now), rest(nothing)
    if _NOON.search(plain):
        noons = _moments(now.date(), [12], 0, now, 2)
        return next(moment for moment in noons if moment >= now - _SLACK), rest(nothing)
    return None


def _span(plain: str) -> tuple[timedelta, re.Match[str]] | None:
    """ "2小时后", "一个半小时", "in 30 min"; None where no span of time is named."""
    if (half := _HALF_HOUR.search(plain)) is not None:
        return timedelta(minutes=30), half
    hours = _HOURS.search(plain)
    if hours is not None:
        number, tenths, _, and_half, minutes = hours.groups()
        whole = _count(number) if number else 1
        length = timedelta(
            hours=whole + int(tenths or 0) / 10 + (0.5 if and_half else 0),
            minutes=_count(minutes) if minutes else 0,
        )
        return length, hours
    found = _MINUTES.search(plain)
    return (timedelta(minutes=_count(found[1])), found) if found is not None else None


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
