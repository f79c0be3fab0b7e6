"""Check every hand-written gradient of the package: `python -m memsinks_np.gradcheck`."""

import argparse
import json
from collections.abc import Sequence

import numpy as np

from memsinks_np._internal.backend import BACKENDS, namespace
from memsinks_np._internal.command import run_command
from memsinks_np._internal.tables import table
from memsinks_np.config import ConfigError, check_seed, require
from memsinks_np.gradcheck import LIMITS, GradientError, check
from memsinks_np.gradcheck.cases import cases


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    p = argparse.ArgumentParser(
        prog="python -m memsinks_np.gradcheck",
        description="Check every hand-written gradient against autograd, central differences, the "
        "complex step and, if it is installed, PyTorch.",
    )
    p.add_argument("--op", default="", help="only ops with this in their name (default: all)")
    p.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    dtypes = ["float64", "float32"]
    p.add_argument("--dtype", choices=dtypes, default="float64", help="default: float64")
    p.add_argument("--backend", choices=BACKENDS, default="numpy", help="default: numpy")
    p.add_argument("--per-gradient", action="store_true", help="one row per gradient, not per op")
    p.add_argument("--json", action="store_true", help="print the errors as JSON")
    return p


def tabulate(results: list[GradientError], per_gradient: bool) -> str:
    """Return a table of the largest error against each reference, per op or per gradient."""
    groups: dict[str, list[GradientError]] = {}
    for r in results:
        groups.setdefault(f"{r.case}, {r.input}" if per_gradient else r.case, []).append(r)
    names = [name for name in LIMITS if any(name in r.errors for r in results)]
    rows = [
        [
            key,
            *([] if per_gradient else [str(len(group))]),
            *(largest([r.errors[name] for r in group if name in r.errors]) for name in names),
        ]
        for key, group in groups.items()
    ]
    header = ["gradient"] if per_gradient else ["op", "grads"]
    return table([*header, *names], rows)


def largest(errors: list[float]) -> str:
    """Return the largest error, or "-" if the reference abstained."""
    return f"{max(errors):.1e}" if errors else "-"


def run(args: argparse.Namespace) -> list[GradientError]:
    """Check the chosen ops. Raises ConfigError for options that cannot work."""
    check_seed(args.seed)
    known = cases(args.seed)
    chosen = [case for case in known if args.op in case.name]
    names = ", ".join(case.name for case in known)
    require(bool(chosen), f"--op {args.op!r} matches no op; choose from {names}")
    xp, dtype = namespace(args.backend), np.dtype(args.dtype)
    return [r for case in chosen for r in check(case, args.seed, dtype=dtype, xp=xp)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a gradient is wrong."""
    p = parser()
    args = p.parse_args(argv)
    try:
        results = run(args)
    except ConfigError as e:
        p.exit(2, f"{e}\n")
    failed = [r for r in results if not r.ok]
    if args.json:
        rows = [
            {"op": r.case, "gradient": r.input, "ok": r.ok, **r.errors, "notes": r.notes}
            for r in results
        ]
        print(json.dumps(rows, indent=1))
        return bool(failed)
    print(tabulate(results, args.per_gradient))
    for r in failed:
        errors = [f"{name} {error:.1e}" for name, error in r.errors.items()]
        errors += [f"{name}: {note}" for name, note in r.notes.items()]
        print(f"FAILED: {r.case}, gradient of {r.input} ({', '.join(errors)})")
    print(f"{len(results) - len(failed)} of {len(results)} gradients agree with every reference")
    return bool(failed)


if __name__ == "__main__":
    run_command("gradcheck", main)
