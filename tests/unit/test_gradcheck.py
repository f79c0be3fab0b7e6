"""Every hand-written gradient agrees with its references, and the checker finds wrong ones."""

import json
import sys

import numpy as np
import pytest

from memsinks_np import optim, sinks, train
from memsinks_np.config import ConfigError
from memsinks_np.gradcheck import Case, __main__, check, references
from memsinks_np.gradcheck.cases import cases
from memsinks_np.gradcheck.optimizer import CFG, check_optimizer

CASES = {case.name: case for case in cases()}
OPS = [name for name in CASES if not name.startswith(("model", "training"))]
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


def own_case(forward, backward, x=X["x"]):
    return Case("own", forward, backward, {"x": x} if isinstance(x, np.ndarray) else x)


ABSTAINS = {  # right gradients to which some references do not apply: who must abstain, and why
    "abs": (
        own_case(lambda xp, x: (xp.abs(x), x), lambda xp, dy, x: dy * np.sign(x)),
        {"complex step": "the forward is not analytic"},
    ),
    "norm": (
        own_case(
            lambda xp, x: (x * xp.linalg.norm(x), x),
            lambda xp, dy, x: dy * np.linalg.norm(x) + x * (dy @ x) / np.linalg.norm(x),
        ),
        {"complex step": "the forward is not analytic"},
    ),
    "near a kink": (
        own_case(*OWN["relu"], np.array([1e-6, 1.0, -1.0])),
        {"differences": "a kink, or strong curvature, near the input"},
    ),
    "curved": (
        own_case(lambda xp, x: (x * x * x, x), lambda xp, dy, x: 3 * x * x * dy, 1e-4 * X["x"]),
        {"differences": "a kink, or strong curvature, near the input"},
    ),
    "not in autograd": (
        own_case(lambda xp, x: (xp.cbrt(x), x), lambda xp, dy, x: dy / (3 * np.cbrt(x) ** 2)),
        {"autograd": "NotImplementedError: ", "complex step": "TypeError: "},
    ),
}


@pytest.mark.parametrize("name", ABSTAINS)
def test_a_reference_that_does_not_apply_abstains(name):
    case, notes = ABSTAINS[name]
    (result,) = check(case)
    result.notes.pop("pytorch", None)
    assert result.ok
    assert set(result.notes) == set(notes)
    assert all(result.notes[key].startswith(note) for key, note in notes.items())
    assert not set(notes) & set(result.errors)
    for factor in (0.0, 1 + 1e-4, 1e9):  # no wrong backward makes a reference abstain
        (wrong,) = check(broken(case, lambda g, c=factor: [c * g[0]]))
        assert not wrong.ok
        assert set(wrong.errors) >= set(result.errors)


def test_at_a_kink_the_note_says_kink():
    (result,) = check(own_case(*OWN["relu"], np.array([0.0, 1.0, -1.0])))
    assert not result.ok
    assert "kink" in result.notes["differences"]


def test_without_any_reference_a_gradient_is_not_ok(monkeypatch):
    def fails(*args):
        raise OSError("no library")

    for name in ("autograd", "torch", "complex_slope"):
        monkeypatch.setattr(references, name, fails)
    monkeypatch.setattr(references, "roughness", lambda *args: np.inf)
    (result,) = check(broken(own_case(*OWN["square"]), lambda g: [g[0] + 1.0]))
    assert not result.errors
    assert not result.ok
    assert result.notes["autograd"] == "OSError: 'no library'"


@pytest.mark.parametrize("size", [1e3, 1e6, 1e12])
def test_large_inputs_are_checked(size):
    case = own_case(*OWN["square"], size * X["x"])
    (result,) = check(case)
    assert result.ok
    assert not check(broken(case, lambda g: [g[0] * 1.0001]))[0].ok
    assert result.errors["differences"] < 1e-7


@pytest.mark.parametrize("dtype", ["float32", "f4", np.float32, np.dtype("float32")])
def test_dtypes_go_by_name(dtype):
    (result,) = check(own_case(*OWN["square"]), dtype=dtype)
    assert result.ok
    assert 1e-9 < result.errors["autograd"] < 1e-6


def doubled(name):
    """Return an in-place forward of x * b that writes into one of its arguments."""

    def forward(xp, x, b):
        if name == "x":
            x *= 2.0
        else:
            b *= 2.0
        return x * b, (x, b)

    return forward


def writing(place):
    """Return a backward of x * b that writes into dy or, through its cache, into an input."""

    def backward(xp, dy, cache):
        {"dy": dy, "x": cache[0], "b": cache[1]}[place].__imul__(2.0)
        return dy * cache[1], dy * cache[0]

    return backward


PAIR = {"x": X["x"], "b": X["x"] + 1}
PRODUCT = (lambda xp, x, b: (x * b, (x, b)), lambda xp, dy, c: (dy * c[1], dy * c[0]))
BREAKS = (
    {  # what breaks the contract, and what is said
        "forward writes into x": (
            own_case(doubled("x"), PRODUCT[1], PAIR),
            "forward of own writes into x",
        ),
        "forward writes into b": (
            own_case(doubled("b"), PRODUCT[1], PAIR),
            "forward of own writes into b",
        ),
        "no pair": (own_case(lambda xp, x: x * x, None), "the forward of own returned ndarray; "),
        "two rows": (own_case(lambda xp, x: x[:2], None), "the forward of own returned ndarray; "),
        "nothing": (own_case(lambda xp, x: None, None), "the forward of own returned NoneType; "),
        "a number": (own_case(lambda xp, x: (1.0, x), None), "returned y of type float; "),
        "nan": (own_case(lambda xp, x: (x * np.nan, x), None), "returned NaN or infinity"),
        "list": (own_case(*OWN["square"], [X["x"]]), r"inputs of own are \[array"),
        "no inputs": (own_case(*OWN["square"], {}), "inputs of own are {}; give a dictionary"),
        "empty": (
            own_case(*OWN["square"], np.zeros((0, 3))),
            "input x of own is not an array of fini",
        ),
        "text": (
            own_case(*OWN["square"], {"x": "one"}),
            "input x of own is not an array of finite",
        ),
        "infinite": (
            own_case(*OWN["square"], np.array([1.0, np.inf])),
            "input x of own is not an arr",
        ),
    }
    | {
        f"backward writes into {n}": (
            own_case(PRODUCT[0], writing(n), PAIR),
            f"the backward of own writes into {n}; arguments must not be modified",
        )
        for n in ("dy", "x", "b")
    }
)


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_contract_is_named(name):
    case, message = BREAKS[name]
    with pytest.raises(ConfigError, match=message) as e:
        check(case)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("dtype", ["float16", "longdouble", int, complex, "half a float"])
def test_dtypes_without_limits_are_refused(dtype):
    with pytest.raises(ConfigError, match="cannot be checked; use float64 or float32"):
        check(own_case(*OWN["square"]), dtype=dtype)


def test_a_failed_line_says_why(capsys, monkeypatch):
    square = own_case(*OWN["square"], np.ones((2, 3)))
    wrong = broken(square, lambda g: [g[0].T])
    monkeypatch.setattr(__main__, "cases", lambda seed: [ABSTAINS["abs"][0], wrong])
    assert __main__.main([]) == 1
    out = capsys.readouterr().out
    assert "FAILED: own, gradient of x" in out
    assert "gradient shape (3, 2), but x has (2, 3)" in out
    assert __main__.main(["--each", "--json"]) == 1
    row, *_ = json.loads(capsys.readouterr().out)
    assert row["notes"]["complex step"] == "the forward is not analytic"
    monkeypatch.setattr(__main__, "cases", lambda seed: [ABSTAINS["abs"][0], CASES["gelu"]])
    assert __main__.main([]) == 0
    assert " - |" in capsys.readouterr().out.splitlines()[2]


def changed(g, i, new):
    """Return gradients of which number i is replaced."""
    return [*g[:i], new(g[i]), *g[i + 1 :]]


def zero_rows(g, *rows):
    return np.where(np.isin(np.arange(len(g)), rows)[:, None], 0, g)


def unsummed(xp, dy, cache):
    """Return the gradients of linear, that of W before the sum over sequences."""
    x, W = cache
    return dy @ W.T, np.swapaxes(x, 1, 2) @ dy


def without_mean(xp, dy, cache):
    """Return the gradients of layernorm without mean(dn)."""
    n, rstd, g = cache
    return rstd * (dy * g - n * np.mean(dy * g * n, axis=-1, keepdims=True)), *CASES[
        "layernorm"
    ].backward(xp, dy, cache)[1:]


PATTERNS = [  # case, damage to its gradients or a whole backward, pattern of the last wrong one
    ("linear", lambda g: changed(g, 1, lambda W: -W), "the sign is wrong"),
    ("linear", lambda g: changed(g, 1, lambda W: 2 * W), "a factor: 2 times"),
    ("linear", lambda g: changed(g, 1, lambda W: W / 15), "a factor: 0.06667 = 1/15 times"),
    ("attention", lambda g: changed(g, 1, lambda k: 3**0.5 * k), "a factor: 1.732 = sqrt(3) times"),
    ("mlp", lambda g: changed(g, 2, lambda b: 1.0001 * b), "a factor: 1.0001 times"),
    ("gelu", lambda g: [0 * g[0]], "a factor of 0: the gradient is zero everywhere"),
    (
        "linear",
        lambda g: changed(g, 1, lambda W: W * np.arange(2, 6)),
        "a factor, the same along axis 0",
    ),
    ("linear", lambda g: changed(g, 1, np.transpose), "a transpose: the right gradient with its"),
    ("softmax", lambda g: [g[0].swapaxes(2, 3)], "its axes in the order (0, 1, 3, 2)"),
    ("attention", lambda g: [g[1], g[0], g[2]], "a swap: this is the gradient of q"),
    ("linear", unsummed, "a missing sum over axis 0"),
    ("mlp", lambda g: changed(g, 4, lambda b: np.ones((3, 5, 1)) * b / 15), "over axes 0, 1"),
    ("gelu", lambda g: [g[0][0]], "another shape"),
    ("layernorm", without_mean, "a missing term, equal along axis 2: probably a sum or a mean"),
    ("linear", lambda g: changed(g, 1, lambda W: W - 0.1 * W_OF_LINEAR), "0.1 = 1/10 times W"),
    (
        "masked_sink",
        lambda g: changed(g, 2, lambda b: b + 1),
        "a lost mask: not zero where it must",
    ),
    ("gathered_sink", lambda g: changed(g, 3, lambda W: zero_rows(W, 2, 5)), "at 2, 5 of axis 0"),
    ("gelu", lambda g: [g[0] ** 2], "none of the simple ones"),
    ("gelu", lambda g: [np.where(g[0] > 0, np.nan, g[0])], "of 60 entries are not finite"),
]
W_OF_LINEAR = CASES["linear"].inputs["W"]


@pytest.mark.parametrize(("name", "damage", "expected"), PATTERNS)
def test_pattern_of_a_planted_error_is_recognized(name, damage, expected):
    case = CASES[name]
    by_hand = damage in (unsummed, without_mean)
    wrong = case._replace(backward=damage) if by_hand else broken(case, damage)
    found = [r.notes["pattern"] for r in check(wrong) if not r.ok]
    assert expected in found[-1]


def test_worst_entry_is_where_the_error_is_largest():
    def damage(g):
        g[1][2, 3] += 1.0
        return g

    _, r = check(broken(CASES["linear"], damage))
    assert r.worst == (2, 3)
    got, want = r.notes["worst"].removeprefix("entry [2, 3] is ").split(", not ")
    assert float(got) - float(want) == pytest.approx(1.0, abs=2e-3)
    assert check(CASES["linear"])[1].notes == {}


def test_a_case_comes_after_the_ops_that_it_calls():
    """So the first case that fails has the fault, and later failures may be consequences."""
    source = {case.name: (case.source or case.backward).__code__ for case in CASES.values()}
    assert not any(code.co_filename.endswith("cases.py") for code in source.values())
    earlier = set()
    for case in CASES.values():
        called = set()
        sys.setprofile(lambda frame, event, arg, called=called: called.add(frame.f_code))
        try:
            y, cache = case.forward(np, *case.inputs.values())
            case.backward(np, np.ones(y.shape), cache)
        finally:
            sys.setprofile(None)
        earlier.add(source[case.name])
        assert source[case.name] in called
        assert called & set(source.values()) <= earlier


def overwriting(xp, index, values):
    """A `coalesce` that overwrites where it should add."""
    rows, place = np.unique(index, return_inverse=True)
    grads = []
    for v in values:
        total = np.zeros((len(rows), *v.shape[2:]))
        total[place.ravel()] = v.reshape(index.size, *v.shape[2:])
        grads.append(sinks.RowGrad(rows, total))
    return grads


def uncoalesced(xp, index, values):
    """A `coalesce` that leaves repeated rows to the optimizer, which assigns."""
    flat = [v.reshape(index.size, *v.shape[2:]) for v in values]
    return [sinks.RowGrad(index.ravel(), v) for v in flat]


@pytest.mark.parametrize("wrong", [overwriting, uncoalesced])
def test_a_coalesce_that_overwrites_is_named(wrong, monkeypatch, capsys):
    monkeypatch.setattr(sinks, "coalesce", wrong)
    monkeypatch.setattr(train, "coalesce", wrong)
    assert __main__.main(["--op", "coalesce"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-4].startswith("  look at  b, wrong by ")
    assert out[-3].endswith("right, but wrong at 2, 4 of axis 0")  # the sinks that sequences share
    assert __main__.main(["--op", "training, rows"]) == 1
    assert "sink.W_in" in capsys.readouterr().out


def test_training_weighs_halves_by_their_tokens(monkeypatch):
    """Sequences have unequal lengths, so the mean of two means is another gradient."""
    split = train.microbatches
    halves = lambda *args: [part._replace(fraction=0.5) for part in split(*args)]
    monkeypatch.setattr(train, "microbatches", halves)
    (case,) = (case for case in cases() if case.name == "training, mask")
    assert not all(r.ok for r in check(case, directions=1))


def decaying(xp, params, grads, state, *args):
    UPDATE(xp, params, grads, state, *args)
    params["h0.sink.W_in"] *= 1 - CFG.lr * CFG.weight_decay


def drifting(xp, params, grads, state, *args):
    for w, (m, _) in ((params[n], state.moments[n]) for n in grads):
        w -= CFG.lr * m
    UPDATE(xp, params, grads, state, *args)


def counting_together(xp, params, grads, state, *args):
    state.sink_steps[:] = state.sink_steps.max()
    UPDATE(xp, params, grads, state, *args)


UPDATE = optim.update
RULES = [  # a fault of the optimizer, and which of its checks finds it, with the pattern
    (decaying, "inactive sink.W_in", "weights: a factor: 0.999 times the right values"),
    (drifting, "inactive sink.b_in", "weights: "),
    (counting_together, "active sink.b_in", "weights: "),
]


@pytest.mark.parametrize(("fault", "name", "expected"), RULES)
def test_a_fault_of_the_optimizer_is_named(fault, name, expected, monkeypatch):
    assert all(r.ok for r in check_optimizer())
    assert all(r.ok for r in check_optimizer(dtype=np.float32))
    monkeypatch.setattr(optim, "update", fault)
    notes = {r.input: r.notes for r in check_optimizer() if not r.ok}
    assert notes[name]["pattern"].startswith(expected)
    assert not (fault is counting_together and "inactive sink.b_in" in notes)


def test_the_last_lines_name_the_first_op_that_fails(capsys, monkeypatch):
    wrong = broken(CASES["linear"], lambda g: changed(g, 1, np.negative))
    later = broken(CASES["mlp"], lambda g: g[:1])
    monkeypatch.setattr(__main__, "cases", lambda seed: [CASES["gelu"], wrong, later])
    assert __main__.main([]) == 1
    *_, other, failed, right, look, pattern, worst, place = capsys.readouterr().out.splitlines()
    assert other == "wrong too, maybe as a consequence: mlp"
    assert (failed, right) == ("FAILED: linear, gradient of W", "  right    x")
    assert look.startswith("  look at  W, wrong by 2.0e+00 (")
    assert pattern == "  pattern  the sign is wrong"
    assert worst.startswith("  worst    entry [")
    assert place.startswith("  in       tests/unit/test_gradcheck.py:")


def test_an_op_that_raises_is_named_with_its_line(capsys, monkeypatch):
    def divide(xp, dy, cache):
        return 1 / 0

    wrong = CASES["linear"]._replace(backward=divide)
    monkeypatch.setattr(__main__, "cases", lambda seed: [wrong])
    assert __main__.main(["--each", "--op", "linear"]) == 1
    out = capsys.readouterr().out
    line = divide.__code__.co_firstlineno + 1
    assert f"ZeroDivisionError: 'division by zero' at tests/unit/test_gradcheck.py:{line}" in out


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


@pytest.mark.parametrize("option", [[], ["--each"]])
def test_table_fits_a_terminal(option, capsys):
    assert __main__.main(option) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--op dropout", "choose from embedding"),
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
