"""What every configuration is held to: the types of its annotations, sizes that can exist, one line that says why."""

import math
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

LARGEST = 1 << 24  # of one size


class ConfigError(ValueError):
    """Something that a user chose cannot work; the message is one line that names the value and the remedy."""


def require(ok: bool, message: str) -> None:
    """Raise ConfigError(message) unless `ok`."""
    if not ok:
        raise ConfigError(message)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the annotated type; an int is no bool and fits into int64, a float is finite."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(fits, value, kinds))
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
        return whole or (kind is float and isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


types_of = lru_cache(get_type_hints)


def check_types(config: Any) -> None:
    """ConfigError unless every field holds what its annotation says."""
    for name, kind in types_of(config.__class__).items():
        value = getattr(config, name)
        if not fits(value, kind):
            want = {int: "a Python int below 2**63", float: "a finite Python number"}.get(kind)
            want = want or (f"one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else str(kind))
            raise ConfigError(f"{name}={one_line(value)} cannot be used; give {want}")


def one_line(value: Any) -> str:
    """A value as a short text without line breaks."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_sizes(config: Any, least: int, *names: str) -> None:
    """ConfigError unless each of these fields is at least `least`, and not absurdly large."""
    for name in names:
        value = getattr(config, name)
        require(value >= least, f"{name}={value} is too small; choose at least {least}")
        require(value <= LARGEST, f"{name}={value} is too large; choose at most {LARGEST}")


def check_seed(seed: int) -> None:
    require(seed >= 0, f"seed={seed} is negative; choose 0 or more")
