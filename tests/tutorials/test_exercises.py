"""The graders accept what is right, refuse what is wrong, and never tell."""

import importlib
import inspect
import re

import numpy as np
import pytest

from tutorials.graders import (
    NOT_GIVEN,
    graded,
    page01,
    page02,
    page03,
    page05,
    page11,
    page12,
    verdict,
)

GRADERS = [
    grader
    for n in range(1, 13)
    for name, grader in vars(importlib.import_module(f"tutorials.graders.page{n:02d}")).items()
    if name.startswith("check_")
]


def right(line):
    return line.startswith("right: ")


def test_a_verdict_is_one_printed_line(capsys):
    assert verdict(True, "yes", "look again") == "right: yes"
    assert verdict(False, "yes", "look again") == "not yet: look again"
    assert capsys.readouterr().out == "right: yes\nnot yet: look again\n"


def one_line(said, out):
    return said.startswith("not yet: ") and out == said + "\n" and out.count("\n") == 1


@pytest.mark.parametrize("grader", GRADERS, ids=lambda grader: grader.__name__)
def test_slips_are_one_line_and_no_traceback(grader, capsys):
    n = sum(p.default is p.empty for p in inspect.signature(grader).parameters.values())
    assert grader(*[None] * n) == f"not yet: {NOT_GIVEN}"
    capsys.readouterr()
    slips = [
        "?",
        "2",
        [],
        [[1], [2, 3]],
        {},
        object(),
        1j,
        np.nan,
        np.ones((2, 3)),
        np.array([1, 2]),
        "x\ny",
    ]
    slips += [
        lambda *args: [],
        lambda *args: (1, None),
        lambda *args: args[0],
        lambda: 0,
        lambda *args: np.ones(7),
    ]
    for slip in slips:
        said = grader(*[slip] * n)
        assert one_line(said, capsys.readouterr().out)
        assert len(said) > 30
    assert one_line(grader(), capsys.readouterr().out)  # without its answer


FUNCTIONS = (
    "swish",
    "rmsnorm",
    "shared_keys",
    "causality_test",
    "tied_mlp",
    "erase_one",
    "share_lost",
)


@pytest.mark.parametrize(
    "grader", [g for g in GRADERS if g.__name__.removeprefix("check_") in FUNCTIONS]
)
def test_what_happens_in_a_readers_function_is_said(grader, capsys):
    assert "is the `return` missing?" in grader(lambda *args: None)

    def divides(*args):
        return 1 / 0

    line = divides.__code__.co_firstlineno + 1
    assert (
        grader(divides)
        == f"not yet: your function raised ZeroDivisionError in line {line}: division by zero"
    )

    def interrupted(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grader(interrupted)


def test_a_graders_own_name_and_words_stay():
    @graded
    def check_two(n: int) -> str:
        """The number after one.

        More.
        """
        return verdict(n + 0 == 2, "so it is", "count")

    assert check_two.__name__ == "check_two"
    assert right(check_two(2))
    assert check_two(3) == "not yet: count"
    assert check_two("two").startswith("not yet: TypeError: ")
    assert check_two("two").endswith("asked for is: The number after one.")


def test_slips_that_a_page_invites(capsys):
    assert "return one array each for x, g" in page02.check_rmsnorm(
        lambda xp, dy, cache: dy
    )  # dx only
    assert "another shape than x" in page01.check_swish(lambda xp, dy, cache: dy.sum())
    assert "another shape than g" in page02.check_rmsnorm(lambda xp, dy, cache: (0 * dy, 0 * dy))
    assert "asked for is: The loss of a perfect model" in page05.check_perfect_loss("2.08")
    assert page03.check_signs((1, -1)).startswith("not yet: give three signs")
    assert (
        page11.check_share_lost(lambda pool, ids, deleted: 0.5)
        == "not yet: return one share for each of `ids`"
    )


def test_page_01():
    assert right(page01.check_sleeper("same"))
    assert not right(page01.check_sleeper("up"))
    assert right(page01.check_blind([[1, 1, 1], [-2, -2, -2]]))
    for dp in (
        [[1, 1, 1], [1, 1, 1]],
        [[1, 2, 3], [4, 5, 6]],
        [[1, 1], [-2, -2]],
        [[1, -2], [1, -2], [1, -2]],
    ):
        assert not right(page01.check_blind(dp))

    def swish_backward(xp, dy, cache, second=1):
        x, sigma = cache
        return dy * (sigma + second * x * sigma * (1 - sigma))

    assert right(page01.check_swish(swish_backward))
    assert not right(
        page01.check_swish(lambda xp, dy, cache: swish_backward(xp, dy, cache, second=0))
    )
    assert not right(page01.check_swish(lambda xp, dy, cache: dy.sum()))


def test_page_02():
    assert right(page02.check_ones("zero"))
    assert not right(page02.check_ones("positive"))
    assert right(page02.check_scale(0.1))
    assert not right(page02.check_scale(1))

    def rmsnorm_backward(xp, dy, cache, mean=0):
        n, rstd, g = cache
        dn = dy * g
        dx = rstd * (
            dn - mean * dn.mean(axis=-1, keepdims=True) - n * (dn * n).mean(axis=-1, keepdims=True)
        )
        return dx, np.sum(dy * n, axis=(0, 1))

    assert right(page02.check_rmsnorm(rmsnorm_backward))
    wrong = page02.check_rmsnorm(lambda xp, dy, cache: rmsnorm_backward(xp, dy, cache, mean=1))
    assert wrong.startswith("not yet: dx differs")


def test_page_12():
    assert right(page12.check_doubled(1, 2))
    assert not right(page12.check_doubled(2, 2))
    assert right(page12.check_shared(0.5))
    for number in (3, 1, 1 / 64, 0, 0.51):
        line = page12.check_shared(number)
        assert not right(line)
        assert not re.search(r"0\.[45]|half|1/64", line)  # the answer, or nearly
    assert right(page12.check_half(45))
    assert not right(page12.check_half(44))
    assert not right(page12.check_half(46))
    assert right(page12.check_half(45.0))
    assert "whole number" in page12.check_half(44.5)
