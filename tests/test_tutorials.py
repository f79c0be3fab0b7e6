"""The tutorials are true: every page runs and prints what it shows; its links, maths and frame are whole.

Pages follow one frame, in this order, each part opened by a heading or by words in bold or italics at the start of a
line: see FRAME.  The tests of the tester stand at the end.
"""

import itertools
import re
from math import log
from pathlib import Path

import matplotlib
import pytest

from memsinks_np.arms import PRESETS, rivals
from memsinks_np.language import stories
from memsinks_np.plots import STYLE
from tutorials import refresh

PAGES = refresh.pages()
ALL = [*PAGES, *(p for p in sorted(refresh.HERE.glob("*.md")) if p not in PAGES)]
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
WORDS = (850, 1600)  # 900 to 1,500, with a little tolerance

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
each_file = pytest.mark.parametrize("page", ALL, ids=lambda p: p.stem)


# Run


def same(got: str, want: str, absolute: float = ZERO) -> bool:
    """The same words; whole numbers equal, others to 1 % or to `absolute`, because processors round differently."""
    if NUMBER.sub("#", got).split() != NUMBER.sub("#", want).split():
        return False

    def close(a: str, b: str) -> bool:
        x, y = (float(n.replace("−", "-")) for n in (a, b))
        return x == (y if a.isdigit() and b.isdigit() else pytest.approx(y, rel=RELATIVE, abs=absolute))

    return all(map(close, NUMBER.findall(got), NUMBER.findall(want)))


def check_run(page: Path, folder: Path) -> None:
    """Run a page in `folder`: it prints what it shows, and draws the figures that it shows."""
    text = page.read_text(encoding="utf-8")
    for cell, printed in zip(refresh.CELL.finditer(text), refresh.run(page, folder), strict=True):
        shown = cell["shown"] or ""
        tolerance = NATS if (cell["kind"] or "").split() == ["nats"] else ZERO
        assert same(printed, shown, tolerance), (
            f"{page.name}:{line_of(text, cell.start('code'))} prints\n{printed}\nand the page shows\n{shown}"
        )
    shown = {image["path"] for image in refresh.IMAGE.finditer(text)}
    made = {f"figures/{figure.name}" for figure in (folder / "figures").iterdir()}
    assert shown == made, "figures shown, and figures made"
    missing = [name for name in shown if not (page.parent / name).exists()]
    assert not missing, "not committed: python tutorials/refresh.py"


@pytest.mark.slow
@each_page
def test_page_runs_and_prints_what_it_shows(page, tmp_path):
    check_run(page, tmp_path)


def test_the_cell_of_page_12_that_needs_pytorch_runs_where_it_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    (cell,) = [
        code
        for info, code in fences((refresh.HERE / "12-grow-it.md").read_text(encoding="utf-8"))
        if "import torch" in code
    ]
    monkeypatch.chdir(tmp_path)
    exec(cell, {})
    assert Path("tiny.safetensors").exists()


# Read


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
            headings = re.findall(r"^#+ (.*)$", outside_fences(goal.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name}: no heading {anchor} in {goal.name}"


def check_maths(text: str) -> None:
    """Fences close, braces and environments pair up, and what a code host would misread is not used."""
    plain = outside_fences(text)
    inline = re.findall(r"\$`(.*?)`\$", plain, re.DOTALL)
    for formula in [*inline, *(content for info, content in fences(text) if info == "math")]:
        braces = re.sub(r"\\[{}]", "", formula)
        assert braces.count("{") == braces.count("}"), formula
        assert re.findall(r"\\begin\{(\w+)", formula) == re.findall(r"\\end\{(\w+)", formula)[::-1], formula
        assert formula.count(r"\left") == formula.count(r"\right"), formula
        assert r"\operatorname" not in formula, formula
    rest = re.sub(r"`[^`\n]*`", "", re.sub(r"\$`.*?`\$", "", plain, flags=re.DOTALL))
    assert "$" not in rest, "inline maths is written $`x`$, display maths in a math fence"


def check_frame(text: str) -> None:
    """The parts of FRAME in their order, each opening a line."""
    opens = re.findall(r"^(?:#+ |\*\*|\*|_)(.*)$", outside_fences(text), re.MULTILINE)
    parts = iter([line.lower().replace("’", "'") for line in opens])
    for part in FRAME:
        assert any(line.startswith(part) for line in parts), f"no line opens {part!r}, or not in the frame's order"


@each_page
def test_page_has_the_frame(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:2]} ")
    check_frame(text)
    assert "<summary>Solution" in text


@each_page
def test_page_has_the_length_of_a_lesson(page):
    n = len(prose(page.read_text(encoding="utf-8")).split())
    assert WORDS[0] <= n <= WORDS[1], f"{n} words of prose"


@each_page
def test_page_ends_with_a_link_to_the_next(page):
    following = dict(itertools.pairwise([p.name for p in PAGES] + ["index.md"]))
    label, last = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))[-1]
    assert last == following[page.name]
    title = (refresh.HERE / last).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    assert label == ("all pages" if last == "index.md" else title)


@each_page
def test_every_output_stands_under_its_cell(page):
    text = page.read_text(encoding="utf-8")
    under = [cell for cell in refresh.CELL.finditer(text) if cell["shown"] is not None]
    outputs = [info for info, _ in fences(text) if info.split()[:1] == ["text"]]
    assert len(outputs) == len(under), "a text fence holds what the python fence directly above it prints"
    assert set(outputs) <= {"text", "text nats"}


@each_file
def test_links_lead_somewhere(page):
    check_links(page)


@each_file
def test_maths_is_whole(page):
    check_maths(page.read_text(encoding="utf-8"))


@each_file
def test_every_figure_is_told_in_words(page):
    for image in re.finditer(r"!\[([^\]]*)\]", page.read_text(encoding="utf-8")):
        assert len(image[1].split()) >= 6, f"alt text says what a figure shows: {image[1]!r}"


def test_the_index_shows_every_page():
    index = (refresh.HERE / "index.md").read_text(encoding="utf-8")
    assert refresh.ladder() in index, "python tutorials/refresh.py rewrites it"


def sizes_in_prose() -> dict[str, list[str]]:
    """What pages say of the models that they train, in their words, with the numbers of the preset."""
    preset = PRESETS["stories"]
    data, arms, n_layers = preset.settings.data, rivals(preset), preset.settings.n_layers
    R, B, words = data.n_repeated, data.batch_size, len(stories().vocab)
    again = round(B * data.repeat_share)
    between = R // again * B - 1  # stories until one returns
    pool, paper = arms["memsinks"].sinks, arms["memsinks_paper"].sinks
    G, S, A, width = arms["memsinks"].n_shared, f"{pool.n_sink:,}", pool.n_active, arms["standard"].n_shared
    strata = pool.n_sink // A
    blind = rf"among {words} words {{}} $`\ln {words} = {log(words):.1f}`$ nats"
    return {
        "05": [
            f"sees {R} stories again and again: in every batch of {B} stories, {again} are repeated ones",
            f"the same {B - again} new stories and none of the {R}",
            f"$`\\ln {data.n_heldout} = {log(data.n_heldout):.1f}`$",
        ],
        "06": [f"a model learnt {R} stories", f"the {n_layers * width} neurons of both layers", blind.format("loses")],
        "07": [blind.format("costs"), f"{A} of {S} sinks", f"we take {arms['gradient_masking'].n_shared / width:.0%}"],
        "08": [f"with {A} of {S} on, {strata - 1} of {strata} products", f"{A} strata of {strata} sinks"],
        "09": [
            f"| {width} neurons | never the {R} repeated stories |",
            f"| {G} shared neurons and a pool of {S}, of which a story's ID switches on {A} |",
            f"Some {between // 10 * 10} other stories pass",
            f"on for only one story in {strata}",
        ],
        "11": [
            f"the other {R - 1}",
            f"({A} of {S} sinks on)",
            f"(each of {paper.n_sink} sinks on with probability {paper.p})",
            f"$`S/A = {strata}`$",
        ],
        "12": [f"$`G = {G}`$, cost {G // A} times as much as its {A} sinks", f"(S = {S}, A = {A})"],
    }


@pytest.mark.parametrize(("number", "sentences"), sizes_in_prose().items())
def test_sizes_in_prose_are_those_of_the_preset(number, sentences):
    (page,) = [p for p in PAGES if p.name.startswith(number)]
    text = " ".join(page.read_text(encoding="utf-8").split()).replace("70 %", "70%")
    text = text.replace("cost four times", "cost 4 times")
    assert [said for said in sentences if said not in text] == []


def test_figures_have_the_style_of_the_package():
    style = matplotlib.rc_params_from_file(refresh.HERE / "matplotlibrc", use_default_template=False)
    assert {name: style[name] for name in STYLE} == STYLE


# Test the tester

GOOD = """# 00 Two and two

```python
import matplotlib.pyplot as plt
print("sum", 2 + 2, "half", 0.5)
```

```text
sum 4 half 0.5
```

```python
plt.plot([1, 2])
plt.savefig("figures/00-line.svg")
```

![A line that goes up](figures/00-line.svg)
"""


def page_of(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "00-two.md"
    page.write_text(text, encoding="utf-8")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "00-line.svg").touch()
    (tmp_path / "run").mkdir()
    return page


def test_a_good_page_passes_and_stays_as_it_is(tmp_path):
    page = page_of(tmp_path, GOOD)
    check_run(page, tmp_path / "run")
    (tmp_path / "again").mkdir()
    assert refresh.rewritten(GOOD, refresh.run(page, tmp_path / "again")) == GOOD
    first, second = (tmp_path / folder / "figures" / "00-line.svg" for folder in ("run", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("4 half", "5 half"),  # a wrong whole number
        ("half 0.5\n", "half 0.51\n"),  # a wrong number
        ("sum 4", "Sum 4"),  # a wrong word
        ("sum 4 half 0.5\n", ""),  # an output that is not shown
        ("\n```text\nsum 4 half 0.5\n```\n", ""),
        ('print("sum", 2 + 2, "half", 0.5)', "pass"),  # a cell that no longer prints
        ("![A line that goes up](figures/00-line.svg)", ""),  # a figure made but not shown
        ('plt.savefig("figures/00-line.svg")', ""),  # shown but not made
        ("00-line.svg", "00-other.svg"),  # shown and made, but not committed
    ],
)
def test_a_page_that_lies_turns_red(tmp_path, good, bad):
    assert good in GOOD
    with pytest.raises(AssertionError):
        check_run(page_of(tmp_path, GOOD.replace(good, bad)), tmp_path / "run")


def test_a_traceback_points_into_the_page(tmp_path):
    page = page_of(tmp_path, GOOD.replace("plt.plot([1, 2])", "1 / 0"))
    with pytest.raises(ZeroDivisionError) as error:
        check_run(page, tmp_path / "run")
    assert (str(error.traceback[-1].path), error.traceback[-1].lineno + 1) == (str(page), 13)


def test_a_warning_is_an_error(tmp_path):
    page = page_of(tmp_path, "```python\nimport numpy as np\nnp.float64(1) / np.float64(0)\n```\n")
    with pytest.raises(RuntimeWarning):
        check_run(page, tmp_path / "run")


def test_numbers_may_differ_by_their_tolerance_alone():
    assert same("loss 0.930", "loss 0.926")
    assert not same("loss 0.946", "loss 0.926")
    assert same("loss 0.940", "loss 0.926", NATS)
    assert not same("loss 0.950", "loss 0.926", NATS)
    assert same("error 3e-16", "error 1.2e-15")
    assert not same("528,001 parameters", "528,000 parameters")


def test_refreshing_writes_what_a_cell_prints_and_keeps_the_kind():
    text = "```python\nprint(1)\n```\n\n```text nats\n2\n```\n\n```python\nprint(3)\n```\n"
    want = "```python\nprint(1)\n```\n\n```text nats\n1\n```\n\n```python\nprint(3)\n```\n\n```text\n3\n```\n"
    assert refresh.rewritten(text, ["1\n", "3\n"]) == want


@pytest.mark.parametrize(
    "text",
    ["```math\nx\n", "```math\n\\frac{1}{2\n```", "$`\\left(x`$", "$x$", "$$x$$", "```math\n\\operatorname{x}\n```"],
)
def test_broken_maths_turns_red(text):
    check_maths("costs `$HOME`, $`x_{1}`$\n\n```math\n\\begin{aligned} x \\end{aligned}\n```\n")
    with pytest.raises(AssertionError):
        check_maths(text)


def test_a_link_to_nowhere_turns_red(tmp_path):
    page = page_of(tmp_path, "# A `b` c!\n[here](#a-b-c) [there](00-two.md#a-b-c) [out](https://example.org)\n")
    check_links(page)
    for broken in ("[x](no.md)", "[x](#nowhere)", "[x](00-two.md#nowhere)"):
        page.write_text(broken, encoding="utf-8")
        with pytest.raises(AssertionError):
            check_links(page)


def test_a_missing_part_turns_red():
    whole = "".join(f"## {part.capitalize()}\n\n" for part in FRAME)
    check_frame(whole)
    check_frame(whole.replace("## What you'll do", "**What you’ll do.** Look"))
    for part in FRAME:
        with pytest.raises(AssertionError):
            check_frame(whole.replace(part.capitalize(), ""))
