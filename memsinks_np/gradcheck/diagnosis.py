"""What is wrong with a gradient: the pattern of its error, and the first op that fails.

A pattern is computed, not guessed: the wrong gradient is compared with transposes, multiples and
sums of the right one.
"""

import traceback
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from memsinks_np.gradcheck import GradientError

ROOT = Path(__file__).resolve().parents[2]


def is_same(a: Any, b: Any, tol: float) -> bool:
    """Return whether two arrays have one shape, and entries equal up to tol times the largest."""
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tol * (np.abs(b).max() or 1.0))


def pattern(got: Any, want: Any, others: dict[str, Any], terms: dict[str, Any], tol: float) -> str:
    """Return how a wrong gradient, or a wrong step, differs from the right one.

    `others` are the right gradients of the other inputs, `terms` arrays of which a multiple may be
    missing. Patterns that leave less freedom are tried first.
    """
    if not np.isfinite(got).all():
        return f"{np.sum(~np.isfinite(got))} of {got.size} entries are not finite"
    if is_same(got, -want, tol):
        return "the sign is wrong"
    for axes in permutations(range(want.ndim)):
        if list(axes) != sorted(axes) and is_same(got, want.transpose(axes), tol):
            return f"a transpose: the right gradient with its axes in the order {axes}"
    for name, other in others.items():
        if is_same(got, other, tol):
            return f"a swap: this is the gradient of {name}"
    if got.shape != want.shape:
        return shape_pattern(got, want, tol)
    return (
        factor_pattern(got, want, tol)
        or place_pattern(got, want, tol)
        or axis_pattern(got, want, tol)
        or term_pattern(got, want, terms, tol)
        or "none of the simple ones (factor, sign, transpose, swap, missing sum or term)"
    )


def shape_pattern(got: Any, want: Any, tol: float) -> str:
    """Return over which axes a gradient of another shape must be summed, if that makes it right."""
    for n in range(1, got.ndim + 1):
        for axes in combinations(range(got.ndim), n):
            total = got.sum(axis=axes)
            if total.size == want.size and is_same(total.reshape(want.shape), want, tol):
                return f"a missing sum over {axes_named(axes)}"
    return "another shape"


def factor_pattern(got: Any, want: Any, tol: float) -> str:
    """Return the number of which the wrong gradient is a multiple, if there is one."""
    if not got.any():
        return "a factor of 0: the gradient is zero everywhere"
    c = ratio(got, want)
    if is_same(got, c * want, tol):
        return f"a factor: {as_number(c.item(), tol)} times the right values everywhere"
    return ""


def axis_pattern(got: Any, want: Any, tol: float) -> str:
    """Return along which axes the factor is the same, if there are any."""
    axes = [axis for axis in range(want.ndim) if want.shape[axis] > 1]
    same = [axis for axis in axes if is_same(got, ratio(got, want, axis) * want, tol)]
    return f"a factor, the same along {axes_named(same)}" if same else ""


def ratio(got: Any, want: Any, axis: int | None = None) -> Any:
    """Return the factor c that brings c * want closest to got: one number, or one per line."""
    square = np.sum(want * want, axis=axis, keepdims=True)
    return np.sum(got * want, axis=axis, keepdims=True) / np.where(square == 0, 1, square)


def place_pattern(got: Any, want: Any, tol: float) -> str:
    """Return where a gradient is wrong, if that is where it should be zero, or some rows only."""
    wrong = np.abs(got - want) > tol * (np.abs(want).max() or 1.0)
    if (wrong & (want == 0)).any():
        where = np.argwhere(wrong & (want == 0))[0].tolist()
        return f"a lost mask: not zero where it must be, as at {where}"
    for axis in range(want.ndim):
        across = tuple(other for other in range(want.ndim) if other != axis)
        bad, used = wrong.any(axis=across), (want != 0).any(axis=across)
        if (used & ~bad).any():
            rows = ", ".join(map(str, np.flatnonzero(bad)))
            return f"right, but wrong at {rows} of {axes_named([axis])}"
    return ""


def term_pattern(got: Any, want: Any, terms: dict[str, Any], tol: float) -> str:
    """Return which term is missing: one that is the same along an axis, or a multiple of `terms`.

    A term that is the same along an axis is what a sum or a mean over this axis adds.
    """
    missing = want - got
    long = [axis for axis in range(want.ndim) if want.shape[axis] > 1]
    mean = {axis: missing.mean(axis=axis, keepdims=True) + 0 * missing for axis in long}
    same = [axis for axis in long if is_same(missing, mean[axis], tol)]
    if same:
        return f"a missing term, equal along {axes_named(same)}: probably a sum or a mean"
    for name, term in terms.items():
        if term.shape == want.shape:
            c = np.sum(missing * term) / (np.sum(term * term) or 1.0)
            if is_same(missing, c * term, tol):
                return f"a missing term: {as_number(c, tol)} times {name}"
    return ""


def axes_named(axes: Sequence[int]) -> str:
    """Return "axis 0", or "axes 0, 1"."""
    return f"ax{'i' if len(axes) == 1 else 'e'}s {', '.join(map(str, axes))}"


def as_number(c: float, tol: float) -> str:
    """Return a number, and the fraction or the square root that it is."""
    for power, form in ((1, "{}"), (2, "sqrt({})")):
        near = Fraction(abs(c) ** power).limit_denominator(50)
        if abs(float(near) - abs(c) ** power) <= tol * abs(c) ** power:
            exact = ("-" if c < 0 else "") + form.format(near)
            return exact if near.denominator == 1 and power == 1 else f"{c:.4g} = {exact}"
    return f"{c:.6g}"


def place_of(function: Callable[..., Any]) -> str:
    """Return the file and line where a function stands, and its name."""
    code = function.__code__
    return f"{short(code.co_filename)}:{code.co_firstlineno}, {function.__name__}"


def raised_at(e: Exception) -> str:
    """Return the last line that an exception passed, outside this folder and NumPy."""
    ours, numpy = Path(__file__).parent, Path(np.__file__).parent
    frames = [(Path(f.filename), f.lineno) for f in traceback.extract_tb(e.__traceback__)]
    lines = [(p, n) for p, n in frames if p.parent != ours and not p.is_relative_to(numpy)]
    return f"at {short(str(lines[-1][0]))}:{lines[-1][1]}" if lines else ""


def short(file: str) -> Path:
    """Return a file's path, from this repository's root if it is there."""
    return Path(file).relative_to(ROOT) if Path(file).is_relative_to(ROOT) else Path(file)


def culprit(results: Sequence["GradientError"], places: dict[str, str]) -> str:
    """Return where to look first, given all results in an order in which callers come later.

    Of the first op that fails it is the last gradient in the forward's order: the backward computes
    it first. Later failures may be consequences, and get one line.
    """
    failed = [r for r in results if not r.ok]
    first = failed[0].case
    wrong = [r for r in failed if r.case == first]
    right = [r.input for r in results if r.case == first and r.ok]
    later = dict.fromkeys(r.case for r in failed if r.case != first)
    r = wrong[-1]
    error, reference = r.largest
    what = "" if "definition" in r.errors else "gradient of "
    return "\n".join(
        [
            *([f"wrong too, maybe as a consequence: {'; '.join(later)}"] if later else []),
            f"FAILED: {first}, {what}{', '.join(r.input for r in wrong)}",
            *([f"  right    {', '.join(right)}"] if right else []),
            f"  look at  {r.input}, wrong by {error:.1e} ({reference})",
            *(f"  {name:8} {note}" for name, note in r.notes.items()),
            f"  in       {places[first]}",
        ]
    )
