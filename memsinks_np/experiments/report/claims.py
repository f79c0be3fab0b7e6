"""How results are told: claims that hold or fail, tables, and files that are whole or absent."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np.config import ConfigError


class Claim(NamedTuple):
    """One sentence, the paper's figure and value, what was measured here, and whether it holds here."""

    text: str
    paper: str  # "Fig. 4b: 1.83 of 2.98", or "ours"
    here: str  # mean and 95 % interval over seeds
    holds: bool
    why: str = ""  # where it does not hold: the likely reason


T95 = (0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # two-sided, by degrees of freedom


def t95(freedom: int) -> float:
    """Student's t, 95 %, two-sided, to three digits: from 10 degrees on by its expansion about the normal quantile z.

    Abramowitz and Stegun 26.7.5.
    """
    if freedom < len(T95):
        return T95[freedom]
    z, n = 1.959964, float(freedom)
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + terms[0] / n + terms[1] / n**2 + terms[2] / n**3


def estimate(values: Sequence[float] | NDArray[Any], digits: int = 3, sign: str = "") -> str:
    """Mean over seeds with its 95 % t-interval, "0.926 [0.918, 0.934]"; the mean alone for one seed.

    `sign` is "+" where a sign is to be shown.
    """
    x, n = np.asarray(values, float), len(values)
    show: Callable[[float], str] = lambda v: f"{v:{sign}.{digits}f}"
    if n == 1:
        return show(x[0])
    half = t95(n - 1) * x.std(ddof=1) / n**0.5
    return f"{show(x.mean())} [{show(x.mean() - half)}, {show(x.mean() + half)}]"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> str:
    """The same for a page: every text escaped, in a box that scrolls by itself, by keyboard too."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in more) + "</tr>\n"
        for first, *more in rows
    )
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(label)}">'
    return f'{box}<table class="numbers"><tr>{top}</tr>\n{lines}</table></div>'


def tell_claims(claims: Sequence[Claim]) -> str:
    """Some lines per claim, those that fail said as plainly as those that hold."""

    def tell(c: Claim) -> str:
        lines = [f"{'holds' if c.holds else 'FAILS'}  {c.text}  [{c.paper}]", f"       here: {c.here}"]
        return "\n".join(lines + [f"       likely because {c.why}"] * (not c.holds and bool(c.why)))

    return "\n".join(map(tell, claims))


def count_claims(claims: Mapping[str, Sequence[Claim]], seeds: Mapping[str, int]) -> str:
    """One line: how many hold, and the seeds that each experiment was run with."""
    holds = [claim.holds for of in claims.values() for claim in of]
    names: Callable[[int], str] = lambda n: ", ".join(name for name in seeds if seeds[name] == n)
    runs = "; ".join(f"{n} seed{'s' * (n > 1)}: {names(n)}" for n in sorted(set(seeds.values()), reverse=True))
    return f"{sum(holds)} of {len(holds)} claims hold ({runs})."


def tabulate_claims(claims: Mapping[str, Sequence[Claim]]) -> str:
    """All experiments' claims in one table: claim, paper, here, holds?"""
    rows = [
        [name, c.text, c.paper, c.here, "yes" if c.holds else "no" + (f": {c.why}" if c.why else "")]
        for name, of in claims.items()
        for c in of
    ]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [["experiment", "claim", "paper", "here (mean [95 % interval])", "holds?"], ["---"] * 5, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def over_seeds(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{"seeds", "mean", "std"} of rows with the same fields; std divides by n-1, and is 0 for one seed.

    None where a field is None.
    """
    entry: dict[str, Any] = {"seeds": list(rows), "mean": {}, "std": {}}
    for field in rows[0]:
        values = [row[field] for row in rows]
        known = None not in values
        entry["mean"][field] = float(np.mean(values)) if known else None
        entry["std"][field] = (float(np.std(values, ddof=1)) if len(values) > 1 else 0.0) if known else None
    return entry


def plain(value: Any) -> Any:
    """Dataclasses and named tuples as dictionaries, down to what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {k: plain(v) for k, v in value._asdict().items()}
    return value


def to_json(value: Any) -> str:
    """A value as it is written; ConfigError where a number in it is not finite."""
    try:
        return json.dumps(value, indent=1, allow_nan=False) + "\n"
    except ValueError as e:
        raise ConfigError(f"a number to be written is not finite ({e}); try settings nearer to the default") from None


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
