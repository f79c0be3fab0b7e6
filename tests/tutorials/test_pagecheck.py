"""The page checks fail for a wrong page, and for no other."""

from pathlib import Path

import pytest

from pagecheck import (
    FRAME,
    RELATIVE,
    check_frame,
    check_links,
    check_maths,
    check_run,
    same,
    share_of,
)
from tutorials import refresh

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


def write_page(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "00-two.md"
    page.write_text(text, encoding="utf-8")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "00-line.svg").touch()
    (tmp_path / "run").mkdir()
    return page


def test_good_page_passes_and_refresh_keeps_it(tmp_path):
    page = write_page(tmp_path, GOOD)
    check_run(page, tmp_path / "run")
    (tmp_path / "again").mkdir()
    assert refresh.with_outputs(GOOD, refresh.run(page, tmp_path / "again")) == GOOD
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
def test_wrong_page_fails(tmp_path, good, bad):
    assert good in GOOD
    with pytest.raises(AssertionError):
        check_run(write_page(tmp_path, GOOD.replace(good, bad)), tmp_path / "run")


def test_traceback_points_into_the_page(tmp_path):
    page = write_page(tmp_path, GOOD.replace("plt.plot([1, 2])", "1 / 0"))
    with pytest.raises(ZeroDivisionError) as error:
        check_run(page, tmp_path / "run")
    assert (str(error.traceback[-1].path), error.traceback[-1].lineno + 1) == (str(page), 13)


def test_warning_is_an_error(tmp_path):
    page = write_page(
        tmp_path, "```python\nimport numpy as np\nnp.float64(1) / np.float64(0)\n```\n"
    )
    with pytest.raises(RuntimeWarning):
        check_run(page, tmp_path / "run")


@pytest.mark.parametrize(
    ("got", "want", "losses", "equal"),
    [
        ("loss 0.930", "loss 0.926", None, True),
        ("loss 0.946", "loss 0.926", None, False),
        ("loss 0.940", "loss 0.926", RELATIVE, True),
        ("loss 0.950", "loss 0.926", RELATIVE, False),
        ("loss 1.3", "loss 1.2", RELATIVE, True),  # 1.25 and 1.24, perhaps
        ("loss 1.4", "loss 1.2", RELATIVE, False),
        ("worse than guessing 5.7", "worse than guessing 6.1", RELATIVE, True),
        ("worse than guessing 5.2", "worse than guessing 6.1", RELATIVE, False),
        ("loss 4.2", "loss 4.5", RELATIVE, False),
        ("layer -5", "layer -6", RELATIVE, False),
        ("layer −5", "layer −6", None, False),
        ("loss 3.2e-1", "loss 2.8e-1", RELATIVE, False),
        ("a cut model 1.70", "a cut model 1.58", 0.15, True),
        ("a cut model 1.90", "a cut model 1.58", 0.15, False),
        ("error 3e-16", "error 1.2e-15", None, True),
        ("528,001 parameters", "528,000 parameters", None, False),
    ],
)
def test_numbers_may_differ_by_their_tolerance(got, want, losses, equal):
    assert same(got, want, losses) == equal


def test_refresh_writes_outputs_and_keeps_their_kind():
    text = "```python\nprint(1)\n```\n\n```text nats\n2\n```\n\n```python\nprint(3)\n```\n"
    want = text.replace("2", "1") + "\n```text\n3\n```\n"
    assert refresh.with_outputs(text, ["1\n", "3\n"]) == want


@pytest.mark.parametrize(
    "text",
    [
        "```math\nx\n",
        "```math\n\\frac{1}{2\n```",
        "$`\\left(x`$",
        "$x$",
        "$$x$$",
        "```math\n\\operatorname{x}\n```",
    ],
)
def test_broken_maths_fails(text):
    check_maths("costs `$HOME`, $`x_{1}`$\n\n```math\n\\begin{aligned} x \\end{aligned}\n```\n")
    with pytest.raises(AssertionError):
        check_maths(text)


def test_broken_link_fails(tmp_path):
    page = write_page(
        tmp_path, "# A `b` c!\n[here](#a-b-c) [there](00-two.md#a-b-c) [out](https://example.org)\n"
    )
    check_links(page)
    for broken in ("[x](no.md)", "[x](#nowhere)", "[x](00-two.md#nowhere)"):
        page.write_text(broken, encoding="utf-8")
        with pytest.raises(AssertionError):
            check_links(page)


def test_missing_part_fails():
    whole = "".join(f"## {part.capitalize()}\n\n" for part in FRAME)
    check_frame(whole)
    check_frame(whole.replace("## What you'll do", "**What you’ll do.** Look"))
    for part in FRAME:
        with pytest.raises(AssertionError):
            check_frame(whole.replace(part.capitalize(), ""))


def test_fence_kind_sets_the_tolerance_of_losses():
    kinds = [None, "", " nats", " nats 15%", " python"]
    assert [share_of(kind) for kind in kinds] == [None, None, RELATIVE, 0.15, None]


@pytest.mark.parametrize("name", ["7", "07", "07-the-mirage.md", "tutorials/07-the-mirage.md"])
def test_page_is_found_by_number_or_path(name):
    assert refresh.page_named(name).name == "07-the-mirage.md"


@pytest.mark.parametrize("name", ["99", "0", "nosuch", "", "1-"])
def test_unknown_page_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as e:
        refresh.main([name])
    assert e.value.code == 2
    assert f"{name!r} is no page; choose from 01, 02, 03" in capsys.readouterr().err
