"""Graders of the tutorials' exercises, one module a page: they say whether an answer is right, never the answer."""

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from memsinks_np.config import ConfigError

NOT_GIVEN = "put your answer in the place of None"
Grader = TypeVar("Grader", bound=Callable[..., str])


def verdict(ok: bool, praise: str, hint: str) -> str:
    """Print and return one line: "right: PRAISE" if `ok`, else "not yet: HINT"."""
    line = f"right: {praise}" if ok else f"not yet: {' '.join(hint.split())}"
    print(line)
    return line


class Slip(Exception):
    """What went wrong in a reader's function, to be said in one line."""


def heard(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reader's function; Slip with type, message and line where it raises, and where it returns nothing."""

    def call(*args: Any) -> Any:
        try:
            result = function(*args)
        except Exception as e:
            file = getattr(getattr(function, "__code__", None), "co_filename", None)
            lines = [
                at.lineno for at in traceback.extract_tb(e.__traceback__) if at.filename == file
            ]
            where = f" in line {lines[-1]}" if lines else ""
            raise Slip(f"your function raised {type(e).__name__}{where}: {e}") from e
        if result is None:
            raise Slip("your function returned None; is the `return` missing?")
        return result

    return call


def graded(grader: Grader) -> Grader:
    """A grader that always says one line: an answer of another kind than it asks for is "not yet", not a traceback."""

    @wraps(grader)
    def grade(*answers: Any, **options: Any) -> str:
        if any(answer is None for answer in answers):
            return verdict(False, "", NOT_GIVEN)
        try:
            return grader(
                *(heard(answer) if callable(answer) else answer for answer in answers), **options
            )
        except (Slip, ConfigError) as e:  # the latter: what gradcheck says of a backward's outputs
            return verdict(False, "", str(e))
        except Exception as e:
            asked = (grader.__doc__ or "").partition("\n")[0]
            return verdict(False, "", f"{type(e).__name__}: {e}; asked for is: {asked}")

    return cast(Grader, grade)
