"""Every hand-written gradient agrees with its references, and the checker finds wrong ones."""

import json

import numpy as np
import pytest

from memsinks_np.config import ConfigError
from memsinks_np.gradcheck import Case, __main__, check, references
from memsinks_np.gradcheck.cases import cases

CASES = {case.name: case for case in cases()}
OPS = [name for name in CASES if not name.startswith("model")]
X = {"x": np.array([0.3, -1.7, 2.2])}
OWN = {  # ops that a user might write
    "square": (lambda xp, x: (x * x, x), lambda xp, dy, x: 2 * x * dy),
    "relu": (lambda xp, x: (xp.maximum(x, 0.0), x), lambda xp, dy, x: dy * (x > 0)),
    "sine": (lambda xp, x: (xp.sin(x), x), lambda xp, dy, x: dy * np.cos(x)),
    "power": (lambda xp, x: (xp.power(x, 2), x), lambda xp, dy, x: 2 * x * dy),  # not in PyTorch
    "zero": (lambda xp, x: (0.0 * x, x), lambda xp, dy, x: 0.0 * x),
}


def broken(case, damage):
    """Return a case whose backward returns damage(list of gradients)."""

    def backward(xp, dy, cache):
        grads = case.backward(xp, dy, cache)
        return damage(list(grads) if isinstance(grads, tuple | list) else [grads])

    return case._replace(backward=backward)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_gradient_agrees_with_every_reference(name, seed):
    (case,) = (c for c in cases(seed) if c.name == name)
    results = check(case, seed)
    assert [r for r in results if not r.ok] == []
    names = {"autograd", "differences", "complex step"}
    names |= {"pytorch"} if references.torch_installed() else set()
    assert all(set(r.errors) == names for r in results)


@pytest.mark.parametrize("name", OPS)
def test_float32_gradient_agrees_with_float64(name):
    assert [r for r in check(CASES[name], dtype=np.float32) if not r.ok] == []


@pytest.mark.parametrize(
    ("name", "damage", "wrong"),
    [
        ("mlp", lambda g: [x * (1 + 1e-4 * (i == 2)) for i, x in enumerate(g)], ["b_in"]),
        ("attention", lambda g: [g[1], g[0], g[2]], ["q", "k"]),
        ("linear", lambda g: [g[0], g[1].T], ["W"]),
        ("gelu", lambda g: [g[0] * np.nan], ["x"]),
    ],
    ids=["factor", "swap", "shape", "nan"],
)
def test_checker_names_the_wrong_gradient(name, damage, wrong):
    assert [r.input for r in check(broken(CASES[name], damage)) if not r.ok] == wrong


def test_every_reference_alone_finds_a_small_error():
    for r in check(broken(CASES["mlp"], lambda g: [x * 1.0001 for x in g])):
        assert all(
            1e-5 < error < 1e-3
            for name, error in r.errors.items()
            if name in ("autograd", "pytorch")
        )
        assert all(error > 1e-7 for error in r.errors.values())


@pytest.mark.parametrize("name", OWN)
def test_checker_accepts_an_op_of_ones_own(name):
    case = Case(name, *OWN[name], X)
    assert check(case)[0].ok
    assert not check(broken(case, lambda g: [g[0] + 1e-3]))[0].ok


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda g: g[:1],
            "the backward of linear returned 1 gradients for 2 inputs; "
            "return one array each for x, W",
        ),
        (lambda g: [*g, 0], "a gradient of type int; return"),
        (lambda g: [g[0], None], "a gradient of type NoneType; return"),
    ],
)
def test_checker_states_what_a_backward_returns(damage, message):
    with pytest.raises(ConfigError, match=message):
        check(broken(CASES["linear"], damage))


def test_command_reports_success_and_failure(capsys, monkeypatch):
    assert __main__.main(["--op", "linear"]) == 0
    assert "2 of 2 gradients agree" in capsys.readouterr().out
    assert __main__.main(["--op", "softmax", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["op"], row["gradient"], row["ok"]) == ("softmax", "s", True)
    wrong = broken(CASES["linear"], lambda g: [g[0], -g[1]])
    monkeypatch.setattr(__main__, "cases", lambda seed: [CASES["gelu"], wrong])
    assert __main__.main([]) == 1
    assert "FAILED: linear, gradient of W" in capsys.readouterr().out


@pytest.mark.parametrize("option", [[], ["--per-gradient"]])
def test_table_fits_a_terminal(option, capsys):
    assert __main__.main(option) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--op dropout", "choose from linear"),
        ("--backend cupy", "cupy"),
        ("--seed -1", "seed=-1 is negative"),
    ],
)
def test_command_rejects_in_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as e:
        __main__.main(argv.split())
    err = capsys.readouterr().err
    assert e.value.code == 2
    assert message in err
    assert err.count("\n") == 1
