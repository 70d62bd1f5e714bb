"""The documents: links lead somewhere, named tests exist, commands parse, the cheap ones run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from infra.cli import app
from infra.reference_pages import PAGES as REFERENCE
from infra.reference_pages import SECTIONS
from infra.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
QUICKSTART = ROOT / "docs/quickstart.md"

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HERE = re.compile(r"<<'EOF'.*?^EOF$", re.MULTILINE | re.DOTALL)
_TESTED = re.compile(
    r"<!-- tested -->\n```sh\n(?P<code>.*?)^```"
    r"(?:(?:(?!```|^#|<!--).)*?^```text\n(?P<shows>.*?)^```)?",
    re.MULTILINE | re.DOTALL,
)
_TEST = re.compile(r"`(?:(tests/[\w/]+\.py)(?:::(\w+))?|(test_\w+))`")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    found = set()
    for line in _CODE.sub("", page.read_text()).splitlines():
        if line.startswith("#"):
            title = line.lstrip("#").strip().lower()
            found.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if link.startswith(("https:", "http:", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {link}"


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_is_what_the_program_says(name: str) -> None:
    page = (ROOT / "docs" / name).read_text()
    assert page == REFERENCE[name](), "write it anew: python -m infra.reference_pages"


def test_every_setting_says_what_it_means() -> None:
    fields = Settings.model_fields
    assert all(field.description for field in fields.values())
    assert set(SECTIONS) <= set(fields)


@pages
def test_named_tests_exist(page: Path) -> None:
    defined = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        defined |= set(re.findall(r"def (test_\w+)", file.read_text())) | {file.stem}
    for path, name, alone in _TEST.findall(page.read_text()):
        if path:
            text = (ROOT / path).read_text() if (ROOT / path).exists() else ""
            assert text, f"{page.name} names {path}"
            assert f"def {name}(" in text or not name, f"{page.name} names {path}::{name}"
        else:
            assert alone in defined, f"{page.name} names {alone}"


def commands(page: Path) -> Iterator[list[str]]:
    """The zerostock commands of a page's shell blocks, as arguments."""
    for language, block in _CODE.findall(page.read_text()):
        if language not in ("", "sh"):
            continue
        code = _HERE.sub("", block).replace("\\\n", " ")
        for line in code.splitlines():
            if "zerostock " not in line:
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words and words[0] in ("zerostock", ".venv/bin/zerostock"):
                ends = [i for i, word in enumerate(words) if word in (">", "|", "&", "&&")]
                yield words[1 : min(ends, default=None)]


@pages
def test_commands_are_understood(page: Path) -> None:
    for arguments in commands(page):
        command, rest, context = get_command(app), arguments, None
        while hasattr(command, "resolve_command"):
            context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
            _, command, rest = command.resolve_command(context, rest)
        command.make_context(command.name, rest, parent=context)  # raises for what is not there


def test_the_checks_see_something() -> None:
    assert sum(1 for _ in commands(QUICKSTART)) > 15
    assert len(_TESTED.findall(QUICKSTART.read_text())) >= 6
    assert any(_TEST.findall(page.read_text()) for page in PAGES)


@pytest.mark.slow
def test_the_quickstart_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for block in _TESTED.finditer(QUICKSTART.read_text()):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block["code"]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{block['code']}\n{done.stdout}\n{done.stderr}"
        for line in (block["shows"] or "").splitlines():
            assert line in done.stdout, f"{block['code']}\n{done.stdout}\ndoes not show: {line}"
