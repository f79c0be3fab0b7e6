"""Time one whole training step (forward, backward, optimizer) of this project and of its peers.

    python -m benchmarks.step            all shapes, on one core, then on two
    python -m benchmarks.step --ops      where the time of our step goes
    python -m benchmarks.step --quick    the default shape on one core, few repetitions

All implementations of a shape run in one process, in turn, many times over; the table shows ratios
of medians. Before anything is timed, all must produce the same loss and the same gradients.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from timeit import repeat
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_info
from tqdm import tqdm

from benchmarks.breakdown import op_rows, tabulate_ops
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
    V: int = 100

    def model(self) -> ModelConfig:
        """Return the model's configuration; `active` replaces its choice of sinks."""
        pool = SinkConfig(n_sink=self.n_sink, n_active=1)
        sizes = {"n_ctx": self.T, "d_model": self.C, "n_layers": self.L, "n_shared": self.n_shared}
        return ModelConfig(n_vocab=self.V, sinks=pool, **sizes)

    def tokens(self) -> np.ndarray:
        """Return (B,T+1) random tokens."""
        return np.random.default_rng(2).integers(self.V, size=(self.B, self.T + 1))

    def active(self) -> np.ndarray:
        """Return (B,A) distinct sinks for each sequence."""
        rng = np.random.default_rng(1)
        rows = [np.sort(rng.permutation(self.n_sink)[: self.n_active]) for _ in range(self.B)]
        return np.stack(rows)


SHAPES = [
    Shape("paper", n_shared=179, n_sink=77, n_active=23),
    Shape("default"),
    Shape("people", n_sink=512, n_active=16, B=32, T=29, V=158),  # of the headline
    Shape("vocabulary", V=4096),
    *(Shape(f"pool-{S}", n_sink=S) for S in (512, 4096, 16384, 65536)),
    Shape("wide", n_shared=256, n_sink=1024, n_active=64, B=32, T=64, C=128, L=4),
]


def installed(name: str) -> bool:
    """Return whether a package can be imported."""
    return importlib.util.find_spec(name) is not None


def implementations(
    shape: Shape, pool: ThreadPoolExecutor | None, with_peers: bool, with_compiled: bool
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
    if installed("torch") and with_compiled and shutil.which("c++"):
        peers["torch compiled"] = torch_peer(*args, masked=False, compiled=True)
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


def measure(
    shape: Shape, threads: int, seconds: float, with_peers: bool = True, with_compiled: bool = False
) -> list[Row]:
    """Time every implementation, in turn, about `seconds` each.

    All of them take turns, so that other work on the machine slows down all of them. On one thread,
    time is that of the processor, which leaves out waiting for other work.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    if with_peers:
        set_torch_threads(threads)
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        run_in = pool if threads > 1 else None
        steps = implementations(shape, run_in, with_peers, with_compiled)
        times: dict[str, list[float]] = {name: [] for name in steps}
        slowest = {
            name: max(repeat(step, timer=clock, number=1, repeat=2)) for name, step in steps.items()
        }
        turns = range(max(2, round(12 * seconds)))
        for turn in tqdm(turns, desc=f"{shape.name}, {threads} thread(s)", disable=None):
            for name, step in steps.items():
                if turn >= 2 and turn * slowest[name] * BLOCK > seconds * 3:
                    continue  # the slowest take fewer turns
                time.sleep(0.02)  # until the threads of the previous one have stopped spinning
                step()
                times[name] += repeat(step, timer=clock, number=1, repeat=BLOCK)
    return [
        {
            "shape": shape.name,
            "n_sink": shape.n_sink,
            "implementation": name,
            "threads": threads,
            "median_ms": float(np.median(t)) * 1e3,
        }
        for name, t in times.items()
    ]


def on_cores(n: int, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a new process on `n` cores: JAX has no other way to use fewer."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=use_cores, initargs=(n,)) as process:
        return process.submit(function, *args).result()


def use_cores(n: int) -> None:
    """Restrict this process to `n` of its cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-n:])


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
    step_ms = median_of(rows, "pool-65536", OURS, 1)
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
    p.add_argument("--quick", action="store_true", help="the default shape, one thread, few turns")
    p.add_argument("--ops", action="store_true", help="where the time of our step goes, per op")
    p.add_argument(
        "--alone", action="store_true", help="without the peers, whose threads slow down the others"
    )
    p.add_argument("--shapes", nargs="+", choices=[s.name for s in SHAPES], help="default: all")
    p.add_argument("--threads", type=int, nargs="+", choices=[1, 2], help="default: 1 2")
    out = Path("runs/benchmarks")
    p.add_argument("--out", type=Path, default=out, help=f"default: {out}")
    a = p.parse_args(argv)
    try:
        a.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        p.error(f"--out {a.out}: cannot write there ({e.strerror}); choose another folder")
    names = a.shapes or (["default"] if a.quick else [s.name for s in SHAPES])
    shapes, seconds = [s for s in SHAPES if s.name in names], 0.5 if a.quick else 2.0
    if a.ops:
        for shape in shapes:
            rows = on_cores(1, op_rows, shape, seconds)
            print(f"{shape.name}, one thread\n{tabulate_ops(rows)}\n")
        return 0
    rows: list[Row] = []
    threads = a.threads or ([1] if a.quick else [1, 2])
    for shape in shapes:
        for n in threads:
            rows += on_cores(n, measure, shape, n, seconds, not a.alone, not (a.alone or a.quick))
    for n in threads:
        print(f"{n} thread(s)\n{tabulate(rows, n)}\n")
    with one_blas_thread():
        fraction = selection_fraction(rows)
    if fraction is not None:
        print(f"choosing the sinks of a batch takes {fraction:.1%} of a step with 65,536 sinks")
    result = {"rows": rows, "machine": machine(), "selection_fraction": fraction}
    write_atomic(a.out / "step.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    draw(rows, min(threads), a.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
