"""Check a hand-written gradient against up to four references.

    python -m memsinks_np.gradcheck                    every op of this package
    python -m memsinks_np.gradcheck --op attention     one op

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
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.backend import to_device, to_host
from memsinks_np.config import require
from memsinks_np.gradcheck import references

LIMITS = {  # in float64
    "autograd": 1e-12,
    "differences": 1e-6,
    "complex step": 1e-12,
    "pytorch": 1e-12,
}
FLOAT32_LIMIT = 1e-4


class Case(NamedTuple):
    """An op to check. `backward(xp, dy, cache)` returns one gradient for each of `inputs`.

    Anything else that the forward needs (masks, targets) is data. Each reference has its own array
    type, so convert the data in the forward: `to_device(xp, data)`, or `xp.asarray(data)`.
    """

    name: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    inputs: dict[str, Any]


class GradientError(NamedTuple):
    """The largest error of one gradient against each reference.

    Errors are relative to the gradient's largest entry, and absolute if all entries are zero.
    """

    case: str
    input: str
    errors: dict[str, float]
    min_limit: float = 0.0  # larger errors than the limits that the dtype allows

    @property
    def ok(self) -> bool:
        """Whether all errors are within the limits. False for NaN."""
        return all(
            error <= max(LIMITS[name], self.min_limit) for name, error in self.errors.items()
        )


def check(
    case: Case, seed: int = 0, directions: int = 3, dtype: Any = np.float64, xp: Any = np
) -> list[GradientError]:
    """Check one op, its backward in `dtype` and `xp`, the references in float64 on the host.

    A wrong shape or a NaN counts as an infinite error. Raises ConfigError if the backward does not
    return one array for each input.
    """
    rng = np.random.default_rng(seed)
    values = [np.asarray(v, dtype).astype(np.float64) for v in case.inputs.values()]
    y, cache = case.forward(xp, *to_device(xp, tuple(v.astype(dtype) for v in values)))
    dy = rng.standard_normal(y.shape)
    grads = _as_gradients(case, case.backward(xp, to_device(xp, dy.astype(dtype)), cache))
    expected = _expected_gradients(case.forward, values, dy)
    results = []
    for i, (name, grad) in enumerate(zip(case.inputs, grads, strict=True)):
        errors = {"autograd": np.inf}
        if grad.shape == values[i].shape and np.isfinite(grad).all():
            scale = float(np.abs(expected["autograd"][i]).max()) or 1.0
            errors = {
                reference: float(np.abs(grad - gradient[i]).max()) / scale
                for reference, gradient in expected.items()
            }
            vectors = [rng.standard_normal(grad.shape) for _ in range(directions)]
            errors |= _slope_errors(case.forward, values, i, dy, grad, vectors, scale)
        min_limit = FLOAT32_LIMIT if dtype == np.float32 else 0.0
        results.append(GradientError(case.name, name, errors, min_limit))
    return results


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


def _expected_gradients(forward: Any, values: list[Any], dy: Any) -> dict[str, list[Any]]:
    """Return the gradients of autograd, and of PyTorch if it is installed."""
    expected = {"autograd": references.autograd(forward, values, dy)}
    if references.torch_installed():
        with suppress(AttributeError):  # the forward may use a function that PyTorch does not have
            expected["pytorch"] = references.torch(forward, values, dy)
    return expected


def _slope_errors(
    forward: Any,
    values: list[Any],
    i: int,
    dy: Any,
    grad: Any,
    vectors: list[Any],
    scale: float,
) -> dict[str, float]:
    """Return the largest error of input i's slope along any of the vectors."""
    slopes = {"differences": references.central_slope, "complex step": references.complex_slope}
    unit = [v / np.sqrt(np.sum(v * v)) for v in vectors]
    return {
        reference: max(
            abs(float(np.sum(grad * v)) - slope(forward, values, i, dy, v)) / scale for v in unit
        )
        for reference, slope in slopes.items()
    }
