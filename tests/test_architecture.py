"""The walls of the house: the core is pure, and each folder imports only what stands above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: From the top of the house down.
ORDER = (
    "schemas",
    "pipelines.core",
    "pipelines.files",
    "pipelines.kafka",
    "pipelines.ingest",
    "pipelines.warehouse",
    "pipelines.stream",
    "pipelines.batch",
    "pipelines.simulate",
    "alerts",
    "infra",
)

#: What pure code may use besides the standard library's pure parts.
PURE = {"schemas", "pipelines", "numpy", "pyarrow", "msgspec", "polars"}
PURE_STDLIB = {
    "__future__", "abc", "bisect", "collections", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "hashlib", "heapq", "itertools", "math", "operator", "re",
    "statistics", "string", "typing", "zlib",
}  # fmt: skip

#: The made city comes with its truth: it must not be the product's own opinion.
FORBIDDEN = {
    ("pipelines.simulate", "pipelines.core"),
}


def modules(folder: str) -> Iterator[Path]:
    return (ROOT / folder.replace(".", "/")).rglob("*.py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def place(module: str) -> str | None:
    """The room a module belongs to."""
    return next((room for room in ORDER if f"{module}.".startswith(f"{room}.")), None)


@pytest.mark.parametrize("path", list(modules("pipelines.core")), ids=lambda p: p.name)
def test_the_core_is_pure(path: Path) -> None:
    for module in imports(path):
        top = module.split(".")[0]
        assert top in PURE | PURE_STDLIB, f"{path.name} imports {module}"
        assert not module.startswith(("pyarrow.csv", "pyarrow.parquet", "pyarrow.fs")), module


@pytest.mark.parametrize("room", ORDER)
def test_a_folder_imports_only_what_stands_above_it(room: str) -> None:
    for path in modules(room):
        here = place(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if here != room:
            continue
        for module in imports(path):
            there = place(module)
            if there is None or there == here:
                continue
            assert (here, there) not in FORBIDDEN, f"{path} imports {module}"
            assert ORDER.index(there) < ORDER.index(here), f"{path} imports {module}"


def test_the_check_sees_something() -> None:
    assert "pipelines.core.stock.sim_registry" in imports(
        ROOT / "pipelines/core/stock/sim_stage.py"
    )
    assert len(list(modules("infra"))) > 5
