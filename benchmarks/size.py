"""Time and memory of a step while one size grows: do they grow faster than the arithmetic?

    python -m benchmarks.size              every size, on one core
    python -m benchmarks.size --only V     the vocabulary alone

The other sizes are those of *default*. Every batch has 2,048 tokens, so it has fewer sequences if
they are longer. Each size is measured in a process of its own, in processor time.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.breakdown import REST, op_rows
from benchmarks.floor import flat, multiply_adds, products
from benchmarks.peers import ours
from benchmarks.step import Shape, on_cores
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.tables import number, table
from memsinks_np.config import ModelConfig
from memsinks_np.model import init_params

TOKENS = 2048  # in a batch
SIZES = {
    "S": [Shape(f"S={S:,}", n_sink=S) for S in (512, 4096, 32_768, 262_144, 1_048_576)],
    "V": [Shape(f"V={V:,}", V=V) for V in (100, 512, 4096, 16_384, 50_257)],
    "T": [Shape(f"T={T:,}", T=T, B=TOKENS // T) for T in (32, 128, 256, 512, 1024)],
    "C": [Shape(f"C={C}", C=C, n_shared=2 * C) for C in (64, 128, 256, 512)],
}


class SizeRow(NamedTuple):
    """One size: its arithmetic, and what a step takes."""

    name: str
    million_multiply_adds: float
    ms: float
    floor_ms: float  # its matrix products alone
    slowest: str  # op
    share: float  # of the slowest op
    counted_mb: float  # numbers that a step must hold
    peak_mb: float | None  # that the process used, without what it used before; None: unknown


def numbers_held(cfg: ModelConfig, B: int, A: int) -> int:
    """Return how many numbers a step must hold at least.

    Weights and two moments of every parameter, the gradients of the dense ones, and what forward
    keeps for backward, for half a batch of B sequences, which is computed at a time.
    """
    V, T, C, H, G, L = cfg.n_vocab, cfg.n_ctx, cfg.d_model, cfg.n_heads, cfg.n_shared, cfg.n_layers
    dense = cfg.n_params - (2 * L * cfg.sinks.n_sink * C if cfg.sinks else 0)
    attention = 6 * C + H * T  # normalized twice (n and y), q, k, v, merged heads, probabilities
    mlp = 2 * C + 3 * (G + A)  # normalized, and each neuron's input, slope and output
    per_token = L * (attention + mlp) + 2 * C + V
    gathered = L * 2 * A * C  # rows of active sinks, for each sequence
    return 3 * cfg.n_params + dense + B // 2 * (T * per_token + gathered)


def peak_mb() -> float | None:
    """Return the most memory that this process had so far; None where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return kilobytes[0] / 1024 if kilobytes else None


def measure(shape: Shape, seconds: float) -> SizeRow:
    """Take steps of one size for about `seconds`, in a process of its own."""
    cfg, before = shape.model(), peak_mb()
    with one_blas_thread():
        args = (cfg, init_params(cfg), shape.tokens(), shape.active())
        peer = ours(*args, masked=False, in_place=True)
        for _ in range(2):
            peer.step()
    peak = peak_mb()
    del args, peer
    rows = op_rows(shape, seconds)
    slowest = max((row for row in rows if row.op != REST), key=lambda row: row.ms)
    multiplications = multiply_adds(flat(products(cfg, shape.B, shape.n_active)))
    return SizeRow(
        shape.name,
        multiplications / 1e6,
        sum(row.ms for row in rows),
        sum(row.floor_ms or 0 for row in rows),
        slowest.op,
        slowest.share,
        4 * numbers_held(cfg, shape.B, shape.n_active) / 2**20,
        None if peak is None or before is None else peak - before,
    )


def tabulate(rows: list[SizeRow]) -> str:
    """Return time per multiplication and memory per number that is counted."""
    lines = [
        [
            row.name,
            number(row.million_multiply_adds, 0),
            number(row.ms, 1),
            number(1e3 * row.ms / row.million_multiply_adds, 0),
            number(row.ms / row.floor_ms, 1),
            f"{row.slowest} {row.share:.0%}",
            number(row.counted_mb, 0),
            number(row.peak_mb, 0),
            number(row.peak_mb and row.peak_mb / row.counted_mb, 1),
        ]
        for row in rows
    ]
    header = ["size", "million multiply-adds", "ms", "ns per thousand", "/ floor", "slowest op"]
    return table([*header, "counted MB", "peak MB", "ratio"], lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.size", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("--only", nargs="+", choices=list(SIZES), default=list(SIZES))
    p.add_argument("--seconds", type=float, default=2.0, help="for each size (default 2)")
    a = p.parse_args(argv)
    for size in a.only:
        rows = [on_cores(1, measure, shape, a.seconds) for shape in SIZES[size]]
        print(f"{tabulate(rows)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
