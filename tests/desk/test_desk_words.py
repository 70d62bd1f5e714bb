"""The desk's languages: every text has a translation, and none is left from yesterday."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.desk.catalog import collected
from infra.desk.translation import LANGUAGES, catalog, preferred, translate_sentences, translator
from schemas.sentences import BETWEEN, SENTENCES

OTHERS = [language for language in LANGUAGES if language != "en"]


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated_and_none_too_many(language: str) -> None:
    """`python -m infra.desk.catalog` brings the catalog in step; then fill in what is new."""
    said = {str(message.id) for message in collected() if message.id}
    known = catalog(language)
    assert said - known.keys() == set()
    assert known.keys() - said == set()
    assert [text for text, translated in known.items() if not translated] == []


def test_english_says_otherwise_only_what_is_said() -> None:
    assert catalog("en").keys() <= {str(message.id) for message in collected()}


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


SAID = st.sampled_from(SENTENCES).flatmap(
    lambda sentence: st.tuples(
        st.just(sentence),
        st.lists(
            st.from_regex(r"[A-Za-z0-9.+-]{1,12}", fullmatch=True),
            min_size=sentence.count("{}"),
            max_size=sentence.count("{}"),
        ),
    )
)


@given(st.lists(SAID, min_size=1, max_size=5))
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_jobs_say_keeps_its_numbers_and_its_order_in_each_language(
    language: str, said: list[tuple[str, list[str]]]
) -> None:
    words = translator(language)
    text = BETWEEN.join(sentence.format(*values) for sentence, values in said)
    expected = words(BETWEEN).join(words(sentence).format(*values) for sentence, values in said)
    assert translate_sentences(text, words) == expected
    assert translate_sentences(text, translator("en")) == text


@given(st.text())
def test_what_no_job_says_is_left_as_it_is(text: str) -> None:
    assert translate_sentences(f"nobody says {text}", translator("en")) == f"nobody says {text}"


def test_each_sentence_keeps_all_its_values_in_each_language() -> None:
    for language in OTHERS:
        for sentence in SENTENCES:
            values = [f"<{place}>" for place in range(sentence.count("{}"))]
            assert all(value in translator(language)(sentence).format(*values) for value in values)


def test_what_has_no_words_stays_english() -> None:
    assert translator("zh")("no such text") == "no such text"
    assert translator("zh")("Log in") == "登录"
