"""The house stays easy to enter: small rooms, one word a thing, no word that only insiders know.

What may import what is in `test_architecture.py`; the words' table is in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("schemas", "pipelines", "alerts", "infra")

#: More siblings than this, and nobody reads a folder at a glance.
MOST_FILES = 14

#: Words that nobody outside would understand in our sense, as whole parts of a name.
PRIVATE = {
    "casebook", "doorsign", "foresight", "frontier", "keeper", "news", "plumbing", "rig",
    "strangers", "town", "wording",
}  # fmt: skip


def modules() -> Iterator[Path]:
    for room in ROOMS:
        yield from (ROOT / room).rglob("*.py")


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that a file gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def parts(name: str) -> set[str]:
    """`OpenAlert` and `open_alert` are both open and alert."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def test_no_class_name_stands_twice() -> None:
    where = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}


def test_folders_can_be_read_at_a_glance() -> None:
    sizes = {
        str(folder.relative_to(ROOT)): len([f for f in folder.glob("*.py") if f.stem != "__init__"])
        for folder in {path.parent for path in modules()}
    }
    assert {folder: size for folder, size in sizes.items() if size > MOST_FILES} == {}


def test_names_are_words_of_the_field() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules()
        for name in {path.stem, *names(ast.parse(path.read_text()))}
        if parts(name) & PRIVATE
    }
    assert found == set()
