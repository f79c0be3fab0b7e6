"""Run tutorial pages top to bottom, redraw their figures, rewrite what they print, and the index's table of pages.

examples:
  python tutorials/refresh.py          every page
  python tutorials/refresh.py 01 07    these two
"""

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
# a ```python fence, and the ```text fence (or ```text nats, for losses) that stands directly under it
CELL = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\s*^```text(?P<kind>[^\n]*)\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>figures/[^)]+)\)")


def pages() -> list[Path]:
    """The numbered pages in their order."""
    return sorted(HERE.glob("[0-9]*.md"))


def run(page: Path, folder: Path) -> list[str]:
    """Run a page's cells in one scope; what each of them prints.  Its figures land in `folder`/figures.

    The cells keep the page's line numbers, so that a traceback points into the page.  Warnings are errors.  BLAS has
    one thread, which on small models is faster than two and rounds alike on every machine.
    Model methods come from MEMSINKS_CACHE, by default runs/cache of this repository.
    """
    from memsinks_np._internal.blas import (
        one_blas_thread,  # once main has put this repository on the path
    )

    text = page.read_text(encoding="utf-8")
    (folder / "figures").mkdir()
    scope: dict[str, object] = {"__name__": "__main__"}
    printed = []
    environment = {"MEMSINKS_CACHE": str(HERE.parent / "runs" / "cache")} | dict(os.environ)
    environment |= {"SOURCE_DATE_EPOCH": "0"}  # no date in a figure: the same bytes every time
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.chdir(folder),
        matplotlib.rc_context(fname=HERE / "matplotlibrc"),
        warnings.catch_warnings(action="error"),
        one_blas_thread(),
    ):
        for cell in CELL.finditer(text):
            above = "\n" * text.count("\n", 0, cell.start("code"))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(above + cell["code"], str(page), "exec"), scope)
            printed.append(out.getvalue())
        plt.close("all")
    return printed


def rewritten(text: str, printed: list[str]) -> str:
    """The page with a text fence under every cell that printed something, and under no other."""
    outputs = iter(printed)

    def cell_with_output(cell: re.Match[str]) -> str:
        output = next(outputs)
        code = f"```python\n{cell['code']}```"
        return (
            f"{code}\n\n```text{cell['kind'] or ''}\n{output.rstrip()}\n```"
            if output.strip()
            else code
        )

    return CELL.sub(cell_with_output, text)


def refresh(page: Path) -> None:
    from memsinks_np._internal.files import write_atomic

    with tempfile.TemporaryDirectory() as name:
        printed = run(page, Path(name))
        for figure in sorted(Path(name, "figures").iterdir()):
            write_atomic(HERE / "figures" / figure.name, figure.read_bytes())
    write_atomic(page, rewritten(page.read_text(encoding="utf-8"), printed))


def ladder() -> str:
    """The table of all pages: first figure, title, what you'll do (a page's first paragraph)."""
    rows = ["| | |", "|---|---|"]
    for page in pages():
        title, what, *_ = page.read_text(encoding="utf-8").split("\n\n")
        what = re.sub(
            r"^\*+what you.ll do[:.]?\*+[:.]?\s*", "", " ".join(what.split()), flags=re.IGNORECASE
        )
        image = IMAGE.search(page.read_text(encoding="utf-8"))
        alt = f"First figure of page {page.name[:2]}"
        picture = (
            f'[<img src="{image["path"]}" width="300" alt="{alt}">]({page.name})' if image else ""
        )
        rows.append(
            f"| {picture} | **[{title.removeprefix('# ')}]({page.name})**<br>{what[0].upper()}{what[1:]} |"
        )
    return "\n".join(rows)


def refresh_index(index: Path) -> None:
    """Write the ladder between its two marks."""
    from memsinks_np._internal.files import write_atomic

    above, mark, rest = index.read_text(encoding="utf-8").partition("<!-- ladder -->\n")
    below = rest[rest.index("\n<!-- /ladder -->") :]
    write_atomic(index, above + mark + ladder() + below)


def named(name: str) -> Path:
    """The page of a number (7 or 07) or of a path; ArgumentTypeError where there is none."""
    start = f"{int(name):02d}-" if name.isdecimal() else Path(name).name
    found = [page for page in pages() if start and page.name.startswith(start)]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(
            f"{name!r} is no page; choose from {', '.join(p.name[:2] for p in pages())}"
        )
    return found[0]


def main(argv: list[str] | None = None) -> None:
    about, examples = (__doc__ or "").split("\n\n", 1)
    p = argparse.ArgumentParser(
        prog="python tutorials/refresh.py",
        usage="%(prog)s [-h] [PAGE ...]",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "pages", nargs="*", type=named, metavar="PAGE", help="numbers of pages (default: all)"
    )
    (HERE / "figures").mkdir(exist_ok=True)
    for page in p.parse_args(argv).pages or pages():
        start = time.perf_counter()
        refresh(page)
        print(f"{page.name}  {time.perf_counter() - start:.1f} s")
    refresh_index(HERE / "index.md")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))  # this repository's package, installed or not
    main()
