"""Check every hand-written gradient of the package: `python -m memsinks_np.gradcheck`."""

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np

from memsinks_np._internal.backend import BACKENDS, namespace
from memsinks_np._internal.tables import table
from memsinks_np.config import ConfigError
from memsinks_np.gradcheck import LIMITS, Found, check
from memsinks_np.gradcheck.cases import cases


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m memsinks_np.gradcheck",
        description="Check every hand-written gradient against autograd, central differences, the complex step and, "
        "where it is installed, PyTorch.",
    )
    p.add_argument("--op", help="only the pairs with this in their name (default: all)")
    p.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    p.add_argument(
        "--dtype",
        choices=["float64", "float32"],
        default="float64",
        help="of ours (default: float64)",
    )
    p.add_argument("--backend", choices=BACKENDS, default="numpy", help="of ours (default: numpy)")
    p.add_argument(
        "--each", action="store_true", help="a row for every gradient, not only for every pair"
    )
    p.add_argument("--json", action="store_true", help="print every gradient's errors as JSON")
    return p


def tell(found: list[Found], each: bool) -> str:
    """A row per pair (or per gradient): the largest error against each reference."""
    groups: dict[tuple[str, ...], list[Found]] = {}
    for f in found:
        groups.setdefault((f.case, f.input) if each else (f.case,), []).append(f)
    who = [w for w in LIMITS if any(w in f.errors for f in found)]
    rows = [
        [
            ", ".join(key),
            str(len(of)),
            *(f"{max(f.errors.get(w, 0.0) for f in of):.1e}" for w in who),
        ]
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
        p.exit(
            2,
            f"--op {a.op!r} is in no name; choose from {', '.join(c.name for c in cases(a.seed))}\n",
        )
    try:
        xp = namespace(a.backend)
    except ConfigError as e:
        p.exit(2, f"{e}\n")
    found = [f for case in chosen for f in check(case, a.seed, dtype=np.dtype(a.dtype), xp=xp)]
    failed = [f for f in found if not f.ok]
    if a.json:
        print(
            json.dumps(
                [{"pair": f.case, "gradient": f.input, "ok": f.ok, **f.errors} for f in found],
                indent=1,
            )
        )
        return 1 if failed else 0
    print(tell(found, a.each))
    for f in failed:
        errors = ", ".join(f"{w} {e:.1e}" for w, e in f.errors.items())
        print(f"FAILS  {f.case}: gradient of {f.input} ({errors})")
    print(f"{len(found) - len(failed)} of {len(found)} gradients agree with every reference")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
