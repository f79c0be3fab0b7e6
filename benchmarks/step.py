"""Time one whole training step (forward, backward, optimizer) of this project, its peers and the floor.

    python -m benchmarks.step            all shapes (a few minutes)
    python -m benchmarks.step --quick    the default shape, few repetitions

Everything runs in one process, in turn, many times over; the table shows ratios of medians.  Before anything is
timed, all implementations must produce the same loss and the same gradients.
"""

import argparse
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_info
from tqdm import tqdm

from benchmarks.draw import draw
from benchmarks.floor import floor_step
from benchmarks.peers import Peer, autograd_peer, jax_peer, ours_by, torch_peer
from benchmarks.ratios import MASKED, OURS, median_of, tell
from memsinks_np import __version__
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.files import write_atomic
from memsinks_np.config import ModelConfig, SinkConfig
from memsinks_np.experiments.report.claims import to_json
from memsinks_np.model import init_params
from memsinks_np.sinks import active

LARGEST_MASKED = 4096  # masked variants compute the whole pool: beyond this they only wait
BLOCK = 4  # steps that are timed in a row, after one that is not


class Shape(NamedTuple):
    """One size of model and batch."""

    name: str
    n_shared: int = 128
    n_sink: int = 2048
    n_active: int = 32
    B: int = 64
    T: int = 32
    C: int = 64
    L: int = 2

    def model(self) -> ModelConfig:
        pool = SinkConfig(n_sink=self.n_sink, n_active=1)
        sizes = {"n_ctx": self.T, "d_model": self.C, "n_layers": self.L, "n_shared": self.n_shared}
        return ModelConfig(n_vocab=100, sinks=pool, **sizes)


SHAPES = [
    Shape("paper", n_shared=179, n_sink=77, n_active=23),
    Shape("default"),
    *(Shape(f"pool-{S}", n_sink=S) for S in (512, 4096, 16384, 65536)),
    Shape("wide", n_shared=256, n_sink=1024, n_active=64, B=32, T=64, C=128, L=4),
]


def sinks_of(shape: Shape) -> np.ndarray:
    """(B,A) distinct sinks for each sequence."""
    rng = np.random.default_rng(1)
    return np.stack(
        [np.sort(rng.permutation(shape.n_sink)[: shape.n_active]) for _ in range(shape.B)]
    )


def contestants(shape: Shape, threads: int, stack: ExitStack, peers_too: bool) -> dict[str, Any]:
    """Everything that is timed for one shape, until the stack is closed: name -> a function that takes one step."""
    cfg, index = shape.model(), sinks_of(shape)
    params = init_params(cfg)
    tokens = np.random.default_rng(2).integers(cfg.n_vocab, size=(shape.B, shape.T + 1))
    args = (cfg, params, tokens, index)
    peers = {OURS: ours_by(threads, stack, *args, False)}
    small = shape.n_sink <= LARGEST_MASKED
    if small and peers_too:
        peers[MASKED] = ours_by(threads, stack, *args, True)
        peers["autograd"] = autograd_peer(*args)
    for name, maker in (("torch", torch_peer), ("jax", jax_peer)):
        if installed(name) and peers_too:
            peers[f"{name} gathered"] = maker(*args, masked=False)
            if small:
                peers[f"{name} masked"] = maker(*args, masked=True)
    must_agree(peers)
    steps = {name: peer.step for name, peer in peers.items()}
    steps["floor"] = floor_step(cfg, shape.B, shape.n_active, threads, stack)
    return steps


def installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def must_agree(peers: dict[str, Peer]) -> None:
    """The same loss and gradients from all of them, in float32; SystemExit names the one that differs."""
    want_loss, want = peers[OURS].loss_and_grads()
    for name, peer in peers.items():
        loss, got = peer.loss_and_grads()
        worst = max(float(np.abs(got[k] - want[k]).max() / np.abs(want[k]).max()) for k in want)
        if abs(loss - want_loss) > 1e-4 or worst > 2e-4:
            raise SystemExit(
                f"{name} differs from {OURS}: loss {loss} against {want_loss}, gradients by {worst:.1e}"
            )


def set_threads(threads: int) -> None:
    if installed("torch"):
        import torch

        torch.set_num_threads(threads)


def measure(
    shape: Shape, threads: list[int], seconds: float, peers_too: bool = True
) -> list[dict[str, Any]]:
    """Rows of one shape: every contestant with each number of threads, in turn, for about `seconds` each.

    One thread and two take turns as well, so that a machine busy with other things slows down both.
    """
    with ExitStack() as stack:
        steps = {
            (n, name): step
            for n in threads
            for name, step in contestants(shape, n, stack, peers_too).items()
        }
        times: dict[tuple[int, str], list[float]] = {key: [] for key in steps}
        slow = {key: max(timed(step) for _ in range(2)) for key, step in steps.items()}
        for turn in tqdm(range(max(2, round(12 * seconds))), desc=shape.name, disable=None):
            for (n, name), step in steps.items():
                if (
                    turn < 2 or turn * slow[n, name] * BLOCK <= seconds * 3
                ):  # the slowest come fewer times
                    if peers_too:
                        set_threads(n)
                    time.sleep(0.02)  # the one before may have threads that still spin
                    step()
                    times[n, name] += [timed(step) for _ in range(BLOCK)]
    return [
        {
            "shape": shape.name,
            "implementation": name,
            "threads": n,
            "median_ms": float(np.median(t)) * 1e3,
            "min_ms": min(t) * 1e3,
        }
        for (n, name), t in times.items()
    ]


def timed(step: Any) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def selection_share(rows: list[dict[str, Any]]) -> float | None:
    """Choosing the sinks of 64 fresh IDs in the largest pool, as a share of our step there; None if not measured."""
    cfg = SinkConfig(n_sink=65536, n_active=32)
    times = [timed(lambda i=i: active(cfg, i * 64 + np.arange(64))) for i in range(200)]
    ours_there = median_of(rows, "pool-65536", OURS, max(r["threads"] for r in rows))
    return float(np.median(times)) * 1e3 / ours_there if ours_there else None


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = next(
        (x.split(":")[1].strip() for x in cpu_lines() if x.startswith("model name")),
        platform.processor(),
    )
    blas = [
        f"{i['internal_api']} {i['version']} {i.get('architecture', '')}" for i in threadpool_info()
    ]
    from importlib.metadata import version

    versions = {n: version(n) for n in ("numpy", "autograd", "torch", "jax") if installed(n)}
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "blas": blas,
        "memsinks_np": __version__,
        **versions,
    }


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.step", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("--quick", action="store_true", help="the default shape alone, few repetitions")
    p.add_argument(
        "--alone",
        action="store_true",
        help="without the peers, whose libraries slow down what runs beside",
    )
    p.add_argument("--shapes", nargs="+", choices=[s.name for s in SHAPES], help="default: all")
    p.add_argument(
        "--threads", type=int, nargs="+", choices=[1, 2], default=[1, 2], help="default: 1 2"
    )
    p.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="default: runs/benchmarks"
    )
    a = p.parse_args(argv)
    try:
        a.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        p.error(f"--out {a.out}: cannot write there ({e.strerror}); choose another folder")
    names = a.shapes or (["default"] if a.quick else [s.name for s in SHAPES])
    seconds = 0.5 if a.quick else 2.0
    with one_blas_thread():
        chosen = [s for s in SHAPES if s.name in names]
        rows = []
        for shape in chosen:
            rows += measure(shape, a.threads, seconds, not a.alone)
        share = selection_share(rows)
    print(tell(rows, max(a.threads)))
    if share is not None:
        print(f"choosing the sinks of a batch takes {share:.1%} of the step at a pool of 65,536")
    write_atomic(
        a.out / "step.json", to_json({"rows": rows, "machine": machine(), "selection_share": share})
    )
    draw(rows, max(a.threads), a.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
