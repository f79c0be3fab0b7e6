"""The table: ours in milliseconds, then as a ratio to each of the others."""

from typing import Any

from memsinks_np._internal.tables import table

OURS, MASKED, TORCH, TORCH_MASKED = "ours gathered", "ours masked", "torch gathered", "torch masked"


def tell(rows: list[dict[str, Any]], threads: int) -> str:
    """Ours in milliseconds, and as a ratio to each of the others (below 1: ours is faster).

    What the floor gains from more threads is what the machine gives at that moment: cores are shared with others.
    """
    others = ["floor", TORCH, TORCH_MASKED, "jax gathered", "jax masked", "autograd", MASKED]
    lines = []
    for name in dict.fromkeys(r["shape"] for r in rows):
        own = median_of(rows, name, OURS, threads)
        gains = [
            ratio(median_of(rows, name, it, 1), median_of(rows, name, it, threads))
            for it in (OURS, "floor")
        ]
        ratios = [ratio(own, median_of(rows, name, other, threads)) for other in others]
        lines.append([name, f"{own:.1f}", *gains, *ratios])
    head = [
        "shape",
        f"ours, ms ({threads} threads)",
        "speed-up from 1",
        "the floor's",
        *(f"/ {o}" for o in others),
    ]
    return table(head, lines)


def median_of(
    rows: list[dict[str, Any]], shape: str, implementation: str, threads: int
) -> float | None:
    key = (shape, implementation, threads)
    return next(
        (r["median_ms"] for r in rows if (r["shape"], r["implementation"], r["threads"]) == key),
        None,
    )


def ratio(a: float | None, b: float | None) -> str:
    return f"{a / b:.2f}" if a and b else "-"
