"""Input that is on no local disk: a store of Beam's kind, here one that is a dict."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from apache_beam.io.filesystem import CompressionTypes, FileMetadata, FileSystem
from batch_harness import compute_tables
from test_line_loss import reading, run, unit, write

from pipelines.batch.engine.columns import Dataset, text
from pipelines.batch.engine.sources import checksum, find


class Store(FileSystem):  # type: ignore[misc]
    """Whatever begins with store://; finding it registers it with Beam."""

    files: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "store"

    def join(self, base: str, *parts: str) -> str:
        return "/".join([base.rstrip("/"), *parts])

    def split(self, path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        return folder, name

    def has_dirs(self) -> bool:
        return False

    def _list(self, prefix: str) -> Iterator[FileMetadata]:
        for path, data in self.files.items():
            if path.startswith(prefix):
                yield FileMetadata(path, len(data))

    def open(self, path: str, mime_type: str = "", compression_type: str = "") -> Any:
        packed = compression_type != CompressionTypes.UNCOMPRESSED and path.endswith(".gz")
        data = self.files[path]
        return io.BytesIO(gzip.decompress(data) if packed else data)

    def exists(self, path: str) -> bool:
        return path in self.files

    def size(self, path: str) -> int:
        return len(self.files[path])

    def checksum(self, path: str) -> str:
        return f"etag-{hash(self.files[path])}"

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path))

    def _never(self, *args: object, **how: object) -> Any:
        raise AssertionError("input is read only")

    mkdirs = create = copy = rename = delete = last_updated = _never


@pytest.fixture
def store() -> Iterator[dict[str, bytes]]:
    yield Store.files
    Store.files.clear()


def test_a_job_reads_csv_and_parquet_from_a_store(tmp_path: Path, store: dict[str, bytes]) -> None:
    rows = [reading("T", 7.5, f"m{i}") for i in range(40)]
    write(tmp_path, [unit("T")], [reading("T", 400)], rows)
    here = run(tmp_path)
    for file in (tmp_path / "utility").iterdir():
        store[f"store://meters/2026/utility/{file.name}.gz"] = gzip.compress(file.read_bytes())
    packed = io.BytesIO()
    pl.read_csv(tmp_path / "utility/customer_readings.csv", infer_schema=False).write_parquet(
        packed, row_group_size=7
    )
    del store["store://meters/2026/utility/customer_readings.csv.gz"]
    store["store://meters/2026/utility/customer_readings/a.parquet"] = packed.getvalue()
    there = compute_tables("line-loss", "store://meters/2026", "2026-01", chunk_rows=10)  # type: ignore[arg-type]
    assert there["line_loss"] == here["line_loss"]
    assert there["_rows_read"] == here["_rows_read"]


def test_the_stores_own_checksum_is_recorded(store: dict[str, bytes]) -> None:
    store["store://meters/pairs.csv"] = b"a\n1\n"
    (file,) = find("store://meters", Dataset("pairs", (text("a"),)))
    assert (file.source, file.size) == ("pairs.csv", 4)
    before = checksum(file)
    store[file.path] = b"a\n2\n"
    assert before.startswith("etag-")
    assert checksum(file) != before
