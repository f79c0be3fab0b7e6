"""Text for a terminal of 80 columns: lines, tables, bold and color."""

import os
import re
import sys
import textwrap
from collections.abc import Sequence

WIDTH = 80
BOLD, GREEN, RED = "1", "32", "31"


def is_dumb() -> bool:
    """Return whether TERM is unset, or names a terminal without control sequences."""
    return os.environ.get("TERM", "dumb") == "dumb"


def styled(text: str, style: str) -> str:
    """Return bold or colored text if the output is a terminal that shows it, else the text."""
    plain = is_dumb() or os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def wrap(text: str, first: str = "", rest: str = "") -> str:
    """Return a text as lines of at most 80 columns, each after its indent.

    An interval in brackets stays on one line with the number before it.
    """
    bound = re.sub(r"((?<=\S) )?\[[^]]*\]", lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        bound,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace("\0", " ")


def fit_tables(markdown: str) -> str:
    """Return Markdown in which a table that is too wide is split by columns.

    Each part has the first column again, and as many others as fit.
    """
    return "\n\n".join(map(fit_table, markdown.split("\n\n")))


def fit_table(table: str) -> str:
    """Return one table as tables of at most 80 columns, of about equal widths."""
    lines = [line.strip("|").split("|") for line in table.splitlines()]
    widths = [len(cell) + 1 for cell in lines[0]]
    fewest = len(parts_of(widths, WIDTH))
    parts = next(p for w in range(WIDTH + 1) if len(p := parts_of(widths, w)) == fewest)
    return "\n\n".join(
        "\n".join(f"|{'|'.join(cells[i] for i in part)}|" for cells in lines) for part in parts
    )


def parts_of(widths: Sequence[int], width: int) -> list[list[int]]:
    """Return the columns of each part: the first one, then as many others as fit, at least one."""
    parts = [[0]]
    for column in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[i] for i in [*parts[-1], column]) + 1 > width:
            parts.append([0])
        parts[-1].append(column)
    return parts
