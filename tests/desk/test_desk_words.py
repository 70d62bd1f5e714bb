"""The desk's languages: every text has a translation, and none is left from yesterday."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from infra.desk.catalog import collected
from infra.desk.words import LANGUAGES, catalog, preferred, translator

OTHERS = [language for language in LANGUAGES if language != "en"]


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated_and_none_too_many(language: str) -> None:
    """`python -m infra.desk.catalog` brings the catalog in step; then fill in what is new."""
    said = {str(message.id) for message in collected() if message.id}
    known = catalog(language)
    assert said - known.keys() == set()
    assert known.keys() - said == set()
    assert [text for text, translated in known.items() if not translated] == []


def test_templates_say_nothing_that_is_not_marked() -> None:
    """Text between tags stands in `_()`, but for signs and the product's name."""
    for package in ("infra.desk", "infra.desk.access"):
        for file in (resources.files(package) / "templates").iterdir():
            bare = re.sub(r"{%.*?%}|{{.*?}}|<[^>]*>", " ", file.read_text())
            bare = bare.replace("zerostock", "").replace("CSV", "").replace("Excel", "")
            bare = re.sub(r"users add NAME --role manager --data DATA|serve --input DIR", "", bare)
            assert re.findall(r"[A-Za-z]{2,}", bare) == [], file.name


@pytest.mark.parametrize(
    ("cookie", "accepts", "language"),
    [
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr-FR,en;q=0.5", "en"),
        (None, "fr", "en"),
        (None, "", "en"),
        (None, ";;,,*", "en"),
        ("zh", "en", "zh"),
        ("xx", "zh", "zh"),
    ],
)
def test_the_language_asked_for(cookie: str | None, accepts: str, language: str) -> None:
    assert preferred(cookie, accepts) == language


def test_what_has_no_words_stays_english() -> None:
    assert translator("zh")("no such text") == "no such text"
    assert translator("zh")("Log in") == "登录"
