"""SQL that gives analysts a server's tables to read, personal numbers masked.

`python -m infra.analysts.access` prints it for an administrator of a real server: a database
`analysts` with a view of each table, then the role, the user and its quota. Nothing is run here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from infra.analysts.pages import Schema, schema
from pipelines.warehouse import migrate, open_warehouse

#: The same number has the same pseudonym in every view, so joins work. IMSIs can be counted
#: through, so the hash has a key, and the key is in a table that analysts may not read.
_PSEUDONYM: Final = (
    "assumeNotNull(toInt64(intDiv(sipHash64Keyed("
    "(SELECT (any(low), any(high)) FROM {base}.mask_key), {name}), 2)))"
)
_NUMBER: Final = f"if({{name}} = '', '', toString({_PSEUDONYM}))"
_PHONE: Final = "if({name} = '', '', concat(substring({name}, 1, 3), '…', substring({name}, -2)))"
#: Links in messages answer for a wholesaler without a login; long numbers may be anybody's.
_TEXT: Final = "replaceRegexpAll({name}, 'https?://\\\\S+|[+]?[0-9]{{7,}}', '…')"

MASKS: Final[Mapping[str, str]] = {
    "imsi": _PSEUDONYM,
    "first_imsi": _PSEUDONYM,
    "old_imsi": _PSEUDONYM,
    "new_imsi": _PSEUDONYM,
    "msisdn": _NUMBER,
    "phone": _PHONE,
    "backup_phone": _PHONE,
    "payload": "''",
    "body": _TEXT,
    "detail": _TEXT,
    "error": _TEXT,
    "reason": _TEXT,
}


def views(columns: Schema, base: str = "zerostock", database: str = "analysts") -> Iterator[str]:
    """Statements that make `database`, with a view of each table of `base` under the same name.

    Run again, they replace the views and keep the key.
    """
    yield f"CREATE DATABASE IF NOT EXISTS {database}"
    yield (
        f"CREATE TABLE IF NOT EXISTS {base}.mask_key (low UInt64, high UInt64)"
        " ENGINE = MergeTree ORDER BY low"
    )
    yield (
        f"INSERT INTO {base}.mask_key SELECT rand64(1), rand64(2)"  # noqa: S608 - fixed names
        f" WHERE (SELECT count() FROM {base}.mask_key) = 0"
    )
    for table, types in columns.items():
        masked = [
            f"{MASKS[name].format(name=name, base=base)} AS {name}"
            for name in types
            if name in MASKS
        ]
        star = f"* REPLACE ({', '.join(masked)})" if masked else "*"
        yield (
            f"CREATE OR REPLACE VIEW {database}.{table}"  # noqa: S608 - names of the schema
            f" DEFINER = CURRENT_USER SQL SECURITY DEFINER"
            f" AS SELECT {star} FROM {base}.{table}"
        )


def rights() -> str:
    """The role, the user, its limits."""
    file = files("infra").joinpath("clickhouse", "access", "analyst.sql")
    return file.read_text(encoding="utf-8")


def main() -> None:
    """Print all of it."""
    with tempfile.TemporaryDirectory() as folder:
        warehouse = open_warehouse(data=Path(folder))
        try:
            migrate(warehouse)
            columns = schema(warehouse)
        finally:
            warehouse.close()
    print(";\n".join(views(columns)) + ";\n")
    print(rights())


if __name__ == "__main__":
    main()
