"""A page is run as a reader would; the checks of pagecheck.py fail for a wrong page."""

import pytest

from pagecheck import FRAME, RELATIVE, check_frame, check_links, check_maths, check_run, same
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


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a page; its figure is committed."""
    for folder in ("figures", "run", "again"):
        (tmp_path / folder).mkdir()
    (tmp_path / "figures" / "00-line.svg").touch()
    page = tmp_path / "00-two.md"
    return lambda text: page.write_text(text, encoding="utf-8") and page


def test_good_page_passes_and_refresh_keeps_it(write, tmp_path):
    page = write(GOOD)
    check_run(page, tmp_path / "run")
    assert refresh.with_outputs(GOOD, refresh.run(page, tmp_path / "again")) == GOOD
    first, second = (tmp_path / folder / "figures" / "00-line.svg" for folder in ("run", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("half 0.5\n", "half 0.51\n"),
        ("sum 4 half 0.5\n", ""),  # an output that is not shown
        ('print("sum", 2 + 2, "half", 0.5)', "pass"),  # a cell that no longer prints
        ("![A line that goes up](figures/00-line.svg)", ""),  # a figure made but not shown
        ('plt.savefig("figures/00-line.svg")', ""),  # shown but not made
        ("00-line.svg", "00-other.svg"),  # shown and made, but not committed
    ],
)
def test_wrong_page_fails(write, tmp_path, good, bad):
    assert good in GOOD
    with pytest.raises(AssertionError):
        check_run(write(GOOD.replace(good, bad)), tmp_path / "run")


def test_traceback_points_into_the_page_also_of_a_warning(write, tmp_path):
    for folder, code, kind in (
        ("run", "1 / 0", ZeroDivisionError),
        ("again", "import warnings; warnings.warn('look')", UserWarning),
    ):
        page = write(GOOD.replace("plt.plot([1, 2])", code))
        with pytest.raises(kind) as error:
            check_run(page, tmp_path / folder)
        (at,) = [entry.lineno + 1 for entry in error.traceback if str(entry.path) == str(page)]
        assert at == 13


def test_refresh_writes_outputs_and_keeps_their_kind():
    text = "```python\nprint(1)\n```\n\n```text nats\n2\n```\n\n```python\nprint(3)\n```\n"
    want = text.replace("2", "1") + "\n```text\n3\n```\n"
    assert refresh.with_outputs(text, ["1\n", "3\n"]) == want


@pytest.mark.parametrize("name", ["8", "08", "08-the-mirage.md", "tutorials/08-the-mirage.md"])
def test_page_is_found_by_number_or_path(name):
    assert refresh.page_named(name).name == "08-the-mirage.md"


@pytest.mark.parametrize("name", ["99", "nosuch", "", "1-"])
def test_unknown_page_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as e:
        refresh.main([name])
    assert e.value.code == 2
    assert f"{name!r} is not a page; choose from 00, 01, 02" in capsys.readouterr().err


def test_numbers_may_differ_by_their_tolerance():
    for got, losses, equal in (
        ("1 a 0.930", None, True),
        ("1 a 0.946", None, False),
        ("1 b 0.926", None, False),
        ("2 a 0.926", RELATIVE, False),
        ("1 a 0.940", RELATIVE, True),
        ("1 a 0.960", RELATIVE, False),
    ):
        assert same(got, "1 a 0.926", losses) == equal


def test_broken_links_maths_and_frames_fail(write):
    page = write("# A `b` c!\n[here](#a-b-c) [there](00-two.md#a-b-c) [out](https://a.org)\n")
    check_links(page)
    check_maths("costs `$HOME`, $`x_{1}`$\n\n```math\n\\begin{aligned} x \\end{aligned}\n```\n")
    whole = "".join(f"## {part.capitalize()}\n\n" for part in FRAME)
    check_frame(whole)
    for broken in ("[x](no.md)", "[x](#nowhere)", "[x](00-two.md#nowhere)"):
        with pytest.raises(AssertionError):
            check_links(write(broken))
    for broken in ("```math\nx\n", "```math\n\\frac{1}{2\n```", "$`\\left(x`$", "$x$"):
        with pytest.raises(AssertionError):
            check_maths(broken)
    with pytest.raises(AssertionError):
        check_frame(whole.replace("Exercises", ""))
