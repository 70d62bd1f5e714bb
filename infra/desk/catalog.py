"""Keeps the catalogs in step with the code: `python -m infra.desk.catalog` after texts changed.

New texts come in untranslated, those no longer used go. A test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from infra.analysts.meanings import tables
from infra.desk.parts import column
from infra.desk.translation import LANGUAGES
from schemas.sentences import BETWEEN, SENTENCES

_HERE: Final = Path(__file__).parent
_METHODS: Final = [("**.py", "python"), ("**.j2", "jinja2.ext:babel_extract")]


def collected() -> Catalog:
    """Every marked text of code and templates, the headings of columns, every sentence of jobs."""
    catalog = Catalog()
    for _, _, text, _, _ in extract_from_dir(_HERE, _METHODS, keywords={"N_": None, "_": None}):
        if isinstance(text, str):
            catalog.add(text)
    for table, meaning in tables().items():
        for name in meaning.labels:
            shown = column(table, name)
            catalog.add(shown.heading)
            catalog.add(shown.about)
    for sentence in (*SENTENCES, BETWEEN):
        catalog.add(sentence)
    return catalog


def update() -> None:
    """Writes each language's catalog anew, with the translations that it had."""
    texts = collected()
    for language in LANGUAGES:
        if language == "en":
            continue
        path = _HERE / "translations" / f"{language}.po"
        had = read_po(path.open("rb"), language) if path.exists() else Catalog(language)
        new = Catalog(language)
        for message in texts:
            if message.id:
                known = had.get(message.id)
                new.add(message.id, known.string if known else "")
        with path.open("wb") as file:
            write_po(file, new, sort_output=True, omit_header=True)


if __name__ == "__main__":
    update()
