"""Lets the tests of this folder import each other's plain helpers, and the package of its name."""

import sys
from pathlib import Path

HERE = Path(__file__).parent

# The project's root goes first: this folder must not pass for the package `alerts`.
sys.path[:0] = [
    str(HERE.parents[1]),
    *(str(folder) for folder in HERE.iterdir() if folder.is_dir()),
]
