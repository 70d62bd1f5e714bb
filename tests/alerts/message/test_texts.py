"""An operator's own wording, and a further language, without a fork."""

from __future__ import annotations

import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import alerts.message
from alerts.message.compose import EmptyShelf, compose
from alerts.message.texts import KINDS, LANGUAGES, OUR_TEXTS, SAMPLES, Texts
from schemas.errors import SettingsError

OURS = Path(alerts.message.__file__).parent / "templates"


def said(texts: Texts, language: str, kind: str = "stock_out") -> tuple[str, str]:
    shelf = EmptyShelf("o1", "Lake Shop", "Xihu", "4G-50", 1_772_355_540_000)
    text = compose([shelf], language=language, timezone=ZoneInfo("UTC"), kind=kind, texts=texts)
    return text.body, text.language


def test_one_text_may_be_worded_anew(tmp_path: Path) -> None:
    (tmp_path / "stock_out.en.j2").write_text(
        "{{ sku }} ran out at {{ time }}: {{ stops[0].outlets[0] }}\n"
    )
    texts = Texts(tmp_path)
    assert said(texts, "en") == ("4G-50 ran out at 08:59: Lake Shop", "en")
    assert said(texts, "zh") == said(OUR_TEXTS, "zh")
    assert said(texts, "en", "reminder") == said(OUR_TEXTS, "en", "reminder")


def test_a_further_language_has_all_kinds(tmp_path: Path) -> None:
    for kind in KINDS:
        shutil.copy(OURS / f"{kind}.en.j2", tmp_path / f"{kind}.pt.j2")
    (tmp_path / "stock_out.pt.j2").write_text("Sem {{ sku }} desde {{ time }}.")
    texts = Texts(tmp_path)
    assert texts.languages == (*LANGUAGES, "pt")
    assert said(texts, "pt-BR") == ("Sem 4G-50 desde 08:59.", "pt")
    (tmp_path / "digest.pt.j2").unlink()
    with pytest.raises(SettingsError, match=r"lacks digest\.pt\.j2"):
        Texts(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("stock_out.en.j2", "Out\nof {{ card }}", "line 2: 'card' is no placeholder"),
        ("stock_out.en.j2", "{% if sku %}", "line 1"),
        ("stock_out.en.j2", "{{ stops[0].street }}", "street"),
        ("stock_out.en.j2", "{{ stops[9].outlets }}", "stock_out.en.j2"),
        ("stock_out.en.j2", "{# nothing #}", "says nothing"),
        ("stock_out.zh.j2", "请" * 140, "3 segments about one shop"),
        ("stock-out.en.j2", "x", "is no text: name it"),
        ("news.en.j2", "x", "is no text: name it"),
    ],
)
def test_a_text_that_is_not_fit_is_named(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as raised:
        Texts(tmp_path)
    assert fault in str(raised.value)
    assert name in str(raised.value)


def test_a_signature_counts(tmp_path: Path) -> None:
    (tmp_path / "stock_out.zh.j2").write_text("请" * 130)
    Texts(tmp_path)
    with pytest.raises(SettingsError, match="3 segments"):
        Texts(tmp_path, signature="零库存科技")
    with pytest.raises(SettingsError, match="no folder"):
        Texts(tmp_path / "nowhere")


def test_our_own_texts_are_fit(tmp_path: Path) -> None:
    shutil.copytree(OURS, tmp_path / "texts")
    texts = Texts(tmp_path / "texts")
    for kind in KINDS:
        for language in LANGUAGES:
            for sample in SAMPLES:
                assert texts.render(kind, language, sample) == OUR_TEXTS.render(
                    kind, language, sample
                )
