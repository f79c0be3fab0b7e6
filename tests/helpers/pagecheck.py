"""What must be true of a page: it prints what it shows; its links, maths and frame are whole.

Pages follow one frame, in this order, each part opened by a heading or by words in bold or italics at the start of a
line: see FRAME.  Every check is an AssertionError where it fails; test_pagecheck.py tests the tester.
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
NATS, RELATIVE, ZERO = 0.02, 0.01, 1e-6  # what another processor may change in a printed number
GUESSING, BROKEN = (
    4.6,
    0.1,
)  # nats: a model that is worse than guessing is so by chance, which a processor changes more


def same(got: str, want: str, losses: float | None = None) -> bool:
    """The same words; whole numbers equal, others to 1 %, because processors round differently.

    Where numbers are losses, to that share or to NATS, and to one in the last digit, since they were rounded to be
    printed; a loss that is worse than guessing among 100 words to BROKEN.
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
    """How far losses may be off in a fence of that kind: 1 % for "nats", or as in "nats 15%" for a model that limps."""
    unit, *more = (kind or "").split() or [""]
    if unit != "nats":
        return None
    return int(more[0].removesuffix("%")) / 100 if more else RELATIVE


def check_run(page: Path, folder: Path) -> None:
    """Run a page in `folder`: it prints what it shows, and draws the figures that it shows."""
    text = page.read_text(encoding="utf-8")
    for cell, printed in zip(refresh.CELL.finditer(text), refresh.run(page, folder), strict=True):
        shown = cell["shown"] or ""
        assert same(printed, shown, share_of(cell["kind"])), (
            f"{page.name}:{line_of(text, cell.start('code'))} prints\n{printed}\nand the page shows\n{shown}"
        )
    shown = {image["path"] for image in refresh.IMAGE.finditer(text)}
    made = {f"figures/{figure.name}" for figure in (folder / "figures").iterdir()}
    assert shown == made, "figures shown, and figures made"
    missing = [name for name in shown if not (page.parent / name).exists()]
    assert not missing, "not committed: python tutorials/refresh.py"


def line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def fences(text: str) -> list[tuple[str, str]]:
    """(info string, content) of every fence; a fence that does not close is an AssertionError."""
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
    """What is read as sentences: no code, no maths, no figures, no folded solutions."""
    text = re.sub(r"<details>.*?</details>", "", outside_fences(text), flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|\$`.*?`\$|<[^>]+>", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def slug(heading: str) -> str:
    """The anchor that a code host gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")


def check_links(page: Path) -> None:
    text = outside_fences(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        goal = page.parent / path if path else page
        assert goal.exists(), f"{page.name}: the link {target} leads nowhere"
        if anchor:
            headings = re.findall(
                r"^#+ (.*)$", outside_fences(goal.read_text(encoding="utf-8")), re.MULTILINE
            )
            assert anchor in map(slug, headings), f"{page.name}: no heading {anchor} in {goal.name}"


def check_maths(text: str) -> None:
    """Fences close, braces and environments pair up, and what a code host would misread is not used."""
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
    """The parts of FRAME in their order, each opening a line."""
    opens = re.findall(r"^(?:#+ |\*\*|\*|_)(.*)$", outside_fences(text), re.MULTILINE)
    parts = iter([line.lower().replace("’", "'") for line in opens])
    for part in FRAME:
        assert any(line.startswith(part) for line in parts), (
            f"no line opens {part!r}, or not in the frame's order"
        )
