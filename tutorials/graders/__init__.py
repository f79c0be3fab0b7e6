"""Graders of the tutorials' exercises, one module per page. They never reveal the answer."""

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from memsinks_np.config import ConfigError
from memsinks_np.gradcheck import Case, check

NO_ANSWER = "put your answer in the place of None"
Grader = TypeVar("Grader", bound=Callable[..., str])


def verdict(ok: bool, praise: str, hint: str) -> str:
    """Print and return one line: "right: PRAISE" if `ok`, else "not yet: HINT"."""
    line = f"right: {praise}" if ok else f"not yet: {' '.join(hint.split())}"
    print(line)
    return line


def grade_number(
    answer: float, right: float, praise: str, mistakes: dict[float, str], hint: str, tol: float
) -> str:
    """Compare a number with the right one, and with typical mistakes that have their own hint."""
    near = [(abs(answer - value), text) for value, text in mistakes.items()]
    hints = [text for distance, text in sorted(near) if distance <= tol]
    return verdict(abs(answer - right) <= tol, praise, (hints or [hint])[0])


def grade_choice(answer: str, right: str, praise: str, hints: dict[str, str]) -> str:
    """Compare a choice with the right one; `hints` has a line for each of the others."""
    options = [f'"{option}"' for option in sorted({right, *hints})]
    which = f"answer with {', '.join(options[:-1])} or {options[-1]}"
    return verdict(answer == right, praise, hints.get(answer, which))


def wrong_gradients(case: Case) -> dict[str, float]:
    """Return the inputs whose gradient is wrong, with its error; inf for a wrong shape or a NaN."""
    return {e.input: e.errors["autograd"] for e in check(case) if not e.ok}


class AnswerError(Exception):
    """A reader's function raised, or returned nothing. The message is one line."""


def require_shapes(grads: Any, inputs: dict[str, Any], remark: str) -> None:
    """Raise AnswerError unless there is one gradient per input, each with the input's shape."""
    if not isinstance(grads, tuple | list) or len(grads) != len(inputs):
        names = ", ".join(f"d{name}" for name in inputs)
        raise AnswerError(f"return {len(inputs)} gradients: {names}")
    for (name, z), dz in zip(inputs.items(), grads, strict=True):
        if np.shape(dz) != z.shape:
            shapes = f"d{name} has shape {np.shape(dz)} and {name} has {z.shape}"
            raise AnswerError(f"{shapes}; {remark}")


def run_answer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a reader's function: where it raises, or returns None, raise AnswerError."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            result = function(*args)
        except Exception as e:
            file = getattr(getattr(function, "__code__", None), "co_filename", None)
            frames = traceback.extract_tb(e.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == file]
            where = f" in line {lines[-1]}" if lines else ""
            raise AnswerError(f"your function raised {type(e).__name__}{where}: {e}") from e
        if result is None:
            raise AnswerError("your function returned None; is the `return` missing?")
        return result

    return call


def grader(function: Grader) -> Grader:
    """Make a grader print one line for any answer: "not yet" instead of a traceback.

    The first line of its docstring says what it grades: "Grade ...".
    """

    @wraps(function)
    def grade(*answers: Any) -> str:
        if any(answer is None for answer in answers):
            return verdict(False, "", NO_ANSWER)
        try:
            wrapped = (run_answer(a) if callable(a) else a for a in answers)
            return function(*wrapped)
        except (AnswerError, ConfigError) as e:  # ConfigError: gradcheck on a backward's outputs
            return verdict(False, "", str(e))
        except Exception as e:
            wanted = (function.__doc__ or "").partition("\n")[0].removeprefix("Grade ")
            return verdict(False, "", f"{type(e).__name__}: {e}; give {wanted}")

    return cast(Grader, grade)
