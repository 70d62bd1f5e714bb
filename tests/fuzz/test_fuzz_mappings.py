"""Spoiled mapping files: told in one line what is wrong, or usable without surprises."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ingest_harness import ListPost, put, read
from spoil import MANY, spoiled_line

from pipelines.ingest.mapping.mapping import Mapping, load_mapping
from pipelines.ingest.reading import files
from schemas.errors import MappingError

EXAMPLES = Path(files.__file__).parents[1] / "examples"

#: Mappings that could be read and are tried on a file: reading takes longer than looking.
TRIED = 200


def spoiled_mapping(rng: Random) -> bytes:
    """One of the examples with one line spoiled."""
    lines = (
        (EXAMPLES / f"{rng.choice(['switch', 'mediation', 'exports'])}.toml")
        .read_bytes()
        .split(b"\n")
    )
    meant = [n for n, line in enumerate(lines) if line.strip() and not line.startswith(b"#")]
    at = rng.choice(meant)
    lines[at] = spoiled_line(lines[at], rng)
    return b"\n".join(lines)


def test_spoiled_mappings(tmp_path: Path, city: Path) -> None:
    rng, path = Random("mappings"), tmp_path / "m.toml"
    for sample in EXAMPLES.glob("*/cdr/*/*.csv"):
        put(city / "cdr" / sample.parent.name / sample.name, sample.read_bytes())
    usable: list[Mapping] = []
    told: list[str] = []
    for _ in range(MANY):
        put(path, spoiled_mapping(rng))
        try:
            usable.append(load_mapping(path))
        except MappingError as error:
            told.append(str(error))
    assert [why for why in told if not why.startswith(f"{path}") or "\n" in why] == []
    assert 0.05 * MANY < len(usable) < 0.9 * MANY
    for mapping in rng.sample(usable, TRIED):
        post, report = read(city, ListPost(), mapping=mapping)
        whys = [why for _, _, why, _ in post.letters()]
        assert all(why.startswith(("malformed: ", "invalid_field: ")) for why in whys)
        assert report.files == 4
        assert report.dead_letters == len(whys)
        assert all(0 <= at < 10_413_792_000_000 and call_id for call_id, _, at, _ in post.uses())
