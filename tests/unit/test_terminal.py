"""Text for a terminal: lines and tables of 80 columns that lose nothing, bold where it is shown."""

import io

import numpy as np
import pytest

from memsinks_np._internal import terminal
from memsinks_np._internal.tables import table

WORDS = "an interval such as 0.926 [0.918, 0.934] stays, whole-words too"


def test_lines_break_between_words_and_never_in_an_interval():
    for n in range(60):
        text = n * "x" + " " + WORDS + 3 * f", {WORDS}"
        lines = terminal.wrap(text, "first: ", "  ").split("\n")
        assert max(map(len, lines)) <= 80
        assert lines[0].startswith("first: ")
        assert all(line.startswith("  ") and line[2] != " " for line in lines[1:])
        assert " ".join(lines).split() == ["first:", *text.split()]
        assert "\n".join(lines).count("0.926 [0.918, 0.934]") == 4


def cells(markdown):
    """Return the columns of a table, each a list of cells."""
    lines = [line.strip("|").split("|") for line in markdown.split("\n")]
    return [list(column) for column in zip(*lines, strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_a_wide_table_becomes_tables_that_fit(seed):
    rng = np.random.default_rng(seed)
    rows = [["x" * rng.integers(1, 25) for _ in range(8)] for _ in range(4)]
    wide = table(rows[0], rows[1:])
    parts = [cells(part) for part in terminal.fit_tables(wide).split("\n\n")]
    assert all(part[0] == cells(wide)[0] for part in parts)
    assert [column for part in parts for column in part[1:]] == cells(wide)[1:]
    assert all(len(part) > 1 for part in parts)
    assert max(map(len, terminal.fit_tables(wide).split("\n"))) <= 80
    assert terminal.fit_tables(terminal.fit_tables(wide)) == terminal.fit_tables(wide)


def test_parts_are_few_and_about_equally_wide():
    wide = table(["method", *["x" * 12] * 8], [["a"] * 9])
    parts = terminal.fit_tables(f"{wide}\n\n{wide}").split("\n\n")
    assert [len(cells(part)) for part in parts] == [5, 5, 5, 5]
    assert terminal.fit_tables(parts[0]) == parts[0]


@pytest.mark.parametrize(
    ("isatty", "env", "bold"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
    ],
)
def test_text_is_bold_only_where_it_is_shown_and_wanted(isatty, env, bold, monkeypatch):
    output = io.StringIO()
    output.isatty = lambda: isatty
    monkeypatch.setattr("sys.stdout", output)
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert terminal.styled("word", terminal.BOLD) == ("\x1b[1mword\x1b[0m" if bold else "word")
