"""Check a hand-written gradient before you trust it: our algebra against up to four references.

    python -m memsinks_np.gradcheck                    every pair of this package
    python -m memsinks_np.gradcheck --op attention     one of them

From Python, on a pair of your own:

    check(Case("square", lambda xp, x: (x * x, x), lambda xp, dy, x: 2 * x * dy, {"x": np.array([0.3, -1.7])}))

The upstream gradient is random: under one of ones softmax's backward is zero, and any formula would pass.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.backend import to_device, to_host
from memsinks_np.config import ConfigError
from memsinks_np.gradcheck import references
from memsinks_np.gradcheck.cases import Case as Case

LIMITS = {
    "autograd": 1e-12,
    "differences": 1e-6,
    "complex step": 1e-12,
    "pytorch": 1e-12,
}  # in float64
FLOAT32_LIMIT = 1e-4


class Found(NamedTuple):
    """One gradient's largest error against each reference, relative to the gradient's largest entry."""

    case: str
    input: str
    errors: dict[str, float]
    at_least: float = 0.0  # the error that its dtype is allowed in any case

    @property
    def ok(self) -> bool:
        return all(
            error <= max(LIMITS[who], self.at_least) for who, error in self.errors.items()
        )  # False for NaN


def check(
    case: Case, seed: int = 0, directions: int = 3, dtype: Any = np.float64, xp: Any = np
) -> list[Found]:
    """Check one pair: its backward in `dtype` and `xp`, the references in float64 on the host.

    Raises nothing about wrong gradients: a wrong shape or a NaN is an infinite error.  ConfigError where the backward
    returns something else than one array for each input.
    """
    rng = np.random.default_rng(seed)
    values = [np.asarray(v, dtype).astype(np.float64) for v in case.inputs.values()]
    y, cache = case.forward(xp, *to_device(xp, tuple(v.astype(dtype) for v in values)))
    dy = rng.standard_normal(y.shape)
    got = case.backward(xp, to_device(xp, dy.astype(dtype)), cache)
    got = list(got) if isinstance(got, tuple | list) else [got]
    kinds = [type(g).__name__ for g in got if not hasattr(g, "shape")]
    if len(got) != len(values) or kinds:
        what = (
            f"{len(got)} gradients for {len(values)} inputs"
            if not kinds
            else f"a gradient of type {kinds[0]}"
        )
        raise ConfigError(
            f"the backward of {case.name} gave {what}; return one array each for {', '.join(case.inputs)}"
        )
    got = [np.asarray(to_host(g)) for g in got]
    tapes = {"autograd": references.autograd(case.forward, values, dy)}
    if references.torch_installed():
        with suppress(
            AttributeError
        ):  # a reader's forward may use names that PyTorch spells in another way
            tapes["pytorch"] = references.torch(case.forward, values, dy)
    allowed = FLOAT32_LIMIT if dtype == np.float32 else 0.0
    found = []
    for i, name in enumerate(case.inputs):
        if got[i].shape != values[i].shape or not np.isfinite(got[i]).all():
            found.append(Found(case.name, name, {"autograd": np.inf}, allowed))
            continue
        scale = (
            float(np.abs(tapes["autograd"][i]).max()) or 1.0
        )  # where all of it is 0, errors are absolute
        errors = {who: float(np.abs(got[i] - tape[i]).max()) / scale for who, tape in tapes.items()}
        errors |= {"differences": 0.0, "complex step": 0.0}
        for _ in range(directions):
            v = rng.standard_normal(values[i].shape)
            v /= np.sqrt(np.sum(v * v))
            ours = float(np.sum(got[i] * v))
            for who, slope in (
                ("differences", references.central_slope),
                ("complex step", references.complex_slope),
            ):
                errors[who] = max(
                    errors[who], abs(ours - slope(case.forward, values, i, dy, v)) / scale
                )
        found.append(Found(case.name, name, errors, allowed))
    return found
