"""The text of a message: what is out of stock, in the order a van drives, in one segment if it can.

Plain data in, text out. The wording lives in `templates/`, one file a language; which incidents a
message tells of is decided in `alerts.grouping`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, tzinfo
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape

from alerts.segments import segments

#: Languages there are templates for; the first is for everybody whose language is not here.
LANGUAGES = ("en", "zh")

_LINKS = re.compile(r"https?://|www\.", re.IGNORECASE)
_DOT_INSIDE = re.compile(r"(?<=\w)\.(?=\w)")
_TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "}
)


class Shelf(NamedTuple):
    """An empty shelf as people call it: names may be '' where nobody gave one; time in ms."""

    outlet_id: str
    outlet: str
    territory: str
    sku: str
    opened_at: int


class Text(NamedTuple):
    """What is sent: the language is the template's."""

    body: str
    language: str
    segments: int


class Stop(NamedTuple):
    """A territory and what to visit there."""

    territory: str
    outlets: list[str]


def compose(
    shelves: Sequence[Shelf], *, language: str, timezone: tzinfo, signature: str = ""
) -> Text:
    """The text about one or more empty shelves for a reader of `language` (zh, zh-CN, en, …).

    Outlets that do not fit into one segment become "and N more"; one outlet is always named, even
    if that takes two. `signature`, the sender's registered name, goes first where it is required.
    """
    spoken = re.split("[-_]", language.strip().lower(), maxsplit=1)[0]
    spoken = spoken if spoken in LANGUAGES else LANGUAGES[0]
    text = _fitted(shelves, spoken, timezone, signature)
    if text.segments > 1:
        # Where they are is the first thing that a short message can do without.
        bare = [shelf._replace(territory="") for shelf in shelves]
        shorter = _fitted(bare, spoken, timezone, signature)
        return shorter if shorter.segments == 1 else text
    return text


def _fitted(shelves: Sequence[Shelf], spoken: str, timezone: tzinfo, signature: str) -> Text:
    """As many outlets as fit, at least one."""
    skus = {shelf.sku for shelf in shelves}
    time = datetime.fromtimestamp(min(s.opened_at for s in shelves) / 1_000, timezone)
    visits = _visits(shelves, spoken, name_skus=len(skus) > 1)

    def render(shown: int) -> Text:
        stops = [
            Stop(territory, [outlet for _, outlet in outlets])
            for territory, outlets in groupby(visits[:shown], key=lambda visit: visit[0])
        ]
        body = _template(spoken).render(
            time=f"{time:%H:%M}",
            sku=_plain(next(iter(skus)), spoken) if len(skus) == 1 else "",
            stops=stops,
            more=len(visits) - shown,
        )
        if signature:
            body = f"【{signature}】{body}"
        return Text(body, spoken, segments(body))

    whole = render(len(visits))
    if whole.segments == 1 or len(visits) == 1:
        return whole
    best = render(1)
    for shown in range(2, len(visits)):
        longer = render(shown)
        if longer.segments > 1:
            break
        best = longer
    return best


def _visits(shelves: Sequence[Shelf], language: str, *, name_skus: bool) -> list[tuple[str, str]]:
    """Territory and outlet of each stop, in the order of the way."""
    named = sorted(
        shelf._replace(
            outlet=_plain(shelf.outlet, language) or _plain(shelf.outlet_id, language),
            territory=_plain(shelf.territory, language),
        )
        for shelf in shelves
    )
    named.sort(key=attrgetter("territory", "outlet", "outlet_id", "sku"))
    outlets = [
        (key, sorted({_plain(shelf.sku, language) for shelf in group}))
        for key, group in groupby(named, key=attrgetter("territory", "outlet", "outlet_id"))
    ]
    # Two shops of one name in one place: only the id tells them apart.
    names = Counter(key[:2] for key, _ in outlets)
    visits = []
    for (territory, outlet, outlet_id), skus in outlets:
        label = (
            outlet if names[territory, outlet] == 1 else f"{outlet} {_plain(outlet_id, language)}"
        )
        visits.append((territory, f"{label} ({', '.join(skus)})" if name_skus else label))
    return visits


def _plain(name: str, language: str) -> str:
    """A name fit for an SMS: one line, nothing a phone or a carrier takes for a link."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    name = _DOT_INSIDE.sub(" ", _LINKS.sub("", name))
    # Curly quotes and dashes alone would turn an English text into UCS-2 and halve its room.
    return name if language == "zh" else name.translate(_TYPOGRAPHY)


@cache
def _template(language: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(f"stock_out.{language}.j2")
