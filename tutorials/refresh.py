"""Run tutorial pages, redraw their figures, and rewrite their outputs and the index's table.

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

os.environ["MPLBACKEND"] = "agg"
import matplotlib
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
# a ```python fence, and directly under it the ```text fence of its output (```text nats: losses)
CELL = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\s*^```text(?P<kind>[^\n]*)\n(?P<shown>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>figures/[^)]+)\)")


def pages() -> list[Path]:
    """Return the numbered pages in their order."""
    return sorted(HERE.glob("[0-9]*.md"))


def run(page: Path, folder: Path) -> list[str]:
    """Run a page's cells in one scope; return what each prints. Figures go to `folder`/figures.

    The cells keep the page's line numbers, so that a traceback points into the page. Warnings are
    errors. BLAS has one thread: faster on small models, and the same rounding on every machine.
    Trained models come from MEMSINKS_CACHE, by default runs/cache of this repository.
    """
    from memsinks_np._internal.blas import one_blas_thread  # once main has set the path

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
        plt.close("all")  # a cell must not draw into an older figure
        for cell in CELL.finditer(text):
            above = "\n" * text.count("\n", 0, cell.start("code"))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(above + cell["code"], str(page), "exec"), scope)
            printed.append(out.getvalue())
        plt.close("all")
    return printed


def with_outputs(text: str, printed: list[str]) -> str:
    """Return the page with a text fence under each cell that printed something, and no other."""
    outputs = iter(printed)

    def cell_with_output(cell: re.Match[str]) -> str:
        code, output = f"```python\n{cell['code']}```", next(outputs).rstrip()
        return f"{code}\n\n```text{cell['kind'] or ''}\n{output}\n```" if output.strip() else code

    return CELL.sub(cell_with_output, text)


def refresh(page: Path) -> None:
    """Run a page, then write its figures and its outputs."""
    from memsinks_np._internal.files import write_atomic

    with tempfile.TemporaryDirectory() as name:
        printed = run(page, Path(name))
        for figure in sorted(Path(name, "figures").iterdir()):
            write_atomic(HERE / "figures" / figure.name, figure.read_bytes())
    write_atomic(page, with_outputs(page.read_text(encoding="utf-8"), printed))


def table_of_pages() -> str:
    """Return the table of pages: first figure, title, and "what you'll do" (first paragraph)."""
    rows = ["| | |", "|---|---|"]
    for page in pages():
        text = page.read_text(encoding="utf-8")
        title, what, *_ = text.split("\n\n")
        what = " ".join(what.split()).removeprefix("*What you'll do:* ")
        picture = ""
        if image := IMAGE.search(text):
            alt = title.removeprefix("# ").replace('"', "")  # the image is a link: where it leads
            thumbnail = f'<img src="{image["path"]}" width="300" alt="{alt}">'
            picture = f"[{thumbnail}]({page.name})"
        link = f"**[{title.removeprefix('# ')}]({page.name})**"
        rows.append(f"| {picture} | {link}<br>{what[0].upper()}{what[1:]} |")
    return "\n".join(rows)


def refresh_index(index: Path) -> None:
    """Write the table of pages between its two marks."""
    from memsinks_np._internal.files import write_atomic

    above, mark, rest = index.read_text(encoding="utf-8").partition("<!-- pages -->\n")
    below = rest[rest.index("\n<!-- /pages -->") :]
    write_atomic(index, above + mark + table_of_pages() + below)


def page_named(name: str) -> Path:
    """Return the page with a number (7 or 07) or a path. ArgumentTypeError if there is none."""
    start = f"{int(name):02d}-" if name.isdecimal() else Path(name).name
    matching = [page for page in pages() if start and page.name.startswith(start)]
    if len(matching) != 1:
        numbers = ", ".join(p.name[:2] for p in pages())
        raise argparse.ArgumentTypeError(f"{name!r} is not a page; choose from {numbers}")
    return matching[0]


def main(argv: list[str] | None = None) -> None:
    """Refresh the given pages, or all."""
    about, _, examples = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python tutorials/refresh.py",
        usage="%(prog)s [-h] [PAGE ...]",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "numbers of pages (default: all)"
    p.add_argument("pages", nargs="*", type=page_named, metavar="PAGE", help=what)
    (HERE / "figures").mkdir(exist_ok=True)
    for page in p.parse_args(argv).pages or pages():
        start = time.perf_counter()
        refresh(page)
        print(f"{page.name}  {time.perf_counter() - start:.1f} s")
    refresh_index(HERE / "index.md")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))  # this repository's package, installed or not
    from memsinks_np._internal.command import run_command

    run_command("refresh.py", main)
