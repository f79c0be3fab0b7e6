"""Many arms at once: one process each, one BLAS thread per process, what is finished is kept."""

import concurrent.futures as futures
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from memsinks_np import checkpoint
from memsinks_np.config import Arm, Settings
from memsinks_np.process import one_blas_thread
from memsinks_np.train import Trained, train


class Job(NamedTuple):
    """One arm under one setting (the setting holds the seed)."""

    arm: Arm
    settings: Settings


def n_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_once(job: Job, cache: Path, on_step: Callable[[], Any] = lambda: None, threads: int = 1) -> Trained:
    """The trained arm: from the cache if it lies there, else trained now and put there."""
    made = checkpoint.describe(*job)
    path = checkpoint.cache_path(cache, made)
    if path.exists():
        return checkpoint.load(path)
    trained = train(*job, on_step, threads)
    checkpoint.save(path, trained, made)
    return trained


def start_worker(counter: Any) -> None:
    global steps_done
    steps_done = counter
    one_blas_thread()  # for as long as the worker lives


def work(job: Job, cache: Path, then: Callable[[Job, Trained], Any], threads: int) -> tuple[float, Any]:
    """In a worker: train, then reduce what was trained to what the caller wants; returns (seconds, that)."""
    start = time.perf_counter()

    def count() -> None:
        with steps_done.get_lock():
            steps_done.value += 1

    trained = train_once(job, cache, count, threads)
    return time.perf_counter() - start, then(job, trained)


def run_all(
    jobs: list[Job], cache: Path, then: Callable[[Job, Trained], Any], workers: int = 0, threads: int = 1
) -> list[Any]:
    """`then(job, trained arm)` for every job, in the order of `jobs`; both run in worker processes.

    `then` is a function at the top of a module, so that a worker can find it.
    """
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    found = [checkpoint.cache_path(cache, checkpoint.describe(*job)).exists() for job in jobs]
    steps = sum(job.settings.train.steps for job, have in zip(jobs, found, strict=True) if not have)
    # the longest first, so that no worker is left alone with one at the end
    order = sorted(range(len(jobs)), key=lambda i: (found[i], not jobs[i].arm.repeats))
    pool = futures.ProcessPoolExecutor(workers or n_cores(), context, start_worker, (counter,))
    with pool, tqdm(total=steps, unit=" steps", disable=None, smoothing=0.05) as bar:
        try:
            running = {pool.submit(work, jobs[i], cache, then, threads): i for i in order}
            results: dict[int, Any] = {}
            for future in watched(running, counter, bar):
                i = running[future]
                seconds, results[i] = future.result()
                arm, settings = jobs[i]
                bar.write(
                    f"{arm.name:18s} seed {settings.train.seed}  "
                    + ("kept from an earlier run" if found[i] else f"{seconds:5.1f} s")
                )
        except BaseException:
            for process in list(pool._processes.values()):  # they would finish their arms first
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[i] for i in range(len(jobs))]


def watched(running: dict, counter: Any, bar: tqdm) -> Iterator[futures.Future]:
    """Futures as they finish, while the bar follows the counter."""
    left = set(running)
    while left:
        done, left = futures.wait(left, timeout=0.2, return_when=futures.FIRST_COMPLETED)
        bar.update(counter.value - bar.n)
        yield from done
