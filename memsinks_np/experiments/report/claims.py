"""Claims that hold or fail, estimates over seeds, and results as JSON and CSV."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.terminal import GREEN, RED, styled, wrap
from memsinks_np.config import ConfigError, require
from memsinks_np.experiments.registry import EXPERIMENTS

INDENT = 7 * " "
QUICK = "This was --quick: it shows that everything works, but its numbers mean nothing."


class Claim(NamedTuple):
    """One sentence, the paper's value, the value measured here, and whether it holds here."""

    text: str
    paper: str  # "Fig. 4b: 1.83 of 2.98", or "ours"
    here: str  # mean and 95 % interval over seeds
    holds: bool
    why: str = ""  # the likely reason if it fails


T95 = (0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by degrees of freedom


def t95(freedom: int) -> float:
    """Return Student's two-sided 95 % quantile, to three digits.

    From 10 degrees on by its expansion about the normal quantile z (Abramowitz and Stegun 26.7.5).
    """
    if freedom < len(T95):
        return T95[freedom]
    z, n = 1.959964, float(freedom)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def estimate(values: Sequence[float | None] | NDArray[Any], digits: int = 3, sign: str = "") -> str:
    """Return the mean over seeds with its 95 % t-interval, "0.926 [0.918, 0.934]".

    The mean alone for one seed; "-" if one of the numbers does not exist. `sign` is "+" to show a
    sign.
    """
    x, n = np.asarray(values, float), len(values)
    if np.isnan(x).any():
        return "-"
    show: Callable[[float], str] = lambda v: f"{v:{sign}z.{digits}f}"  # z: no "-0.000"
    if n == 1:
        return show(x[0])
    half = t95(n - 1) * x.std(ddof=1) / n**0.5
    return f"{show(x.mean())} [{show(x.mean() - half)}, {show(x.mean() + half)}]"


def above(values: Sequence[float | None] | NDArray[Any], bound: float = 0) -> bool:
    """Return whether the mean is above a bound and, over several seeds, its 95 % interval too.

    A number that does not exist (None) is not above anything.
    """
    x = np.asarray(values, float)
    half = t95(len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5 if len(x) > 1 else 0
    return bool(x.mean() - half > bound)


def below(values: Sequence[float | None] | NDArray[Any], bound: float = 0) -> bool:
    """Return whether the mean is below a bound and, over several seeds, its 95 % interval too."""
    return above(-np.asarray(values, float), -bound)


def minus(a: Sequence[float | None], b: Sequence[float | None]) -> list[float]:
    """Return a - b, seed by seed; NaN where one of the numbers does not exist."""
    difference: list[float] = (np.asarray(a, float) - np.asarray(b, float)).tolist()
    return difference


def format_claims(claims: Sequence[Claim]) -> str:
    """Return the claims as text. Claims that fail are as prominent as those that hold."""
    lines = []
    for c in claims:
        verdict, color = ("holds", GREEN) if c.holds else ("FAILS", RED)
        text = wrap(f"{c.text}  [{c.paper}]", f"{verdict}  ", INDENT)
        lines.append(text.replace(verdict, styled(verdict, color), 1))
        lines.append(wrap(c.here, f"{INDENT}here: ", INDENT + 6 * " "))
        if c.why and not c.holds:
            lines.append(wrap(f"likely because {c.why}", INDENT, INDENT + 6 * " "))
    return "\n".join(lines)


def tabulate_claims(claims: Mapping[str, Sequence[Claim]]) -> str:
    """Return the claims as Markdown, a table per experiment; a claim that fails has a cross."""
    blocks = []
    for name, each in claims.items():
        rows = [["", "claim", "paper", "here (mean [95 % interval])"], ["---"] * 4]
        for c in each:
            why = f" *Likely because {c.why}.*" if c.why and not c.holds else ""
            cells = ("✓" if c.holds else "**✗**", c.text + why, c.paper, c.here)
            rows.append([cell.replace("|", "\\|") for cell in cells])
        held = f"{sum(c.holds for c in each)} of {len(each)}"
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        blocks.append(f"## {name}: {EXPERIMENTS[name].what} ({held} hold)\n\n{table}")
    return "\n\n".join(blocks)


def finished(out: Path) -> list[str]:
    """Return the experiments that have results in a folder. Raises ConfigError if none has."""
    names = [name for name in EXPERIMENTS if (out / name / "result.json").exists()]
    quick = any((out / "quick" / name / "result.json").exists() for name in EXPERIMENTS)
    remedy = "run one with the same --out and --quick first"
    remedy = f"those of --quick are in {out / 'quick'}" if quick else remedy
    require(bool(names), f"--out {out}: no experiment has results there; {remedy}")
    return names


def summarize_claims(out: Path, terminal: bool = False) -> str:
    """Return how many claims hold, the number of seeds, and all claims in a folder.

    The claims are Markdown tables, or for a terminal lines of at most 80 columns.
    """
    claims: dict[str, list[Claim]] = {}
    by_seeds: dict[int, list[str]] = {}
    quick = False
    for name in finished(out):
        try:
            stored = json.loads((out / name / "claims.json").read_text())
            claims[name] = [Claim(**claim) for claim in stored]
            config = json.loads((out / name / "config.json").read_text())
            by_seeds.setdefault(int(config["seeds"]), []).append(name)
            quick = quick or config["quick"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise ConfigError(
                f"{out / name} is damaged ({type(e).__name__}); run python run_toy.py {name} again"
            ) from None
    holds = [claim.holds for each in claims.values() for claim in each]
    runs = "; ".join(
        f"{n} seed{'s' * (n > 1)}: {', '.join(names)}"
        for n, names in sorted(by_seeds.items(), reverse=True)
    )
    count = f"{sum(holds)} of {len(holds)} claims hold ({runs})."
    blocks = [count, tabulate_claims(claims)]
    if terminal:
        blocks = [wrap(count), *(f"# {n}\n\n{format_claims(c)}" for n, c in claims.items())]
    return "\n\n".join(blocks + [QUICK] * quick)


def plain(value: Any) -> Any:
    """Return dataclasses and named tuples as dictionaries, recursively, for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {k: plain(v) for k, v in value._asdict().items()}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def to_json(value: Any) -> str:
    """Return a value as JSON. Raises ConfigError if a number in it is not finite."""
    try:
        return json.dumps(plain(value), indent=1, allow_nan=False) + "\n"
    except ValueError as e:
        raise ConfigError(
            f"a number to be written is not finite ({e}); try settings closer to the defaults"
        ) from None


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows with the same fields as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
