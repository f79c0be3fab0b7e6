"""Every hand-written gradient has its witnesses, and the checker itself is checked."""

import numpy as np
import pytest

from memsinks_np import gradcheck
from memsinks_np.gradcheck import Case, cases, check

CASES = {case.name: case for case in cases()}
PARTS = [name for name in CASES if not name.startswith("model")]


def outputs(case):
    return list(range(len(case.inputs)))


def broken(case, damage):
    """The same case with a backward whose list of gradients went through `damage`."""

    def backward(xp, dy, cache):
        got = case.backward(xp, dy, cache)
        return damage(list(got) if isinstance(got, tuple | list) else [got])

    return case._replace(backward=backward)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_both_witnesses(name, seed):
    case = {c.name: c for c in cases(seed)}[name]
    assert [found for found in check(case, seed) if not found.ok] == []


@pytest.mark.parametrize(("name", "i"), [(n, i) for n in CASES for i in outputs(CASES[n])])
def test_checker_finds_an_error_of_a_hundredth_of_a_percent(name, i):
    found = check(broken(CASES[name], lambda g: [x * (1 + 1e-4 * (j == i)) for j, x in enumerate(g)]), directions=1)
    assert [f.ok for f in found] == [j != i for j in range(len(found))]


@pytest.mark.parametrize("name", PARTS)
def test_checker_finds_zeros(name):
    found = check(broken(CASES[name], lambda g: [np.zeros_like(x) for x in g]))
    assert not any(f.ok for f in found)


def test_checker_finds_two_gradients_swapped():
    swapped = check(broken(CASES["attention"], lambda g: [g[1], g[0], g[2]]))
    assert [f.ok for f in swapped] == [False, False, True]


def test_checker_finds_a_wrong_shape_and_a_nan():
    assert not check(broken(CASES["linear"], lambda g: [g[0], g[1].T]))[1].ok
    assert not check(broken(CASES["gelu"], lambda g: [g[0] * np.nan]))[0].ok


def test_checker_takes_a_readers_own_pair():
    square = Case("square", lambda xp, x: (x * x, x), lambda xp, dy, x: 2 * x * dy, {"x": np.array([0.3, -1.7, 2.2])})
    assert check(square)[0].ok
    assert not check(square._replace(backward=lambda xp, dy, x: x * dy))[0].ok


def test_command_reports_success_and_failure(capsys, monkeypatch):
    assert gradcheck.main([]) == 0
    assert "agree" in capsys.readouterr().out
    wrong = broken(CASES["linear"], lambda g: [g[0], -g[1]])
    monkeypatch.setattr(gradcheck, "cases", lambda seed: [CASES["gelu"], wrong])
    assert gradcheck.main([]) == 1
    assert "FAILS  linear: gradient of W" in capsys.readouterr().out
