"""Make a notebook of every page:  python tutorials/notebooks.py

It is written beside the page, where its links and imports work. Outputs and figures become outputs
of their cells. Solutions stay folded.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this repository's pages, installed or not

from tutorials.refresh import CELL, IMAGE, pages  # noqa: E402

FIGURE = re.compile(r"\s*" + IMAGE.pattern)
ORIGIN = """*Made from [{page}]({page}). The code needs a clone of the repository: save this file in
its folder `tutorials`; see [How to run a page](index.md#how-to-run-a-page).*"""
DERIVATION = "<summary>Derivation</summary>"
DERIVED = "from the derivation above, for the cells below: do not run this to use your own"


class Cell(NamedTuple):
    """A cell of a page, with what it prints and the figure that it draws."""

    code: str
    shown: str = ""
    figure: re.Match[str] | None = None  # its `alt` and `path`


def is_folded(text: str, position: int) -> bool:
    """Return whether a position is inside <details>."""
    return text.count("<details>", 0, position) > text.count("</details>", 0, position)


def parts(text: str) -> Iterator[str | Cell]:
    """Yield a page's parts in their order: Markdown, or a cell with all that belongs to it.

    A cell of a solution stays Markdown, inside its <details>. That of a derivation is a code cell
    as well, with its source hidden, since later cells use its function.
    """
    end = 0
    for cell in CELL.finditer(text):
        if is_folded(text, cell.start()):
            if DERIVATION in text[text.rindex("<details>", 0, cell.start()) : cell.start()]:
                closed = text.index("</details>", cell.end()) + len("</details>")
                yield text[end:closed]
                yield Cell(f"# {DERIVED}\n{cell['code']}", cell["shown"] or "", None)
                end = closed
            continue
        yield text[end : cell.start()]
        figure = FIGURE.match(text, cell.end()) if "savefig" in cell["code"] else None
        end = (figure or cell).end()
        yield Cell(cell["code"], cell["shown"] or "", figure)
    yield text[end:]


def for_jupyter(markdown: str) -> str:
    """Return Markdown with formulas and notes as Jupyter renders them."""
    formulas = re.sub(r"\$`(.+?)`\$", r"$\1$", markdown, flags=re.DOTALL)
    formulas = re.sub(r"^```math\n(.*?)^```$", r"$$\n\1$$", formulas, flags=re.M | re.S)
    return re.sub(r"> \[!(\w+)\]", lambda note: f"> **{note[1].capitalize()}**<br>", formulas)


def outputs(cell: Cell, folder: Path) -> list[dict]:
    """Return what a cell prints and draws as outputs of a notebook."""
    found: list[dict] = []
    if cell.shown:
        found.append({"output_type": "stream", "name": "stdout", "text": cell.shown})
    if cell.figure:
        svg = (folder / cell.figure["path"]).read_text(encoding="utf-8")
        data = {"image/svg+xml": svg, "text/plain": " ".join(cell.figure["alt"].split())}
        found.append({"output_type": "display_data", "data": data, "metadata": {}})
    return found


def notebook(page: Path) -> dict:
    """Return the notebook of a page, as JSON in version 4.5 of Jupyter's format."""
    cells: list[dict] = []
    text = page.read_text(encoding="utf-8")
    for part in (ORIGIN.format(page=page.name), *parts(text)):
        if isinstance(part, Cell):
            content = {"cell_type": "code", "source": part.code.rstrip(), "execution_count": None}
            content["outputs"] = outputs(part, page.parent)
            hidden = part.code.startswith(f"# {DERIVED}")
        elif part.strip():
            content = {"cell_type": "markdown", "source": for_jupyter(part).strip()}
            hidden = False
        else:
            continue
        metadata = {"jupyter": {"source_hidden": True}} if hidden else {}
        cells.append(content | {"id": f"cell-{len(cells)}", "metadata": metadata})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def write_all(folder: Path) -> None:
    """Write the notebooks of all pages into a folder."""
    for page in pages():
        text = json.dumps(notebook(page), indent=1, ensure_ascii=False)
        (folder / page.with_suffix(".ipynb").name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_all(HERE)
