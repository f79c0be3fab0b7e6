"""Check a tutorial page: it prints what it shows; its links, maths and parts are complete.

All pages have the parts of FRAME, in this order; each begins with a heading, or with words in bold
or italics at the start of a line. Checks raise AssertionError; test_refresh.py tests them.
"""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from tutorials import refresh

FRAME = (
    "what you'll do",
    "what you'll learn",
    "what you'll need",
    "checkpoint",
    "exercises",
    "in practice",
    "further reading",
)
NUMBER = re.compile(r"[-+−]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")
NATS, RELATIVE, ZERO = 0.02, 0.01, 1e-6  # how far printed numbers may differ between processors
GUESSING, BROKEN = 4.6, 0.1  # nats, relative: losses worse than guessing differ more


def same(got: str, want: str, losses: float | None = None) -> bool:
    """Return whether words and integers are equal, and other numbers within 1 %.

    Where numbers are losses, they may differ by the fraction `losses` or by NATS, plus one in the
    last digit, which was rounded; a loss worse than guessing among 100 words by BROKEN.
    """
    if NUMBER.sub("#", got).split() != NUMBER.sub("#", want).split():
        return False

    def close(a: str, b: str) -> bool:
        x, y = (float(n.replace("−", "-")) for n in (a, b))
        if not set(".e") & set(a + b):
            return x == y
        if losses is None:
            return x == pytest.approx(y, rel=RELATIVE, abs=ZERO)
        digit = 10.0 ** int(Decimal(b.replace("−", "-")).as_tuple().exponent)
        return x == pytest.approx(
            y, rel=max(losses, BROKEN) if y > GUESSING else losses, abs=NATS + digit
        )

    return all(map(close, NUMBER.findall(got), NUMBER.findall(want)))


def share_of(kind: str | None) -> float | None:
    """Return how far losses may differ in a fence: 1 % for "nats", or as in "nats 15%"."""
    unit, *more = (kind or "").split() or [""]
    if unit != "nats":
        return None
    return int(more[0].removesuffix("%")) / 100 if more else RELATIVE


def check_run(page: Path, folder: Path) -> None:
    """Run a page in `folder`: it prints and draws what it shows."""
    text = page.read_text(encoding="utf-8")
    for cell, printed in zip(refresh.CELL.finditer(text), refresh.run(page, folder), strict=True):
        shown = cell["shown"] or ""
        assert same(printed, shown, share_of(cell["kind"])), (
            f"{page.name}:{text.count(chr(10), 0, cell.start('code')) + 1} prints\n{printed}\n"
            f"and the page shows\n{shown}"
        )
    shown = {image["path"] for image in refresh.IMAGE.finditer(text)}
    made = {f"figures/{figure.name}" for figure in (folder / "figures").iterdir()}
    assert shown == made, "figures shown and figures made differ"
    missing = [name for name in shown if not (page.parent / name).exists()]
    assert not missing, "not committed: python tutorials/refresh.py"


def fences(text: str) -> list[tuple[str, str]]:
    """Return (info string, content) of every fence. Raises AssertionError for one left open."""
    found, opened, content = [], None, []
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"```+", line)
        if opened is None and mark:
            opened, info, content = number, line[len(mark[0]) :].strip(), []
        elif opened and line.rstrip() == "```":
            found.append((info, "\n".join(content)))
            opened = None
        else:
            content.append(line)
    assert opened is None, f"the fence of line {opened} does not close"
    return found


def outside_fences(text: str) -> str:
    return re.sub(r"^```.*?^```\s*$", "", text, flags=re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Return the sentences of a page, without code, maths, figures and folded solutions."""
    text = re.sub(r"<details>.*?</details>", "", outside_fences(text), flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|\$`.*?`\$|<[^>]+>", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")


def check_links(page: Path) -> None:
    text = outside_fences(page.read_text(encoding="utf-8"))
    for target in re.findall(
        r"(?<=\]\()[^)\s]+(?=\))|(?<=src=\")[^\"]+|(?<=srcset=\")[^\"]+", text
    ):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        goal = page.parent / path if path else page
        assert goal.exists(), f"{page.name}: the link {target} is broken"
        if anchor:
            headings = re.findall(
                r"^#+ (.*)$", outside_fences(goal.read_text(encoding="utf-8")), re.MULTILINE
            )
            assert anchor in map(slug, headings), f"{page.name}: no heading {anchor} in {goal.name}"


def check_maths(text: str) -> None:
    """Fences close, braces and environments pair up, and GitHub can render the maths."""
    plain = outside_fences(text)
    inline = re.findall(r"\$`(.*?)`\$", plain, re.DOTALL)
    for formula in [*inline, *(content for info, content in fences(text) if info == "math")]:
        braces = re.sub(r"\\[{}]", "", formula)
        assert braces.count("{") == braces.count("}"), formula
        assert (
            re.findall(r"\\begin\{(\w+)", formula) == re.findall(r"\\end\{(\w+)", formula)[::-1]
        ), formula
        assert formula.count(r"\left") == formula.count(r"\right"), formula
        assert r"\operatorname" not in formula, formula
    rest = re.sub(r"`[^`\n]*`", "", re.sub(r"\$`.*?`\$", "", plain, flags=re.DOTALL))
    assert "$" not in rest, "inline maths is written $`x`$, display maths in a math fence"


def check_frame(text: str) -> None:
    """The parts of FRAME are there in order, each at the start of a line."""
    opens = re.findall(r"^(?:#+ |\*\*|\*|_)(.*)$", outside_fences(text), re.MULTILINE)
    parts = iter([line.lower().replace("’", "'") for line in opens])
    for part in FRAME:
        assert any(line.startswith(part) for line in parts), (
            f"no line opens {part!r}, or not in the frame's order"
        )
