"""Where files go once they were read to their end: to archives that the exchange directory names.

`DIR/.archive` names them, a line each, so that all who read the directory (reconcile, replay, batch
jobs, a run whose state was lost) read what lies there too, under the names that the files had. A
file may as well be moved there by hand.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import time
from pathlib import Path
from typing import Final

from pipelines.files import replace_file
from schemas.errors import InputError

_NOTE: Final = ".archive"


def archives_of(directory: Path) -> list[Path]:
    """The archives of an exchange directory. Raises `InputError` for one that is not there."""
    try:
        lines = (directory / _NOTE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{directory / _NOTE} cannot be read: {error}") from None
    found = [directory / line for line in lines if line.strip()]
    for archive in found:
        if not archive.is_dir():
            raise InputError(
                f"{directory / _NOTE} names {archive}, which is not there: bring it back, or take"
                " it out of that file if what it held is not to count any more"
            )
    return found


def use_archive(directory: Path, archive: Path) -> Path:
    """Name an archive in the exchange directory, and make it. Raises `InputError`."""
    archive = archive.resolve()
    if any(archive.is_relative_to(directory.resolve() / top) for top in ("events", "cdr")):
        raise InputError(f"{archive} is where files are read from: name another --archive")
    try:
        archive.mkdir(parents=True, exist_ok=True)
        known = archives_of(directory)
        if archive not in [path.resolve() for path in known]:
            lines = [*map(str, known), str(archive)]
            replace_file(directory / _NOTE, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise InputError(f"{archive} cannot be used as archive: {error}") from None
    return archive


def located(directory: Path, name: str) -> Path:
    """Where a file is that has this name in the exchange directory: there or in an archive."""
    places = [root / name for root in (directory, *archives_of(directory))]
    return next((place for place in places if place.exists()), places[0])


def name_in(archive: Path, path: Path, name: str) -> str:
    """The name that a file is to have in an archive: its own, unless another has that already."""
    target = archive / name
    if not target.exists() or filecmp.cmp(path, target, shallow=False):
        return name
    changed = time.strftime("%Y%m%d%H%M%S", time.gmtime(path.stat().st_mtime))
    numbered, number = f"{name}-{changed}", 2
    while (archive / numbered).exists() and not filecmp.cmp(path, archive / numbered, False):
        numbered, number = f"{name}-{changed}_{number}", number + 1
    return numbered


def put_away(path: Path, target: Path) -> None:
    """Move a file; at any time it is, whole, in one of the places or in both. Raises `OSError`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        draft = target.with_name(f".{target.name}.draft")
        shutil.copy2(path, draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
        path.unlink()
