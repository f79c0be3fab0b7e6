"""Check a hand-written gradient against up to four references.

    python -m memsinks_np.gradcheck                    every op of this package
    python -m memsinks_np.gradcheck --op attention     one op
    python -m memsinks_np.gradcheck --each             one row per gradient, with its worst entry

In Python, an op of your own:

    square = Case(
        "square",
        forward=lambda xp, x: (x * x, x),
        backward=lambda xp, dy, x: 2 * x * dy,
        inputs={"x": np.array([0.3, -1.7])},
    )
    print(check(square))

The upstream gradient is random. Under a gradient of ones, softmax's gradient is zero, so that a
wrong formula could pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.backend import to_device, to_host
from memsinks_np.config import require, shorten
from memsinks_np.gradcheck import references
from memsinks_np.gradcheck.diagnosis import pattern

LIMITS = {  # in float64
    "autograd": 1e-12,
    "differences": 1e-6,
    "complex step": 1e-12,
    "pytorch": 1e-12,
    "definition": 1e-12,  # of an optimizer's step, which is no gradient
}
SAME = 1e-8  # of the largest entry: how closely a pattern of errors must fit
FLOAT32_LIMIT = 1e-4
MIN_LIMITS = {"float64": 0.0, "float32": FLOAT32_LIMIT}


class Case(NamedTuple):
    """An op to check. `backward(xp, dy, cache)` returns one gradient for each of `inputs`.

    Anything else that the forward needs (masks, targets) is data. Each reference has its own array
    type, so convert the data in the forward: `to_device(xp, data)`, or `xp.asarray(data)`.

    A reference that does not apply to the forward abstains: PyTorch without a function of that
    name, the complex step where the forward is not analytic (abs, norms), differences at a kink.
    """

    name: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    inputs: dict[str, Any]
    source: Callable[..., Any] | None = None  # what to name instead of `backward`, its caller


class GradientError(NamedTuple):
    """The largest error of one gradient against each reference.

    Errors are relative to the gradient's largest entry, and absolute if all entries are zero.
    """

    case: str
    input: str
    errors: dict[str, float]
    notes: dict[str, str]  # why a reference abstained, or what is wrong with the gradient
    min_limit: float = 0.0  # larger errors than the limits that the dtype allows
    worst: tuple[int, ...] = ()  # the index of the largest error against autograd or PyTorch

    @property
    def ok(self) -> bool:
        """Whether all errors are within the limits. False for NaN, and without any reference."""
        return bool(self.errors) and all(
            error <= max(LIMITS[name], self.min_limit) for name, error in self.errors.items()
        )

    @property
    def largest(self) -> tuple[float, str]:
        """The error that is largest in units of its limit, and its reference."""
        names = sorted(self.errors, key=lambda name: -self.errors[name] / LIMITS[name])
        return (self.errors[names[0]], names[0]) if names else (np.nan, "no reference")


def check(
    case: Case, seed: int = 0, directions: int = 3, dtype: Any = np.float64, xp: Any = np
) -> list[GradientError]:
    """Check one op, its backward in `dtype` and `xp`, the references in float64 on the host.

    A wrong shape or a NaN counts as an infinite error. Raises ConfigError if forward or backward
    break the contract: no pair (y, cache), not one array for each input, an argument written to.
    """
    dtype = _dtype_name(dtype)
    rng = np.random.default_rng(seed)
    values = [v.astype(dtype).astype(np.float64) for v in _input_arrays(case)]
    dy, grads = _run_op(case, values, rng, dtype, xp)
    expected, notes = _expected_gradients(case.forward, values, dy)
    results = []
    for i, (name, grad) in enumerate(zip(case.inputs, grads, strict=True)):
        errors, why = {"autograd": np.inf}, {}
        worst: tuple[int, ...] = ()
        if grad.shape != values[i].shape:
            why["gradient"] = f"shape {grad.shape}, but {name} has {values[i].shape}"
        elif not np.isfinite(grad).all():
            why["gradient"] = "not finite"
        else:
            like = [gradient[i] for gradient in expected.values()] or [grad]
            scale = float(np.abs(like[0]).max()) or 1.0
            errors = {
                reference: float(np.abs(grad - gradient[i]).max()) / scale
                for reference, gradient in expected.items()
            }
            vectors = [rng.standard_normal(grad.shape) for _ in range(directions)]
            slopes, why = _slope_errors(case.forward, values, i, dy, grad, vectors, scale)
            errors |= slopes
            at = np.unravel_index(np.abs(grad - like[0]).argmax(), grad.shape)
            worst = tuple(map(int, at))
        result = GradientError(case.name, name, errors, notes | why, MIN_LIMITS[dtype], worst)
        if not result.ok and expected:
            right = dict(zip(case.inputs, next(iter(expected.values())), strict=True))
            terms = {"dy": dy} | dict(zip(case.inputs, values, strict=True))
            result.notes.update(_describe_error(grad, name, right, terms, result))
        results.append(result)
    return results


def _run_op(case: Case, values: list[Any], rng: Any, dtype: Any, xp: Any) -> tuple[Any, list[Any]]:
    """Run forward and backward; return the upstream gradient and the gradients, on the host."""
    inputs = to_device(xp, tuple(v.astype(dtype) for v in values))
    y, cache = _as_pair(case, case.forward(xp, *inputs))
    _require_unchanged(f"the forward of {case.name}", case.inputs, inputs, values)
    dy = rng.standard_normal(y.shape)
    upstream = to_device(xp, dy.astype(dtype))
    grads = _as_gradients(case, case.backward(xp, upstream, cache))
    names, arrays, before = ("dy", *case.inputs), (upstream, *inputs), [dy.astype(dtype), *values]
    _require_unchanged(f"the backward of {case.name}", names, arrays, before)
    return dy, grads


def _describe_error(
    grad: Any, name: str, right: dict[str, Any], terms: dict[str, Any], result: GradientError
) -> dict[str, str]:
    """Return notes on a wrong gradient: the pattern of its error and, if it has one, its entry."""
    others = {other: value for other, value in right.items() if other != name}
    tol = max(SAME, result.min_limit)
    notes = {"pattern": pattern(grad, right[name], others, terms, tol)}
    if result.worst:
        got, want = grad[result.worst], right[name][result.worst]
        notes["worst"] = f"entry {list(result.worst)} is {got:.4g}, not {want:.4g}"
    return notes


def _dtype_name(dtype: Any) -> str:
    """Return the name of a dtype. Raises ConfigError for one without limits."""
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = repr(dtype)
    require(name in MIN_LIMITS, f"dtype {name} cannot be checked; use {' or '.join(MIN_LIMITS)}")
    return name


def _input_arrays(case: Case) -> list[Any]:
    """Return the inputs as arrays. Raises ConfigError unless all are finite numbers."""
    remedy = "give a dictionary of arrays by name, at least one"
    ok = isinstance(case.inputs, dict) and bool(case.inputs)
    require(ok, f"the inputs of {case.name} are {shorten(case.inputs)}; {remedy}")
    arrays = [np.asarray(v) for v in case.inputs.values()]
    for name, a in zip(case.inputs, arrays, strict=True):
        ok = a.dtype.kind in "iuf" and a.size > 0 and bool(np.isfinite(a).all())
        require(ok, f"input {name} of {case.name} is not an array of finite numbers, or is empty")
    return arrays


def _as_pair(case: Case, result: Any) -> tuple[Any, Any]:
    """Return what a forward returned as (y, cache)."""
    name, remedy = f"the forward of {case.name} returned", "return a pair (y, cache), y an array"
    is_pair = isinstance(result, tuple) and len(result) == 2
    require(is_pair, f"{name} {type(result).__name__}; {remedy}")
    y, cache = result
    require(hasattr(y, "shape"), f"{name} y of type {type(y).__name__}; {remedy}")
    finite = bool(np.isfinite(to_host(y)).all())
    require(finite, f"{name} NaN or infinity, which has no gradient; change the inputs")
    return y, cache


def _require_unchanged(who: str, names: Any, arrays: Any, before: list[Any]) -> None:
    """Raise ConfigError, naming the array, if an argument was written to."""
    for name, array, old in zip(names, arrays, before, strict=True):
        same = np.array_equal(to_host(array), old)
        require(same, f"{who} writes into {name}; arguments must not be modified, so copy it first")


def _as_gradients(case: Case, result: Any) -> list[Any]:
    """Return what a backward returned as a list of host arrays, one for each input."""
    grads = list(result) if isinstance(result, tuple | list) else [result]
    wrong = [f"a gradient of type {type(g).__name__}" for g in grads if not hasattr(g, "shape")]
    wrong += [f"{len(grads)} gradients for {len(case.inputs)} inputs"]
    require(
        len(wrong) == 1 and len(grads) == len(case.inputs),
        f"the backward of {case.name} returned {wrong[0]}; "
        f"return one array each for {', '.join(case.inputs)}",
    )
    return [np.asarray(to_host(g)) for g in grads]


def _expected_gradients(
    forward: Any, values: list[Any], dy: Any
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Return the gradients of autograd, and of PyTorch if it is installed; and who abstained."""
    chosen = {"autograd": references.autograd}
    chosen |= {"pytorch": references.torch} if references.torch_installed() else {}
    expected, notes = {}, {}
    for name, reference in chosen.items():
        try:
            expected[name] = reference(forward, values, dy)
        except Exception as e:  # the forward uses what this library does not have
            notes[name] = describe(e)
    return expected, notes


def _slope_errors(
    forward: Any,
    values: list[Any],
    i: int,
    dy: Any,
    grad: Any,
    vectors: list[Any],
    scale: float,
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the largest error of input i's slope along any of the vectors; and who abstained.

    Whether a reference abstains depends only on the forward, so a wrong backward cannot cause it.
    """
    unit = [v / np.sqrt(np.sum(v * v)) for v in vectors]
    at, limit = (forward, values, i, dy), LIMITS["differences"] * scale
    central = np.array([references.central_slope(*at, v) for v in unit])
    slopes = {"differences": central}
    notes: dict[str, str] = {}
    try:
        slopes["complex step"] = np.array([references.complex_slope(*at, v) for v in unit])
    except Exception as e:  # the forward uses what has no complex form
        notes["complex step"] = describe(e)
    ours = np.array([np.sum(grad * v) for v in unit])
    errors = {name: float(np.abs(ours - slope).max()) / scale for name, slope in slopes.items()}
    smooth = errors["differences"] <= LIMITS["differences"] or all(
        references.roughness(*at, v) <= limit for v in unit
    )
    if not smooth:
        del errors["differences"]
        notes["differences"] = "a kink, or strong curvature, near the input"
    elif not np.abs(slopes.get("complex step", central) - central).max() <= limit:
        del errors["complex step"]
        notes["complex step"] = "the forward is not analytic"
    return errors, notes


def describe(e: Exception) -> str:
    """Return an exception on one line."""
    return f"{type(e).__name__}: {shorten(str(e))}"
