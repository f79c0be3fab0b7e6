"""Time one whole training step (forward, backward, optimizer) of this project and of its peers.

    python -m benchmarks.step            all shapes (a few minutes)
    python -m benchmarks.step --quick    the default shape, few repetitions

Everything runs in one process, in turn, many times over; the table shows ratios of medians. Before
anything is timed, all implementations must produce the same loss and the same gradients.
"""

import argparse
import importlib.util
import json
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from timeit import repeat
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_info
from tqdm import tqdm

from benchmarks.floor import floor_step
from benchmarks.peers import Peer, autograd_peer, jax_peer, ours, torch_peer
from benchmarks.report import MASKED, OURS, Row, draw, median_of, tabulate
from memsinks_np import __version__
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.files import write_atomic
from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.model import init_params
from memsinks_np.sinks import active

LARGEST_MASKED = 4096  # masked implementations compute the whole pool; larger ones are skipped
BLOCK = 4  # steps that are timed in a row, after one warm-up step


class Shape(NamedTuple):
    """The sizes of a model and a batch."""

    name: str
    n_shared: int = 128
    n_sink: int = 2048
    n_active: int = 32
    B: int = 64
    T: int = 32
    C: int = 64
    L: int = 2

    def model(self) -> ModelConfig:
        """Return the model's configuration; `active` replaces its choice of sinks."""
        pool = SinkConfig(n_sink=self.n_sink, n_active=1)
        sizes = {"n_ctx": self.T, "d_model": self.C, "n_layers": self.L, "n_shared": self.n_shared}
        return ModelConfig(n_vocab=100, sinks=pool, **sizes)

    def tokens(self) -> np.ndarray:
        """Return (B,T+1) random tokens."""
        return np.random.default_rng(2).integers(100, size=(self.B, self.T + 1))

    def active(self) -> np.ndarray:
        """Return (B,A) distinct sinks for each sequence."""
        rng = np.random.default_rng(1)
        rows = [np.sort(rng.permutation(self.n_sink)[: self.n_active]) for _ in range(self.B)]
        return np.stack(rows)


SHAPES = [
    Shape("paper", n_shared=179, n_sink=77, n_active=23),
    Shape("default"),
    *(Shape(f"pool-{S}", n_sink=S) for S in (512, 4096, 16384, 65536)),
    Shape("wide", n_shared=256, n_sink=1024, n_active=64, B=32, T=64, C=128, L=4),
]


def installed(name: str) -> bool:
    """Return whether a package can be imported."""
    return importlib.util.find_spec(name) is not None


def implementations(
    shape: Shape, pool: ThreadPoolExecutor | None, with_peers: bool
) -> dict[str, Callable[[], Any]]:
    """Return everything that is timed for one shape: name -> a function that takes one step."""
    cfg = shape.model()
    args = (cfg, init_params(cfg), shape.tokens(), shape.active())
    run = pool.map if pool else map
    small = shape.n_sink <= LARGEST_MASKED
    peers = {OURS: ours(*args, masked=False, run=run)}
    if small and with_peers:
        peers[MASKED] = ours(*args, masked=True, run=run)
        peers["autograd"] = autograd_peer(*args)
    for name, peer in (("torch", torch_peer), ("jax", jax_peer)):
        if installed(name) and with_peers:
            peers[f"{name} gathered"] = peer(*args, masked=False)
            if small:
                peers[f"{name} masked"] = peer(*args, masked=True)
    require_agreement(peers)
    steps = {name: peer.step for name, peer in peers.items()}
    return steps | {"floor": floor_step(cfg, shape.B, shape.n_active, pool)}


def require_agreement(peers: dict[str, Peer]) -> None:
    """Raise SystemExit unless all have the same loss and gradients, up to float32 rounding."""
    our_loss, our_grads = peers[OURS].loss_and_grads()
    for name, peer in peers.items():
        loss, grads = peer.loss_and_grads()
        worst = max(
            float(np.abs(grads[k] - g).max() / np.abs(g).max()) for k, g in our_grads.items()
        )
        if abs(loss - our_loss) > 1e-4 or worst > 2e-4:
            raise SystemExit(
                f"{name} differs from {OURS}: loss {loss} and {our_loss}, gradients by {worst:.1e}"
            )


def measure(shape: Shape, threads: list[int], seconds: float, with_peers: bool = True) -> list[Row]:
    """Time every implementation with each number of threads, in turn, about `seconds` each.

    All of them take turns, so that other work on the machine slows down all of them.
    """
    with ExitStack() as stack:
        steps: dict[tuple[int, str], Callable[[], Any]] = {}
        for n in threads:
            pool = stack.enter_context(ThreadPoolExecutor(n)) if n > 1 else None
            by_name = implementations(shape, pool, with_peers)
            steps |= {(n, name): step for name, step in by_name.items()}
        times: dict[tuple[int, str], list[float]] = {key: [] for key in steps}
        slowest = {key: max(repeat(step, number=1, repeat=2)) for key, step in steps.items()}
        for turn in tqdm(range(max(2, round(12 * seconds))), desc=shape.name, disable=None):
            for (n, name), step in steps.items():
                if turn >= 2 and turn * slowest[n, name] * BLOCK > seconds * 3:
                    continue  # the slowest take fewer turns
                if with_peers:
                    set_torch_threads(n)
                time.sleep(0.02)  # until the threads of the previous one have stopped spinning
                step()
                times[n, name] += repeat(step, number=1, repeat=BLOCK)
    return [
        {
            "shape": shape.name,
            "n_sink": shape.n_sink,
            "implementation": name,
            "threads": n,
            "median_ms": float(np.median(t)) * 1e3,
        }
        for (n, name), t in times.items()
    ]


def set_torch_threads(threads: int) -> None:
    """Set PyTorch's number of threads, if it is installed."""
    if installed("torch"):
        import torch

        torch.set_num_threads(threads)


def selection_fraction(rows: list[Row]) -> float | None:
    """Return the time to choose the sinks of 64 new IDs, as a fraction of our step.

    For the largest pool; None if its step was not measured.
    """
    cfg = SinkConfig(n_sink=65536, n_active=32)
    ids = iter(np.arange(200 * 64).reshape(200, 64))
    times = repeat(lambda: active(cfg, next(ids)), number=1, repeat=200)
    step_ms = median_of(rows, "pool-65536", OURS, max(r["threads"] for r in rows))
    return float(np.median(times)) * 1e3 / step_ms if step_ms else None


def machine() -> dict[str, Any]:
    """Return the processor and the versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    packages = [name for name in ("numpy", "autograd", "torch", "jax") if installed(name)]
    return {
        "cpu": models[0] if models else platform.processor(),
        "python": platform.python_version(),
        "threads": threadpool_info(),  # of BLAS: its version and architecture
        "memsinks_np": __version__,
        **{name: version(name) for name in packages},
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.step", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("--quick", action="store_true", help="only the default shape, few repetitions")
    p.add_argument(
        "--alone", action="store_true", help="without the peers, whose threads slow down the others"
    )
    p.add_argument("--shapes", nargs="+", choices=[s.name for s in SHAPES], help="default: all")
    p.add_argument(
        "--threads", type=int, nargs="+", choices=[1, 2], default=[1, 2], help="default: 1 2"
    )
    out = Path("runs/benchmarks")
    p.add_argument("--out", type=Path, default=out, help=f"default: {out}")
    a = p.parse_args(argv)
    try:
        a.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        p.error(f"--out {a.out}: cannot write there ({e.strerror}); choose another folder")
    names = a.shapes or (["default"] if a.quick else [s.name for s in SHAPES])
    rows: list[Row] = []
    with one_blas_thread():
        for shape in SHAPES:
            if shape.name in names:
                rows += measure(shape, a.threads, 0.5 if a.quick else 2.0, not a.alone)
        fraction = selection_fraction(rows)
    print(tabulate(rows, max(a.threads)))
    if fraction is not None:
        print(f"choosing the sinks of a batch takes {fraction:.1%} of a step with 65,536 sinks")
    result = {"rows": rows, "machine": machine(), "selection_fraction": fraction}
    write_atomic(a.out / "step.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    draw(rows, max(a.threads), a.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
