"""Spoiled mapping files: told in one line what is wrong, or usable without surprises."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ingest_rig import ListPost, put, read
from spoil import MANY, spoiled_line

from pipelines.ingest import files
from pipelines.ingest.mapping import Mapping, load_mapping
from schemas.errors import MappingError

EXAMPLES = Path(files.__file__).parent / "examples"

#: Mappings that could be read and are tried on a file: reading takes longer than looking.
TRIED = 200


def spoiled_mapping(rng: Random) -> bytes:
    """One of the examples with one or two lines spoiled."""
    lines = (EXAMPLES / f"{rng.choice(['switch', 'mediation'])}.toml").read_bytes().split(b"\n")
    meant = [n for n, line in enumerate(lines) if line.strip() and not line.startswith(b"#")]
    for at in rng.sample(meant, rng.randint(1, 2)):
        lines[at] = spoiled_line(lines[at], rng)
    return b"\n".join(lines)


def test_spoiled_mappings(tmp_path: Path, city: Path) -> None:
    rng, path = Random("mappings"), tmp_path / "m.toml"
    for example, source in (
        ("switch", "switch-a/20260302"),
        ("mediation", "mediation/MED_20260302_0001"),
    ):
        content = (EXAMPLES / example / "cdr" / f"{source}.csv").read_bytes()
        put(city / "cdr" / f"{source}.csv", content)
    usable: list[Mapping] = []
    for _ in range(MANY):
        put(path, spoiled_mapping(rng))
        try:
            usable.append(load_mapping(path))
        except MappingError as error:
            assert str(error).startswith(f"{path}")
            assert "\n" not in str(error)
    assert 0.05 * MANY < len(usable) < 0.9 * MANY
    for mapping in rng.sample(usable, TRIED):
        post, report = read(city, ListPost(), mapping=mapping)
        whys = [why for _, _, why, _ in post.letters()]
        assert all(why.startswith(("malformed: ", "invalid_field: ")) for why in whys)
        assert report.files == 2
        assert report.dead_letters == len(whys)
        assert all(0 <= at < 10_413_792_000_000 and call_id for call_id, _, at, _ in post.uses())
