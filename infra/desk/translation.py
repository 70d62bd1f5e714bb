"""The languages of the desk: English is in the code, Chinese in `words/zh.po`; `words/en.po` has
the few values that English says otherwise.

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


def retold(text: str, words: Callable[[str], str]) -> str:
    """What a job said of a row, in a language, sentence by sentence; any other text as it is."""
    return words(BETWEEN).join(_retold(sentence, words) for sentence in text.split(BETWEEN))


def _retold(sentence: str, words: Callable[[str], str]) -> str:
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
