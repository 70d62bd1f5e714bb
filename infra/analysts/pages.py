"""docs/tables.md and docs/questions.md, made of the schema, its meanings and the saved questions.

`python -m infra.analysts.pages` writes them anew; a test fails while they are not what it writes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from infra.analysts.meanings import SECTIONS, TableMeaning, introduction, tables
from infra.analysts.questions import SavedQuestion, questions
from pipelines.warehouse import Warehouse, migrate, open_warehouse

#: Types of each table's columns, in the table's order.
Schema = Mapping[str, Mapping[str, str]]

_INNER = ("batch_reach", "batch_run_states", "business_zones", "mask_key", "schema_migrations")


def schema(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """The tables that analysts see: not those that only store what a view shows."""
    found: dict[str, dict[str, str]] = {}
    for row in warehouse.query(
        "SELECT table, name, type FROM system.columns"
        " WHERE database = currentDatabase() ORDER BY table, position"
    ).to_pylist():
        if not row["table"].endswith("_rows") and row["table"] not in _INNER:
            found.setdefault(row["table"], {})[row["name"]] = row["type"]
    return found


def tables_page(columns: Schema) -> str:
    """docs/tables.md."""
    known = tables()
    lines = [introduction(), ""]
    for section in SECTIONS:
        here = [name for name, table in known.items() if table.section == section]
        if here:
            lines += [f"{section}: " + " · ".join(f"[{name}](#{name})" for name in here) + "  "]
    for name, table in known.items():
        lines += ["", f"## {name}", "", *table_lines(table, columns[name])]
    return "\n".join(lines) + "\n"


def table_lines(table: TableMeaning, types: Mapping[str, str] | None = None) -> Iterator[str]:
    """A table's part of the page; without `types` those are left out."""
    yield f"**{_capital(table.grain)}.** {table.about}".rstrip()
    yield ""
    yield "| column | type | meaning |" if types else "| column | meaning |"
    yield "| --- | --- | --- |" if types else "| --- | --- |"
    for names, what in table.explained().items():
        cells = [names]
        if types:
            kinds = dict.fromkeys(types[name.strip()] for name in names.split(","))
            cells.append(", ".join(f"`{kind}`" for kind in kinds))
        cells.append(what.meaning + (f" ({what.unit})" if what.unit else ""))
        yield "| " + " | ".join(cells) + " |"
    for query in table.queries:
        yield from ("", query.question, "", "```sql", query.sql.strip(), "```")


def questions_page(saved: Sequence[SavedQuestion]) -> str:
    """docs/questions.md."""
    lines = [
        "# Saved questions",
        "",
        "What people ask again and again. The tests run each of them, and compare most answers on",
        "a made city with its truth, or with the same worked out another way:",
        "",
        "```",
        "zerostock ask                                    # lists them",
        "zerostock ask empty-shelves --data demo-data/state",
        "zerostock ask busiest-outlets --data demo-data/state --param top=10 --format CSVWithNames",
        "```",
    ]
    for question in saved:
        lines += ["", f"## {question.name}", "", f"{question.question} *({question.who})*", ""]
        lines += [f"- `{p.name}` ({p.default}): {p.meaning}" for p in question.params]
        lines += [""] if question.params else []
        lines += ["```sql", question.sql, "```"]
    return "\n".join(lines) + "\n"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def main() -> None:
    """Write both pages where the sources are."""
    docs = Path(__file__).parents[2] / "docs"
    with tempfile.TemporaryDirectory() as folder:
        warehouse = open_warehouse(data=Path(folder))
        try:
            migrate(warehouse)
            (docs / "tables.md").write_text(tables_page(schema(warehouse)), encoding="utf-8")
        finally:
            warehouse.close()
    page = questions_page(list(questions().values()))
    (docs / "questions.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
