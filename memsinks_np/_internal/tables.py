"""Format numbers, text and tables."""

import math
import unicodedata
from collections.abc import Sequence
from html import escape

import numpy as np


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed digits, or "-" for one that does not exist (None, NaN)."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Return "mean ± standard deviation" over seeds; the mean alone for one seed.

    "-" if one of the numbers does not exist.
    """
    x = np.asarray(values, float)  # NaN for None
    if np.isnan(x).any():
        return "-"
    std = float(x.std(ddof=1)) if len(x) > 1 else 0.0
    return number(float(x.mean()), digits) + (f" ± {std:.{digits}f}" if std else "")


def visible(text: str) -> str:
    """Return a text with a symbol or number in place of each control or direction character."""
    shown = ""
    for c in text.replace("\n", "↵"):
        if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            shown += c
        else:
            shown += chr(0x2400 + ord(c)) if ord(c) < 32 else f"[U+{ord(c):04X}]"
    return shown


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, aligned for a terminal: first column left, the others right."""
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            f"{c:{'<' if i == 0 else '>'}{w}}"
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(aligned) + " |"

    marks = ["-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)]
    return "\n".join([line(header), "|" + "|".join(marks) + "|", *map(line, rows)])


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> str:
    """Return an HTML table: escaped, in its own scrollable box (also by keyboard)."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    lines = ""
    for first, *others in rows:
        cells = "".join(f"<td>{escape(c)}</td>" for c in others)
        lines += f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>\n'
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(label)}">'
    return f'{box}<table class="numbers"><tr>{top}</tr>\n{lines}</table></div>'
