"""Check every hand-written gradient of the package: `python -m memsinks_np.gradcheck`.

The last lines say where to look first: an op, a gradient, the pattern of its error, a file.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from memsinks_np._internal.backend import BACKENDS, namespace
from memsinks_np._internal.command import run_command
from memsinks_np._internal.tables import table
from memsinks_np.config import ConfigError, check_seed, require
from memsinks_np.gradcheck import LIMITS, GradientError, check, describe
from memsinks_np.gradcheck.cases import cases
from memsinks_np.gradcheck.diagnosis import culprit, place_of, raised_at
from memsinks_np.gradcheck.optimizer import NAME, check_optimizer
from memsinks_np.optim import update


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    p = argparse.ArgumentParser(
        prog="python -m memsinks_np.gradcheck",
        description="Check every hand-written gradient against autograd, central differences, the "
        "complex step and, if it is installed, PyTorch; and the optimizer's rule for sinks.",
    )
    p.add_argument("--op", default="", help="only ops with this in their name (default: all)")
    p.add_argument("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    dtypes = ["float64", "float32"]
    p.add_argument("--dtype", choices=dtypes, default="float64", help="default: float64")
    p.add_argument("--backend", choices=BACKENDS, default="numpy", help="default: numpy")
    p.add_argument("--each", action="store_true", help="one row per gradient, with its worst entry")
    p.add_argument("--json", action="store_true", help="print the errors as JSON")
    return p


def tabulate(results: list[GradientError]) -> str:
    """Return a table of the largest error against each reference, per op."""
    groups: dict[str, list[GradientError]] = {}
    for r in results:
        groups.setdefault(r.case, []).append(r)
    names = [name for name in LIMITS if any(name in r.errors for r in results)]
    rows = [
        [
            op,
            str(len(group)),
            *(largest([r.errors[name] for r in group if name in r.errors]) for name in names),
        ]
        for op, group in groups.items()
    ]
    return table(["op", "grads", *names], rows)


def tabulate_each(results: list[GradientError]) -> str:
    """Return a table of each gradient's largest error and the entry where it is largest.

    Of several references it is the one whose error is largest in units of its limit.
    """
    rows = []
    for r in results:
        error, reference = r.largest
        entry = ",".join(map(str, r.worst)) or "-"
        verdict = "ok" if r.ok else "WRONG"
        rows.append([f"{r.case}, {r.input}", reference, f"{error:.1e}", entry, verdict])
    return table(["gradient", "reference", "error", "entry", "verdict"], rows)


def largest(errors: list[float]) -> str:
    """Return the largest error, or "-" if the reference abstained."""
    return f"{max(errors):.1e}" if errors else "-"


def run(args: argparse.Namespace) -> tuple[list[GradientError], dict[str, str]]:
    """Check the chosen ops; return the results, and the place of each op's backward.

    Raises ConfigError for options that cannot work.
    """
    check_seed(args.seed)
    places = {case.name: place_of(case.source or case.backward) for case in cases(args.seed)}
    places[NAME] = place_of(update)
    chosen = [name for name in places if args.op in name]
    require(bool(chosen), f"--op {args.op!r} matches no op; choose from {', '.join(places)}")
    xp, dtype = namespace(args.backend), np.dtype(args.dtype)
    results = [
        r
        for case in cases(args.seed)
        if case.name in chosen
        for r in attempt(case.name, partial(check, case, args.seed, dtype=dtype, xp=xp))
    ]
    if NAME in chosen:
        results += attempt(NAME, partial(check_optimizer, args.seed, dtype, xp))
    return results, places


def attempt(name: str, checks: Callable[[], list[GradientError]]) -> list[GradientError]:
    """Run the checks of one op. An op that raises has failed, like one whose gradient is wrong."""
    try:
        return checks()
    except Exception as e:
        note = f"{describe(e)} {raised_at(e)}"
        return [GradientError(name, "all", {"autograd": np.inf}, {"raised": note})]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a gradient is wrong."""
    p = parser()
    args = p.parse_args(argv)
    try:
        results, places = run(args)
    except ConfigError as e:
        p.exit(2, f"{e}\n")
    n_failed = sum(not r.ok for r in results)
    if args.json:
        rows = [
            {"op": r.case, "gradient": r.input, "ok": r.ok, **r.errors, "notes": r.notes}
            for r in results
        ]
        print(json.dumps(rows, indent=1))
        return bool(n_failed)
    gradients = [r for r in results if r.case != NAME]
    steps = [r for r in results if r.case == NAME]
    if args.each:
        print(tabulate_each(results))
    else:
        print("\n".join(tabulate(group) for group in (gradients, steps) if group))
    if gradients:
        n_ok, n = sum(r.ok for r in gradients), len(gradients)
        print(f"{n_ok} of {n} gradients agree with every reference")
    if steps and all(r.ok for r in steps):
        print("the optimizer leaves inactive sinks untouched; active ones take a step of AdamW")
    if n_failed:
        print(culprit(results, places))
    return bool(n_failed)


if __name__ == "__main__":
    run_command("gradcheck", main)
