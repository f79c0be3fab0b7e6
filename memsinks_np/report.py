"""How results are told: claims that hold or fail, tables, and files that are whole or absent."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Claim(NamedTuple):
    """One sentence, its source, what was measured, and whether it holds here."""

    text: str
    source: str
    measured: str
    holds: bool


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def spread(mean: float | None, std: float | None, digits: int = 3) -> str:
    """mean ± standard deviation over seeds, the latter only where there is one."""
    return number(mean, digits) + (f" ± {std:.{digits}f}" if std and mean is not None else "")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that lines up on a terminal too; the first column to the left, the others to the right."""
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (f"{c:{'<' if i == 0 else '>'}{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def tell_claims(claims: Sequence[Claim]) -> str:
    """A line per claim, those that fail said as plainly as those that hold."""
    width = max(len(c.text) for c in claims)
    return "\n".join(
        f"{'holds' if c.holds else 'FAILS'}  {c.text:{width}s}  {c.measured}  [{c.source}]" for c in claims
    )


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
    return json.dumps(value, indent=1) + "\n"


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
