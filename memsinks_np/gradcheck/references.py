"""Reference gradients: autograd, PyTorch, the complex step, central differences.

An op is tested through the number sum(dy * forward(inputs)), whose gradient is what the backward
returns for dy. Each reference runs the *same* forward, in another namespace or on other numbers.
"""

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Forward = Callable[..., tuple[Any, Any]]


def autograd(forward: Forward, values: list[Any], dy: Any) -> list[Any]:
    """Return the gradients that autograd computes."""
    from autograd import grad

    xp = autograd_namespace()
    grads: list[Any] = grad(lambda inputs: xp.sum(forward(xp, *inputs)[0] * dy))(values)
    return grads


def autograd_namespace() -> Any:
    """Return autograd.numpy with `take` and `take_along_axis` as indexing, which it knows."""
    import autograd.numpy as anp

    names = {"take": take_rows, "take_along_axis": take_from_each_row}
    return SimpleNamespace(**vars(anp) | names)


def take_rows(x: Any, index: Any, axis: int) -> Any:
    """Return x[index]: `take` along axis 0, the only axis that the forwards use."""
    assert axis == 0
    return x[index]


def take_from_each_row(x: Any, index: Any, axis: int) -> Any:
    """Return one entry of each row, (..., N), (..., 1) -> (..., 1): `take_along_axis`."""
    assert axis == -1
    rows = x.reshape((-1, x.shape[-1]))
    return rows[np.arange(len(rows)), index.ravel()].reshape(index.shape)


def torch_installed() -> bool:
    """Return whether PyTorch can be imported."""
    return importlib.util.find_spec("torch") is not None


def torch(forward: Forward, values: list[Any], dy: Any) -> list[Any]:
    """Return the gradients that PyTorch computes."""
    xp = torch_namespace()
    inputs = [xp.asarray(v).requires_grad_() for v in values]
    xp.sum(forward(xp, *inputs)[0] * xp.asarray(dy)).backward()
    return [
        np.zeros_like(v) if x.grad is None else np.asarray(x.grad.detach())
        for v, x in zip(values, inputs, strict=True)
    ]


def torch_namespace() -> Any:
    """Return NumPy's names for PyTorch's functions, as far as the forwards use them.

    In-place operators make new tensors: PyTorch's own would overwrite what its backward needs.
    """
    import torch as t

    class Tensor(t.Tensor):
        __iadd__ = t.Tensor.__add__
        __isub__ = t.Tensor.__sub__
        __imul__ = t.Tensor.__mul__
        __itruediv__ = t.Tensor.__truediv__
        __array_priority__ = 1000  # `array * tensor` calls the tensor's operator

        def __rmul__(self, other: Any) -> Any:
            return self * t.as_tensor(other, dtype=self.dtype)

        def __radd__(self, other: Any) -> Any:
            return self + t.as_tensor(other, dtype=self.dtype)

        def __rmatmul__(self, other: Any) -> Any:
            return t.as_tensor(other).as_subclass(Tensor) @ self

    def reduce(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, axis=None, keepdims=False: (
            f(x) if axis is None else f(x, dim=axis, keepdim=keepdims)
        )

    class Names(SimpleNamespace):
        def __getattr__(self, name: str) -> Any:  # all other names are the same
            return getattr(t, name)

    return Names(
        maximum=lambda a, b: t.maximum(t.as_tensor(a), t.as_tensor(b)),
        permute_dims=t.permute,
        sum=reduce(t.sum),
        mean=reduce(t.mean),
        max=reduce(t.amax),
        asarray=lambda a: t.tensor(np.asarray(a)).as_subclass(Tensor),
        take=take_rows,
        take_along_axis=lambda x, index, axis: t.take_along_dim(x, index, axis),
    )


def complex_slope(
    forward: Forward, values: list[Any], i: int, dy: Any, v: Any, h: float = 1e-30
) -> float:
    """Return the slope along v by the complex step: Im sum(dy * forward(x + ihv)) / h.

    Exact up to rounding for an analytic forward (Squire and Trapp 1998): nothing is subtracted, so
    h can be so small that its square vanishes.
    """
    values = [np.asarray(x, np.complex128) for x in values]
    return _along(forward, values, i, dy, 1j * h * v).imag / h


def step_of(values: list[Any], i: int) -> float:
    """Return the step of differences: 1e-5, and more where the input is large."""
    return max(1e-5, 1e-6 * float(np.abs(values[i]).max()))


def central_slope(forward: Forward, values: list[Any], i: int, dy: Any, v: Any) -> float:
    """Return the slope along v by central differences, which have about ten correct digits."""
    eps = step_of(values, i)
    up, down = (_along(forward, values, i, dy, e * v) for e in (eps, -eps))
    return (up - down).real / (2 * eps)


def roughness(forward: Forward, values: list[Any], i: int, dy: Any, v: Any) -> float:
    """Return how much the slope along v depends on the side and the size of the step.

    It is about zero where the forward is smooth, and the jump of the slope at a kink.
    """
    here, eps = _along(forward, values, i, dy, 0 * v).real, step_of(values, i)
    slopes, bends = [], []  # a smooth forward's bend is proportional to the step
    for e in (eps, eps / 10):
        up, down = (_along(forward, values, i, dy, s * v).real for s in (e, -e))
        slopes.append((up - down) / (2 * e))
        bends.append((up - 2 * here + down) / e)
    return max(abs(slopes[0] - slopes[1]), abs(bends[0] / 10 - bends[1]))


def _along(forward: Forward, values: list[Any], i: int, dy: Any, step: Any) -> complex:
    """Return sum(dy * forward(inputs)) with `step` added to input i."""
    inputs = [x + step if j == i else x for j, x in enumerate(values)]
    return complex(np.sum(forward(np, *inputs)[0] * dy))
