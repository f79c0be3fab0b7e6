"""Who else knows a gradient: autograd's tape, PyTorch's tape, the complex step, central differences.

A pair is tested through the number <dy, forward(inputs)>, whose gradient is what the backward returns for dy.
Each reference gets the *same* forward, in another namespace or with other numbers.
"""

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Forward = Callable[..., tuple[Any, Any]]


def autograd(forward: Forward, values: list[Any], dy: Any) -> list[Any]:
    """Gradients from autograd's tape over the forward, spelled for autograd by `autograd_namespace`."""
    from autograd import grad

    xp = autograd_namespace()
    grads: list[Any] = grad(lambda inputs: xp.sum(forward(xp, *inputs)[0] * dy))(values)
    return grads


def autograd_namespace() -> Any:
    """autograd.numpy, with `take` as indexing: its tape knows only that."""
    import autograd.numpy as anp

    return SimpleNamespace(**{**vars(anp), "take": rows_of})


def rows_of(x: Any, index: Any, axis: int) -> Any:
    """What `take` returns along axis 0, the only one that our forwards take from."""
    assert axis == 0
    return x[index]


def torch_installed() -> bool:
    return importlib.util.find_spec("torch") is not None


def torch(forward: Forward, values: list[Any], dy: Any) -> list[Any]:
    """Gradients from PyTorch's tape over the forward, spelled for PyTorch by `torch_namespace`."""
    xp = torch_namespace()
    inputs = [xp.asarray(v).requires_grad_() for v in values]
    xp.sum(forward(xp, *inputs)[0] * xp.asarray(dy)).backward()
    return [
        np.zeros_like(v) if x.grad is None else np.asarray(x.grad.detach())
        for v, x in zip(values, inputs, strict=True)
    ]


def torch_namespace() -> Any:
    """The names that our forwards use, over PyTorch tensors whose in-place operators make new ones.

    (An in-place operator may not overwrite what the tape still needs; ours overwrite their own temporaries.)
    """
    import torch as t

    class Tensor(t.Tensor):
        __iadd__, __isub__, __imul__, __itruediv__ = (
            t.Tensor.__add__,
            t.Tensor.__sub__,
            t.Tensor.__mul__,
            t.Tensor.__truediv__,
        )
        __array_priority__ = 1000  # a NumPy array on the left leaves the operation to us

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
        def __getattr__(self, name: str) -> Any:  # what needs no other spelling
            return getattr(t, name)

    return Names(
        maximum=lambda a, b: t.maximum(t.as_tensor(a), t.as_tensor(b)),
        permute_dims=t.permute,
        sum=reduce(t.sum),
        mean=reduce(t.mean),
        max=reduce(t.amax),
        asarray=lambda a: t.tensor(np.asarray(a)).as_subclass(Tensor),
        take=rows_of,
    )


def nudged(values: list[Any], i: int, by: Any) -> list[Any]:
    return [x + by if j == i else x for j, x in enumerate(values)]


def complex_slope(
    forward: Forward, values: list[Any], i: int, dy: Any, v: Any, h: float = 1e-30
) -> float:
    """Slope along v: the imaginary part of <dy, forward(x + ihv)> / h, which nothing is subtracted from.

    Exact to rounding for every forward that is analytic (Squire and Trapp 1998): the step can be so small that its
    square vanishes.
    """
    whole = [np.asarray(x, np.complex128) for x in values]
    return float(np.sum(forward(np, *nudged(whole, i, 1j * h * v))[0] * dy).imag) / h


def central_slope(
    forward: Forward, values: list[Any], i: int, dy: Any, v: Any, eps: float = 1e-5
) -> float:
    """Slope along v: (f(x + eps v) - f(x - eps v)) / 2 eps, good to about ten digits."""
    up, down = (float(np.sum(forward(np, *nudged(values, i, e * v))[0] * dy)) for e in (eps, -eps))
    return (up - down) / (2 * eps)
