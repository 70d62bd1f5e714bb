"""The text of a message: what is out of stock, in the order a van drives, in one segment if it can.

Plain data in, text out. The wording is `alerts.message.texts`'; which incidents a message tells of
is decided in `alerts.lifecycle.grouping`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, tzinfo
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from alerts.message.segments import segments
from alerts.message.texts import OUR_TEXTS, Stop, Texts

_LINKS = re.compile(r"https?://|www\.", re.IGNORECASE)
_DOT_INSIDE = re.compile(r"(?<=\w)\.(?=\w)")
_TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "}
)


#: Characters of an outlet's or territory's name.
_LONGEST_NAME: Final = 60

#: Kinds of messages, and the template of each; other kinds have their own.
_TEMPLATES: Final = {"delayed": "stock_out", "lost": "escalation"}

_TITLES: Final = {
    "en": {
        "stock_out": "{who}: {n} out of cards",
        "escalation": "{who} has not refilled {n}",
        "lost": "An SMS to {who} about {n} did not arrive",
        "unreached": "{who} could not be told of {n}",
        "resolved": "{who}: {n} in stock again",
        "hand_over": "From now on you serve {n} of {who}.",
    },
    "zh": {
        "stock_out": "{who}：{n}缺卡",
        "escalation": "{who}尚未补货：{n}缺卡",
        "lost": "发给{who}的短信未送达：{n}缺卡",
        "unreached": "无法通知{who}：{n}缺卡",
        "resolved": "{who}：{n}已补货",
        "hand_over": "{who}的{n}今起由您负责。",
    },
}


class EmptyShelf(NamedTuple):
    """An empty shelf as people call it: names may be '' where nobody gave one; time in ms.

    `bring` is how many cards it needs, if anybody knows.
    """

    outlet_id: str
    outlet: str
    territory: str
    sku: str
    opened_at: int
    bring: int | None = None


class Text(NamedTuple):
    """What is sent: the language is the template's."""

    body: str
    language: str
    segments: int


def compose(
    shelves: Sequence[EmptyShelf],
    *,
    language: str,
    timezone: tzinfo,
    signature: str = "",
    kind: str = "stock_out",
    at: int | None = None,
    link: str = "",
    whole: bool = False,
    lead: str = "",
    texts: Texts = OUR_TEXTS,
) -> Text:
    """The text about one or more shelves for a reader of `language` (zh, zh-CN, en, …).

    Outlets that do not fit into one segment become "and N more", unless it shall be the `whole`
    list; one outlet is always named, even if that takes two, and then as many as fit those.
    `signature`, the sender's registered name, has room at the beginning, before a `lead`; a
    `link` goes last. `kind` is a group's; `at` (ms) is when it fell due: a stock-out of another day
    is told with its day.
    """
    template = _TEMPLATES.get(kind, kind)
    spoken = texts.spoken(language)
    style = _Style(spoken, timezone, signature, template, at, link, whole, lead, texts)
    text = _fitted(shelves, style)
    if text.segments > 1 and not whole:
        # Where they are is the first thing that a short message can do without.
        bare = [shelf._replace(territory="") for shelf in shelves]
        shorter = _fitted(bare, style)
        return shorter if shorter.segments == 1 else text
    return text


def plain(body: str, language: str, signature: str = "") -> Text:
    """A text without shelves; routes put a signature before it, for which `segments` has room."""
    signed = f"【{signature}】{body}" if signature else body
    return Text(body, language, segments(signed))


def title(kind: str, language: str, wholesaler: str, outlets: int) -> str:
    """One line above a text for managers; `wholesaler` is a name, `outlets` how many there are."""
    spoken = OUR_TEXTS.spoken(language)
    titles = _TITLES[spoken]
    shops = f"{outlets}家店" if spoken == "zh" else f"{outlets} shop{'s' * (outlets != 1)}"
    return titles.get(kind, titles["stock_out"]).format(who=_plain(wholesaler, ""), n=shops)


class _Style(NamedTuple):
    """How a text is written; see `compose`."""

    spoken: str
    timezone: tzinfo
    signature: str
    template: str
    at: int | None
    link: str
    whole: bool
    lead: str
    texts: Texts

    def when(self, opened_at: int) -> str:
        """The time of day, with the day if that is another than the message's."""
        time = datetime.fromtimestamp(opened_at / 1_000, self.timezone)
        told = datetime.fromtimestamp((self.at or opened_at) / 1_000, self.timezone)
        return f"{time:%H:%M}" if time.date() == told.date() else f"{time:%m-%d %H:%M}"

    @property
    def now(self) -> str:
        """The time of day of the message: carriers in China refuse a text the third time a day."""
        if self.at is None:
            return ""
        return f"{datetime.fromtimestamp(self.at / 1_000, self.timezone):%H:%M}"


def _fitted(shelves: Sequence[EmptyShelf], style: _Style) -> Text:
    """As many outlets as fit into the segments that the first of them takes."""
    spoken = style.spoken
    skus = {shelf.sku for shelf in shelves}
    time = style.when(min(s.opened_at for s in shelves))
    visits = _visits(shelves, spoken, name_skus=len(skus) > 1)
    needs = any(shelf.bring is not None for shelf in shelves)

    def render(shown: int) -> Text:
        stops = [
            Stop(territory, [outlet for _, outlet in outlets])
            for territory, outlets in groupby(visits[:shown], key=lambda visit: visit[0])
        ]
        values = {
            "time": time,
            "now": style.now,
            "needs": needs,
            "asks": not style.whole,
            "sku": _plain(next(iter(skus)), spoken) if len(skus) == 1 else "",
            "stops": stops,
            "more": len(visits) - shown,
        }
        body = style.texts.render(style.template, spoken, values)
        if style.lead:
            body = style.lead + body if spoken == "zh" else f"{style.lead} {body}"
        if style.link:
            body += f" {style.link}"
        return plain(body, spoken, style.signature)

    whole = render(len(visits))
    if whole.segments == 1 or len(visits) == 1 or style.whole:
        return whole
    best = render(1)
    for shown in range(2, len(visits) + 1):
        longer = render(shown)
        if longer.segments > best.segments:
            break
        best = longer
    return best


def _visits(
    shelves: Sequence[EmptyShelf], language: str, *, name_skus: bool
) -> list[tuple[str, str]]:
    """Territory and outlet of each stop, in the order of the way."""
    named = [
        shelf._replace(
            outlet=_short(_plain(shelf.outlet, language) or _plain(shelf.outlet_id, language)),
            territory=_short(_plain(shelf.territory, language)),
        )
        for shelf in shelves
    ]
    named.sort(key=attrgetter("territory", "outlet", "outlet_id", "sku"))
    outlets = [
        (key, {_plain(shelf.sku, language): shelf.bring for shelf in group})
        for key, group in groupby(named, key=attrgetter("territory", "outlet", "outlet_id"))
    ]
    # Two shops of one name in one place: only the id tells them apart.
    names = Counter(key[:2] for key, _ in outlets)
    visits = []
    for (territory, outlet, outlet_id), skus in outlets:
        label = (
            outlet if names[territory, outlet] == 1 else f"{outlet} {_plain(outlet_id, language)}"
        )
        said = [
            " ".join(filter(None, (sku if name_skus else "", str(cards or ""))))
            for sku, cards in sorted(skus.items())
        ]
        inside = ", ".join(filter(None, said))
        if inside:
            label += f" ({inside})"
        visits.append((territory, label))
    return visits


def _plain(name: str, language: str) -> str:
    """A name fit for an SMS: one line, nothing a phone or a carrier takes for a link."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    name = _DOT_INSIDE.sub(" ", _LINKS.sub("", name))
    # Curly quotes and dashes alone would turn an English text into UCS-2 and halve its room.
    return name if language == "zh" else name.translate(_TYPOGRAPHY)


def _short(name: str) -> str:
    """A name of which an SMS has room for others: what is longer is a slip in a table."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
