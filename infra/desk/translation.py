"""The languages of the desk: English is in the code, Chinese in `translations/zh.po`;
`translations/en.po` has the few values that English says otherwise.

`N_` marks a text where it is written; it is translated where it is shown. `babel` collects the
marked texts and what jobs say in tables (`schemas.sentences`); a test compares them with the
catalog, so none is missing and none too many.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Final

from babel.core import negotiate_locale
from babel.messages.pofile import read_po

from schemas.sentences import BETWEEN, SENTENCES

LANGUAGES: Final = {"en": "English", "zh": "中文"}


def N_(text: str) -> str:  # noqa: N802 - gettext's own name
    """Marks a text for translation, and gives it back as it is."""
    return text


@cache
def catalog(language: str) -> dict[str, str]:
    """The text in the code → that language's. English has only what reads otherwise there."""
    with (resources.files("infra.desk") / "translations" / f"{language}.po").open("rb") as file:
        return {str(one.id): str(one.string) for one in read_po(file, language) if one.id}


def translator(language: str) -> Callable[[str], str]:
    """Text by text into a language; what it has no words for stays English."""
    words = catalog(language)
    return lambda text: words.get(text) or text


def localized(word: str, words: Callable[[str], str], column: str = "") -> str:
    """One of a few values, as people say it (in one column, if it means another thing there).

    Any other text is as it is.
    """
    own = f"{column}|{word}"
    if own in VALUES:
        return words(own)
    return words(word).replace("_", " ") if word in VALUES else words(word)


def translate_sentences(text: str, words: Callable[[str], str]) -> str:
    """What a job said of a row, in a language, sentence by sentence; any other text as it is."""
    return words(BETWEEN).join(
        _translate_sentence(sentence, words) for sentence in text.split(BETWEEN)
    )


def _translate_sentence(sentence: str, words: Callable[[str], str]) -> str:
    for english, pattern in _PATTERNS:
        if found := pattern.fullmatch(sentence):
            return words(english).format(*found.groups())
    return sentence


_PATTERNS: Final = [
    (english, re.compile("(.+)".join(map(re.escape, english.split("{}"))))) for english in SENTENCES
]


def preferred(cookie: str | None, accepts: str) -> str:
    """The language to answer in: what was chosen, else what the browser asks for first."""
    if cookie in LANGUAGES:
        return cookie
    asked = [part.partition(";")[0].strip() for part in accepts.split(",")]
    found = negotiate_locale([one.replace("-", "_") for one in asked if one], list(LANGUAGES))
    return (found or "en").partition("_")[0]


#: Values that come with the data (statuses, kinds, causes), here so that they can be translated.
VALUES: Final = frozenset((
    # stock, ranking; who serves an outlet that nobody serves
    N_("(nobody)"),
    N_("open"), N_("refilled"), N_("ok"), N_("out"), N_("at_risk"), N_("over"), N_("unknown"),
    N_("hall"), N_("partner_hall"), N_("phone_shop"), N_("kiosk"), N_("grocery"),
    N_("delivery"), N_("first_use"), N_("return"), N_("transfer_in"), N_("transfer_out"),
    N_("moved_out"), N_("write_off"),
    N_("closed"), N_("never_stocked"), N_("empty_outlet"), N_("empty_shelf"), N_("stocked"),
    # what was decided about a stock-out, why, and to whom
    N_("waiting"), N_("notified"), N_("reminded"), N_("escalated"), N_("note"), N_("resolved"),
    N_("refilled_in_time"), N_("not_notified"), N_("withdrawn"), N_("status"), N_("overdue"),
    N_("policy_changed"), N_("policy_refused"),
    N_("outlet_closed"), N_("on_leave"), N_("maintenance"), N_("silenced"), N_("flapping"),
    N_("quiet_hours"), N_("group_wait"), N_("was_not_told"), N_("phone"), N_("backup_phone"),
    # messages and answers
    N_("sent"), N_("delivered"), N_("read"), N_("undelivered"), N_("failed"), N_("canceled"),
    N_("refused"), N_("undeliverable"), N_("stale"),
    N_("acknowledged"), N_("delivering"), N_("cannot"), N_("stop"), N_("start"),
    N_("sms"), N_("page"), N_("provider"), N_("policy"),
    # diversion, commission
    N_("Confirm"), N_("Dismiss"), N_("Reopen"),
    N_("alarm"), N_("watch"), N_("this evidence"), N_("other evidence"),
    N_("seller"), N_("shift_lead"), N_("hall_manager"), N_("activation"), N_("dead"),
    N_("diverted"),
    # energy and bills
    N_("region"), N_("voltage"), N_("feeder"), N_("transformer_area"),
    N_("high"), N_("negative"), N_("skipped"), N_("customer"), N_("measured"),
    # which way over a unit's boundary: another "out" than that of a shelf
    N_("side|in"), N_("side|out"),
    N_("estimated"), N_("residential"), N_("commercial"), N_("industrial"),
    N_("property_manager"), N_("demolition_site"), N_("government"),
    N_("different"), N_("different_count"), N_("not_stated"), N_("not_received"),
    # subscribers
    N_("all"), N_("territory"), N_("outlet"), N_("wholesaler"), N_("cohort"),
    # runs
    N_("succeeded"), N_("running"),
    # what contradicts the books, and what was refused
    N_("delivered_twice"), N_("moved_without_transfer"), N_("left_after_use"), N_("not_at_outlet"),
    N_("delivered_after_use"), N_("active_before_delivery"),
    N_("unknown_sim"), N_("unknown_outlet"), N_("unknown_wholesaler"), N_("unknown_type"),
    N_("malformed"), N_("invalid_field"), N_("late"), N_("missing"), N_("unreadable"),
    # papers, logins, the trail
    N_("complete"), N_("incomplete"), N_("not back yet"), N_("zh"), N_("en"),
    N_("viewer"), N_("manager"), N_("admin"), N_("decide"), N_("replay"), N_("log in"),
    N_("log in failed"), N_("password"), N_("add"), N_("role"), N_("disable"), N_("enable"),
    N_("remove"),
))  # fmt: skip
