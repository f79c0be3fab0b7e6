"""Every hand-written gradient has its references, and the checker itself is checked."""

import json

import numpy as np
import pytest

from memsinks_np import gradcheck
from memsinks_np.config import ConfigError
from memsinks_np.gradcheck import check
from memsinks_np.gradcheck import references as references
from memsinks_np.gradcheck.cases import Case, cases

CASES = {case.name: case for case in cases()}
PARTS = [name for name in CASES if not name.startswith("model")]


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


@pytest.mark.parametrize("name", CASES)
def test_checker_finds_an_error_of_a_hundredth_of_a_percent(name):
    found = check(broken(CASES[name], lambda g: [x * (1 + 1e-4) for x in g]), directions=1)
    assert not any(f.ok for f in found)


def test_checker_names_the_gradient_that_is_wrong():
    found = check(
        broken(CASES["mlp"], lambda g: [x * (1 + 1e-4 * (i == 2)) for i, x in enumerate(g)])
    )
    assert [f.input for f in found if not f.ok] == ["b_in"]


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
    square = Case(
        "square",
        lambda xp, x: (x * x, x),
        lambda xp, dy, x: 2 * x * dy,
        {"x": np.array([0.3, -1.7, 2.2])},
    )
    assert check(square)[0].ok
    assert not check(square._replace(backward=lambda xp, dy, x: x * dy))[0].ok


OWN = {
    "relu": (lambda xp, x: (xp.maximum(x, 0.0), x), lambda xp, dy, x: dy * (x > 0)),
    "square": (lambda xp, x: (xp.square(x), x), lambda xp, dy, x: 2 * x * dy),
    "sine": (lambda xp, x: (xp.sin(x), x), lambda xp, dy, x: dy * np.cos(x)),
    "power": (
        lambda xp, x: (xp.power(x, 2), x),
        lambda xp, dy, x: 2 * x * dy,
    ),  # a name that PyTorch has not
    "zero": (lambda xp, x: (0.0 * x, x), lambda xp, dy, x: 0.0 * x),
}


@pytest.mark.parametrize("name", OWN)
def test_checker_takes_what_a_reader_may_write(name):
    case = Case(name, *OWN[name], {"x": np.array([0.3, -1.7, 2.2])})
    assert check(case)[0].ok
    assert not check(broken(case, lambda g: [g[0] + 1e-3]))[0].ok


@pytest.mark.skipif(not references.torch_installed(), reason="needs PyTorch")
@pytest.mark.parametrize("name", CASES)
def test_pytorch_is_a_witness_of_every_pair_of_ours(name):
    assert all("pytorch" in found.errors for found in check(CASES[name], directions=1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda g: g[:1],
            "the backward of linear gave 1 gradients for 2 inputs; return one array each for x, W",
        ),
        (lambda g: [*g, 0], "a gradient of type int; return"),
        (lambda g: [g[0], None], "a gradient of type NoneType; return"),
    ],
)
def test_checker_says_what_a_backward_must_return(damage, message):
    with pytest.raises(ConfigError, match=message):
        check(broken(CASES["linear"], damage))


def test_every_witness_alone_finds_the_error():
    """None of the four only nods: each sees a gradient that is wrong by a hundredth of a percent."""
    found = check(broken(CASES["mlp"], lambda g: [x * 1.0001 for x in g]))
    assert {"autograd", "differences", "complex step"} <= set(found[0].errors)
    for f in found:
        assert all(
            1e-5 < error < 1e-3 for who, error in f.errors.items() if who in ("autograd", "pytorch")
        )
        assert all(error > 1e-7 for error in f.errors.values())


def test_complex_step_is_exact_where_differences_are_not():
    """d/dx exp(x)/sqrt(x) at 1.5, Squire and Trapp's example."""
    f = lambda xp, x: (xp.exp(x) / xp.sqrt(x), x)
    x, one = np.array([1.5]), np.array([1.0])
    want = np.exp(1.5) / np.sqrt(1.5) * (1 - 1 / 3)
    assert abs(references.complex_slope(f, [x], 0, one, one) / want - 1) < 1e-15
    assert 1e-13 < abs(references.central_slope(f, [x], 0, one, one) / want - 1) < 1e-8


@pytest.mark.parametrize("name", PARTS)
def test_float32_backward_is_that_of_float64(name):
    assert [f for f in check(CASES[name], dtype=np.float32) if not f.ok] == []


def test_command_reports_success_and_failure(capsys, monkeypatch):
    assert gradcheck.main(["--op", "linear"]) == 0
    assert "2 of 2 gradients agree" in capsys.readouterr().out
    assert gradcheck.main(["--op", "softmax", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["pair"] == "softmax"
    assert row["ok"]
    wrong = broken(CASES["linear"], lambda g: [g[0], -g[1]])
    monkeypatch.setattr(gradcheck, "cases", lambda seed: [CASES["gelu"], wrong])
    assert gradcheck.main([]) == 1
    assert "FAILS  linear: gradient of W" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--op dropout", "choose from linear"),
        ("--backend cupy", "cupy"),
        ("--seed -1", "--seed -1 is"),
    ],
)
def test_command_refuses_in_one_line(argv, message, capsys, monkeypatch):
    with pytest.raises(SystemExit) as e:
        gradcheck.main(argv.split())
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
