"""Placeholder-free stub; replaced below."""

from __future__ import annotations

from pathlib import Path


class Mapping: ...


def load_mapping(path: Path) -> Mapping:
    return Mapping()
