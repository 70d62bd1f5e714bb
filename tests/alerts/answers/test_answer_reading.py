"""What replies mean: a table of what people write, and what holds for any text."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerts.answers.reading import LONGEST, UNCLEAR, Reply, read

ZONE = ZoneInfo("Asia/Shanghai")
MONDAY = datetime(2026, 3, 2, 10, 0, tzinfo=ZONE)
WIDE = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(33, 127)})


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def at(text: str, now: datetime = MONDAY) -> str:
    """A kind, or the day and time that was promised."""
    answer = read(text, now=ms(now), zone=ZONE)
    if answer.by is None:
        return answer.kind
    assert answer.kind == "delivering"
    return f"{datetime.fromtimestamp(answer.by / 1_000, ZONE):%d %H:%M}"


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("acknowledged", "1|１|1.|1。|1、|收到|已收到|收到！|好的，收到|好的|知道了|嗯嗯"),
        ("acknowledged", "没问题|谢谢|收到 谢谢"),
        ("acknowledged", "ok|OK!|Ok ok|okay|k|got it|Got it, thanks|yes|roger|no problem"),
        ("acknowledged", "1 ok|👍|👍🏽|已送|送完了|已送达|补好了|done|delivered"),
        ("unclear", "没送到|not delivered"),
        ("cannot", "2|２。|2!|不能|送不了|没货|没有货|今天没空|我去不了|无法送货"),
        ("cannot", "收到，但是没货|來不及|沒貨"),
        ("cannot", "cannot|can't|can’t|CAN NOT|no|unable to deliver|no stock"),
        ("cannot", "won't make it"),
        ("cannot", "cannot by 15:00|不能15:00到|not today|15点送不了"),
        ("delivering", "马上|马上到|馬上到|在路上|已出发|这就去|收到，马上去|on the way"),
        ("delivering", "On my way!|omw|coming|now"),
        ("stop", "STOP|stop.|Stop!|STOPALL|unsubscribe|cancel|END|quit|退订|退訂"),
        ("stop", "停止|T|TD|ｔｄ"),
        ("start", "START|start.|UNSTOP|订阅|訂閱|恢复|开始"),
        ("unclear", "|?|hello|11|12|3|21|1 2|15:00?|收到吗|马上吗？|25:00|12:61|取消"),
        ("unclear", "不知道|好不好|晚一点到"),
        ("unclear", "2 15:00|who is this|1111|what|80%|in 400 hours"),
        ("unclear", "15:00:00"),
    ],
)  # fmt: skip
def test_what_people_write(kind: str, texts: str) -> None:
    for text in texts.split("|"):
        assert at(text) == kind, text


@pytest.mark.parametrize(
    ("moment", "texts"),
    [
        ("02 15:00", "15:00|１５：００|15：00|on the way by 15:00|15点到|下午3点|3点|3pm"),
        ("02 15:00", "3 p.m.|by 3|1500"),
        ("02 15:00", "1 15:00|1，15:00|ok 15:00|收到，15点前送到|15.00|三点|下午三点钟"),
        ("02 15:00", "in five hours|15 : 00"),
        ("02 15:30", "三点半|3:30|3.30pm|3点30|3点30分|十五点半|1530|by 1530"),
        ("02 15:15", "3点15分|三点一刻|15:15"),
        ("02 12:00", "12:00|十二点|中午12点|noon 12:00|12pm|2小时|in 2 hours|两个小时后"),
        ("02 12:00", "2h"),
        ("02 13:00", "中午1点|一点到|1点|3 hours"),
        ("02 14:00", "2:00|2点|2pm|两点"),
        ("02 10:30", "半小时|半个小时|half an hour|30分钟|30 mins|in 30 minutes"),
        ("02 10:30", "三十分钟后"),
        ("02 11:30", "一个半小时|1.5小时|1小时30分|11:30|1个半小时"),
        ("02 11:00", "an hour|一小时|1小时后|in one hour"),
        ("02 20:00", "今晚8点|晚上八点|tonight at 8|8:00|20:00"),
        ("02 09:45", "9:45|09:45"),
        ("03 00:00", "今天|today|今晚|晚上12点|24:00"),
        ("03 08:00", "08:00|明早8点|明天8点|tomorrow 8:00|tomorrow by 8|明天上午8点"),
        ("03 18:30", "明天下午6点半|tomorrow 6:30pm|明天18:30|明晚六点半"),
        ("03 12:00", "明天中午|tomorrow noon|明天上午|tomorrow morning"),
        ("03 18:00", "明天下午|tomorrow afternoon"),
        ("02 12:00", "中午|noon|中午送"),
        ("04 00:00", "明天|tomorrow|好的，明天送|will deliver tomorrow"),
        ("04 09:00", "后天9点|day after tomorrow 9:00"),
        ("05 14:00", "大后天下午两点"),
    ],
)  # fmt: skip
def test_promised_times(moment: str, texts: str) -> None:
    for text in texts.split("|"):
        assert at(text) == moment, text


CORPUS = [
    line.split("\t")
    for line in (Path(__file__).parent / "replies.tsv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("meaning", "text"), CORPUS)
def test_each_reply_of_the_corpus_means_what_it_says(meaning: str, text: str) -> None:
    kind, _, time = meaning.partition(" ")
    expected = kind if not time else time if len(time) > 5 else f"02 {time}"
    assert at(text.replace("\\n", "\n")) == expected


def test_the_corpus_has_two_hundred_replies_each_once() -> None:
    texts = [text for _, text in CORPUS]
    assert len(texts) == len(set(texts)) >= 200
    assert sum(not text.isascii() for text in texts) >= 80


def test_a_time_just_past_is_a_van_that_is_late() -> None:
    assert at("15:00", MONDAY.replace(hour=15, minute=30)) == "02 15:00"
    assert at("15:00", MONDAY.replace(hour=15, minute=31)) == "03 15:00"
    assert at("today 9:00", MONDAY.replace(hour=23)) == "unclear"


def test_yes_is_the_providers_word_for_more_messages_only_once_stopped() -> None:
    assert read("Yes", now=0, zone=UTC).kind == "acknowledged"
    assert read("Yes", now=0, zone=UTC, stopped=True).kind == "start"
    assert read("1", now=0, zone=UTC, stopped=True).kind == "acknowledged"


def test_the_clock_is_the_citys_also_when_it_is_put_forward() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    saturday = datetime(2026, 3, 28, 20, 0, tzinfo=berlin)
    answer = read("tomorrow 15:00", now=ms(saturday), zone=berlin)
    assert answer.by == ms(datetime(2026, 3, 29, 13, 0, tzinfo=UTC))


def test_nobody_answers_in_an_essay() -> None:
    assert at("ok " * 20) == "acknowledged"
    assert at("ok " * 40) == "unclear"
    driving = (
        "I am driving now and cannot answer; I will call as soon as I have stopped the car 15:00"
    )
    assert at(driving) == "unclear"


MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=ZONE)
)


@given(st.text(max_size=3 * LONGEST), MOMENTS, st.booleans())
@example("十十十点", MONDAY, False)
@example("٣:٠٠", MONDAY, False)
@example("零点零分", MONDAY, False)
@example("²:00", MONDAY, False)
def test_any_text_has_one_meaning_and_no_promise_is_far(
    text: str, now: datetime, stopped: bool
) -> None:
    answer = read(text, now=ms(now), zone=ZONE, stopped=stopped)
    assert answer == read(text, now=ms(now), zone=ZONE, stopped=stopped)
    if answer.by is not None:
        assert answer.kind == "delivering"
        assert ms(now - timedelta(minutes=31)) < answer.by <= ms(now + timedelta(days=4))


WRITTEN = st.lists(
    st.sampled_from(
        [
            *("1", "2", "3", "15", "30", "00", ":", "点", "半", "一", "十", "两", "pm", "by"),
            *("ok", "收到", "不能", "no", "马上", "明天", "下午", "晚上", "tomorrow", "later"),
            *("小时", "分钟", "stop", "退订"),
        ]
    ),
    max_size=6,
)  # fmt: skip


@given(WRITTEN, st.sampled_from(["", " "]), MOMENTS)
def test_width_case_and_ornaments_change_nothing(
    words: list[str], space: str, now: datetime
) -> None:
    text = space.join(words)
    plain = read(text, now=ms(now), zone=ZONE)
    for same in (
        text.upper(),
        text.translate(WIDE),
        f" {text} ",
        f"{text}!",
        f"“{text}”",
        f"{text}。",
        f"{text}\n",
    ):
        assert read(same, now=ms(now), zone=ZONE) == plain, same


@given(st.integers(0, 23), st.integers(0, 59), MOMENTS)
def test_every_time_of_day_is_the_next_one(hour: int, minute: int, now: datetime) -> None:
    for text in (
        f"{hour:02}:{minute:02}",
        f"到 {hour:02}点{minute:02}分",
        f"by {hour:02}{minute - minute % 5:02}",
    ):
        answer = read(text, now=ms(now), zone=ZONE)
        assert answer.by is not None, text
        minute -= minute % 5 if text.startswith("by") else 0
        promised = datetime.fromtimestamp(answer.by / 1_000, ZONE)
        if text.startswith("by") or hour > 12 or hour == 0:
            assert (promised.hour, promised.minute) == (hour, minute)
        assert (promised.hour % 12, promised.minute) == (hour % 12, minute)
        assert timedelta(minutes=-31) < promised - now <= timedelta(hours=24)


@given(st.sampled_from([r for r in CORPUS if r[0] == "stop"]), st.sampled_from(
    ["at 15:00", "the car", "signs", "15:00", "but not now?", "车", "电", "业"]
))  # fmt: skip
def test_a_command_with_anything_else_is_no_command(reply: list[str], more: str) -> None:
    assert read(f"{reply[1]} {more}", now=0, zone=UTC).kind != "stop"


@given(st.text(string.ascii_letters + " 退订停止", max_size=12), MOMENTS)
def test_only_stop_words_stop(text: str, now: datetime) -> None:
    if read(text, now=ms(now), zone=ZONE) == Reply("stop"):
        assert set(text.lower().split()) <= {
            *("stop", "all", "stopall", "end", "quit", "t", "td", "it", "me", "us", "revoke"),
            *("cancel", "this", "to", "of", "my", "the", "退订", "停", "停止", "t退订", "td退订"),
            *("pls", "plz", "now", "just", "optout", "opt", "out", "remove", "thx", "any", "that"),
        }


def test_unclear_is_what_nothing_means() -> None:
    assert read("", now=0, zone=UTC) == UNCLEAR
