"""Check a hand-written gradient before you trust it: our algebra against up to four witnesses.

    python -m memsinks_np.gradcheck                    every pair of this package
    python -m memsinks_np.gradcheck --op attention     one of them

From Python, on a pair of your own:

    check(Case("square", lambda xp, x: (x * x, x), lambda xp, dy, x: 2 * x * dy, {"x": np.array([0.3, -1.7])}))

The upstream gradient is random: under one of ones softmax's backward is zero, and any formula would pass.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from memsinks_np import witnesses
from memsinks_np.backend import BACKENDS, namespace, to_device, to_host
from memsinks_np.config import ConfigError
from memsinks_np.gradcases import Case as Case
from memsinks_np.gradcases import cases
from memsinks_np.report import table

LIMITS = {"autograd": 1e-12, "differences": 1e-6, "complex step": 1e-12, "pytorch": 1e-12}  # in float64
FLOAT32_LIMIT = 1e-4


class Found(NamedTuple):
    """One gradient's largest error against each witness, relative to the gradient's largest entry."""

    case: str
    input: str
    errors: dict[str, float]
    at_least: float = 0.0  # the error that its dtype is allowed in any case

    @property
    def ok(self) -> bool:
        return all(error <= max(LIMITS[who], self.at_least) for who, error in self.errors.items())  # False for NaN


def check(case: Case, seed: int = 0, directions: int = 3, dtype: Any = np.float64, xp: Any = np) -> list[Found]:
    """Check one pair: its backward in `dtype` and `xp`, the witnesses in float64 on the host.

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
        what = f"{len(got)} gradients for {len(values)} inputs" if not kinds else f"a gradient of type {kinds[0]}"
        raise ConfigError(
            f"the backward of {case.name} gave {what}; return one array each for {', '.join(case.inputs)}"
        )
    got = [np.asarray(to_host(g)) for g in got]
    tapes = {"autograd": witnesses.autograd(case.forward, values, dy)}
    if witnesses.torch_installed():
        with suppress(AttributeError):  # a reader's forward may use names that PyTorch spells in another way
            tapes["pytorch"] = witnesses.torch(case.forward, values, dy)
    allowed = FLOAT32_LIMIT if dtype == np.float32 else 0.0
    found = []
    for i, name in enumerate(case.inputs):
        if got[i].shape != values[i].shape or not np.isfinite(got[i]).all():
            found.append(Found(case.name, name, {"autograd": np.inf}, allowed))
            continue
        scale = float(np.abs(tapes["autograd"][i]).max()) or 1.0  # where all of it is 0, errors are absolute
        errors = {who: float(np.abs(got[i] - tape[i]).max()) / scale for who, tape in tapes.items()}
        errors |= {"differences": 0.0, "complex step": 0.0}
        for _ in range(directions):
            v = rng.standard_normal(values[i].shape)
            v /= np.sqrt(np.sum(v * v))
            ours = float(np.sum(got[i] * v))
            for who, slope in (("differences", witnesses.central_slope), ("complex step", witnesses.complex_slope)):
                errors[who] = max(errors[who], abs(ours - slope(case.forward, values, i, dy, v)) / scale)
        found.append(Found(case.name, name, errors, allowed))
    return found


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m memsinks_np.gradcheck",
        description="Check every hand-written gradient against autograd, central differences, the complex step and, "
        "where it is installed, PyTorch.",
    )
    p.add_argument("--op", help="only the pairs with this in their name (default: all)")
    p.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    p.add_argument("--dtype", choices=["float64", "float32"], default="float64", help="of ours (default: float64)")
    p.add_argument("--backend", choices=BACKENDS, default="numpy", help="of ours (default: numpy)")
    p.add_argument("--each", action="store_true", help="a row for every gradient, not only for every pair")
    p.add_argument("--json", action="store_true", help="print every gradient's errors as JSON")
    return p


def tell(found: list[Found], each: bool) -> str:
    """A row per pair (or per gradient): the largest error against each witness."""
    groups: dict[tuple[str, ...], list[Found]] = {}
    for f in found:
        groups.setdefault((f.case, f.input) if each else (f.case,), []).append(f)
    who = [w for w in LIMITS if any(w in f.errors for f in found)]
    rows = [
        [", ".join(key), str(len(of)), *(f"{max(f.errors.get(w, 0.0) for f in of):.1e}" for w in who)]
        for key, of in groups.items()
    ]
    return table(["pair", "gradients", *who], rows)


def main(argv: Sequence[str] | None = None) -> int:
    p = parser()
    a = p.parse_args(argv)
    if a.seed < 0:
        p.exit(2, f"--seed {a.seed} is negative; choose 0 or more\n")
    chosen = [case for case in cases(a.seed) if (a.op or "") in case.name]
    if not chosen:
        p.exit(2, f"--op {a.op!r} is in no name; choose from {', '.join(c.name for c in cases(a.seed))}\n")
    try:
        xp = namespace(a.backend)
    except ConfigError as e:
        p.exit(2, f"{e}\n")
    found = [f for case in chosen for f in check(case, a.seed, dtype=np.dtype(a.dtype), xp=xp)]
    failed = [f for f in found if not f.ok]
    if a.json:
        print(json.dumps([{"pair": f.case, "gradient": f.input, "ok": f.ok, **f.errors} for f in found], indent=1))
        return 1 if failed else 0
    print(tell(found, a.each))
    for f in failed:
        errors = ", ".join(f"{w} {e:.1e}" for w, e in f.errors.items())
        print(f"FAILS  {f.case}: gradient of {f.input} ({errors})")
    print(f"{len(found) - len(failed)} of {len(found)} gradients agree with every witness")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
