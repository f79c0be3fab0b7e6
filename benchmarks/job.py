"""Time the whole headline on all cores: this project against PyTorch eager.

    python -m benchmarks.job            every method of the headline (several minutes)
    python -m benchmarks.job --quick    small and short: that both do the same

Both train the same methods on the same batches, evaluate the same sequences as often, and measure
the same recall; one process per core, one thread each. The times count only if both do the same:
the losses of the first 50 steps must agree within 1e-4 and the final losses of new documents within
0.01 nats.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.tables import number, table
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments.headline import METHODS
from memsinks_np.experiments.methods import PRESETS, Preset, job, methods_of, quick
from memsinks_np.experiments.recall import measure
from memsinks_np.experiments.runner.cache import Job
from memsinks_np.experiments.runner.workers import Processes, n_cores
from memsinks_np.train import train

FIRST_STEPS, FIRST_LIMIT, LAST_LIMIT = 50, 1e-4, 0.01


class Run(NamedTuple):
    """One training: its processor time, and the numbers that must agree."""

    seconds: float
    losses: list[float]  # of every step
    heldout: float  # loss of new documents at the end, sinks removed
    recall: list[float]  # of facts: in new documents, sinks removed, then in their own, sinks on


def run_ours(job: Job) -> Run:
    """Train and measure one method with this project."""
    start, losses = time.process_time(), []
    with one_blas_thread():
        corpus = load_corpus(job.settings.data)
        model = train(job.method, job.settings, corpus, lambda step, loss: losses.append(loss))
        measured = measure(model)
    seconds = time.process_time() - start
    recall = [*(float(np.mean(facts)) for facts in measured.removed), *measured.own]
    return Run(seconds, losses, model.history[-1].heldout.removed, recall)


def run_torch(job: Job) -> Run:
    """Train and measure one method with PyTorch."""
    from benchmarks import torch_job

    start = time.process_time()
    outcome = torch_job.train(job.method, job.settings, load_corpus(job.settings.data))
    seconds = time.process_time() - start
    return Run(seconds, outcome.losses, outcome.heldout[-1], outcome.recall + outcome.own)


def run_all(function: Callable[[Job], Run], jobs: list[Job]) -> tuple[float, list[Run]]:
    """Run jobs on all cores, and return the wall time with the start of Python, and the runs."""
    start, runs = time.perf_counter(), {}
    with Processes(min(n_cores(), len(jobs))) as processes:
        for i, run in processes.run(function, [(job,) for job in jobs], lambda i, news: None):
            runs[i] = run
    return time.perf_counter() - start, [runs[i] for i in range(len(jobs))]


def difference(a: Run, b: Run) -> tuple[float, float]:
    """Return the largest difference of the first losses, and that of the final held-out losses."""
    first = np.array(a.losses[:FIRST_STEPS]) - np.array(b.losses[:FIRST_STEPS])
    return float(np.abs(first).max()), abs(a.heldout - b.heldout)


def require_same_training(name: str, a: Run, b: Run) -> None:
    """Raise SystemExit unless two runs have trained the same."""
    first, last = difference(a, b)
    if not (first <= FIRST_LIMIT and last <= LAST_LIMIT):
        raise SystemExit(
            f"{name} differs: the first losses by {first:.1e}, new documents by {last:.4f} at the "
            "end"
        )


def tabulate(names: list[str], ours: list[Run], peers: list[Run]) -> str:
    """Return each method's processor time, and how far the two trainings differ."""
    lines = []
    for name, a, b in zip(names, ours, peers, strict=True):
        first, last = difference(a, b)
        recall = max(abs(x - y) for x, y in zip(a.recall, b.recall, strict=True))
        seconds = [number(x, 1) for x in (a.seconds, b.seconds)]
        ratio = number(a.seconds / b.seconds, 2)
        lines.append([name, *seconds, ratio, f"{first:.0e}", number(last, 4), number(recall, 2)])
    header = ["method", "ours, s", "torch, s", "ratio", "first losses", "held-out", "recall"]
    return table(header, lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.job", description=(__doc__ or "").split("\n")[0]
    )
    p.add_argument("--quick", action="store_true", help="small and short: that both do the same")
    p.add_argument("--rounds", type=int, default=1, help="how often each runs, in turn (default 1)")
    a = p.parse_args(argv)
    if importlib.util.find_spec("torch") is None:
        p.error('PyTorch is not installed; python -m pip install -e ".[bench]"')
    if a.rounds < 1:
        p.error("--rounds must be at least 1")
    preset: Preset = PRESETS["people"]
    preset = quick(preset, steps=20) if a.quick else preset
    jobs = [job(preset, methods_of(preset)[name], 0, measure) for name in METHODS]
    jobs.sort(key=lambda job: job.method.max_showings is not None)  # the longest first
    walls: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(a.rounds):
        wall, ours = run_all(run_ours, jobs)
        walls["ours"].append(wall)
        wall, peers = run_all(run_torch, jobs)
        walls["torch"].append(wall)
    names = [job.method.name for job in jobs]
    print(tabulate(names, ours, peers))
    for name, runs in (("ours", ours), ("torch", peers)):
        cpu = sum(run.seconds for run in runs)
        wall = np.median(walls[name])
        print(f"{name:5}  {wall:6.1f} s on {n_cores()} cores, {cpu:6.1f} s of processor")
    print(f"ratio  {np.median(walls['ours']) / np.median(walls['torch']):.2f}")
    for name, *pair in zip(names, ours, peers, strict=True):
        require_same_training(name, *pair)
    return 0


if __name__ == "__main__":
    sys.exit(main())
