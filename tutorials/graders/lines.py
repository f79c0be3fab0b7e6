"""Compare a backward that a reader writes with the right one, line by line."""

import sys
from collections.abc import Callable
from inspect import unwrap
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.typing import Array
from tutorials.graders import AnswerError, verdict


class Line(NamedTuple):
    """A line of the answer: the variable that it sets, and what is typically wrong with it."""

    name: str
    right: Array
    hint: str  # for every mistake that is not in `slips`
    slips: dict[str, Array] | None = None  # hint -> the value that a typical mistake gives


def grade_lines(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    lines: list[Line],
    praise: str,
    returns: tuple[str, ...],
) -> str:
    """Run the answer. Say that every line is right, or which is the first that differs, and how.

    `returns` are the names of the variables that it returns.
    """
    found, error = run_and_look(unwrap(function), args)
    for i, line in enumerate(lines):
        hint = difference(line, found, error)
        if hint:
            right = " and ".join(f"`{earlier.name}`" for earlier in lines[:i])
            verb = "is right" if i == 1 else "are right"
            return verdict(False, "", f"{right} {verb}; {hint}" if right else hint)
    if error is not None:
        raise AnswerError(f"every line is right, then came {type(error).__name__}: {error}")
    returned = found["return"] if len(returns) > 1 else (found["return"],)
    if not isinstance(returned, tuple) or [*map(id, returned)] != [id(found[n]) for n in returns]:
        raise AnswerError(f"every line is right, but the end is not `return {', '.join(returns)}`")
    return verdict(True, praise, "")


def run_and_look(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[dict[str, Any], Exception | None]:
    """Run a function. Return its local variables and "return", and the exception if one came.

    The entries of a dictionary `d` are there as `d["name"]`, too.
    """
    found: dict[str, Any] = {}
    error = None
    code = getattr(function, "__code__", None)

    def look(frame: Any, event: str, returned: Any) -> None:
        if event == "return" and frame.f_code is code:
            found.update(frame.f_locals, **{"return": returned})
            for name, value in frame.f_locals.items():
                if isinstance(value, dict):
                    found.update({f'{name}["{key}"]': entry for key, entry in value.items()})

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        function(*args)
    except Exception as e:
        error = e
    finally:
        sys.setprofile(before)
    return found, error


def difference(line: Line, found: dict[str, Any], error: Exception | None) -> str | None:
    """Return how the line's value differs from the right one; None if it does not."""
    name, right = f"`{line.name}`", line.right
    if line.name not in found:
        if error is not None:
            return f"{name} raised {type(error).__name__}: {error}; {line.hint}"
        return f"there is no {name}: keep the names of the cell"
    if found[line.name] is None:
        return f"{name} is None: write this line"
    value = np.asarray(found[line.name])
    if not np.issubdtype(value.dtype, np.number):
        return f"{name} is not an array of numbers"
    if is_close(value, right):
        return None
    for hint, wrong in (line.slips or {}).items():
        if is_close(value, wrong):
            return f"{name} differs: {hint}"
    if value.shape != right.shape:
        return f"{name} has shape {value.shape} and should have {right.shape}; {line.hint}"
    factor = np.sum(value * right) / np.sum(right * right)
    if is_close(value, -right):
        return f"{name} has the wrong sign"
    if factor != 0 and is_close(value, factor * right):
        return f"{name} is {factor:.4g} times what it should be: a factor is missing, or too many"
    return f"{name} differs: {line.hint}"


def is_close(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=1e-12))
