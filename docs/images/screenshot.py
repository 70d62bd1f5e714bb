"""Draws run.svg: what a real `zerostock run` puts on the screen, most of its SMS left out.

    python docs/images/screenshot.py CITY DATA docs/images/run.svg

Only the SMS are cut short; every other line is the run's own.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from infra.settings import load_settings
from infra.stack.run import RunPlan, run
from infra.stack.summary import Screen

_SMS_SHOWN = 3
_FONTS = '"DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace'

#: Width of a character in Rich's drawing.
_STEP = 12.2
_TEXT = re.compile(r'x="([\d.]+)" (y="[\d.]+") textLength="([\d.]+)"( [^>]*)>((?:&#160;)*)(.*?)</')


class FewMessages(Screen):
    """Shows the first messages of each language and counts the others."""

    shown = (0, 0)
    left_out = 0

    def message(self, line: str) -> None:
        """One message, or one more that is left out."""
        zh, en = self.shown
        shown = (zh, en + 1) if "out of" in line else (zh + 1, en)
        if max(shown) > _SMS_SHOWN:
            self.left_out += 1
        else:
            self.shown = shown
            super().message(line)

    def stage(self, text: str) -> None:
        """What is going on now, after what was left out until now."""
        if self.left_out:
            self.console.print(f"[dim]… {self.left_out:,} more SMS …[/dim]")
            self.left_out = 0
        super().stage(text)


def picture(console: Console) -> str:
    """What was recorded, as SVG that fetches no font and that every renderer lines up alike."""
    svg = console.export_svg(title="zerostock run", theme=DIMMED_MONOKAI, unique_id="run")
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", _FONTS).replace("arial", "sans-serif")
    return re.sub(r"[ \t]+\n", "\n", _TEXT.sub(_without_indent, svg))


def _without_indent(text: re.Match[str]) -> str:
    """Blanks before a text as a place further right: some renderers drop them."""
    x, y, length, rest, indent, words = text.groups()
    shift = _STEP * len(indent) / len("&#160;")
    moved, left = float(x) + shift, float(length) - shift
    return f'x="{moved:.1f}" {y} textLength="{left:.1f}"{rest}>{words}</'


def main(city: str, data: str, out: str) -> None:
    """Run `city` into `data` and draw it."""
    console = Console(record=True, file=io.StringIO(), width=102, highlight=False)
    console.print(f"[bold green]$[/] zerostock run --input {city} --data {data}")
    plan = RunPlan(Path(city), Path(data), load_settings())
    asyncio.run(run(plan, FewMessages(console)))
    Path(out).write_text(picture(console), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
