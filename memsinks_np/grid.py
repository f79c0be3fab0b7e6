"""Many arms at once, here or on a cluster: what is finished is kept, and found again by what made it."""

import concurrent.futures as futures
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from memsinks_np import checkpoint, workers
from memsinks_np.config import Arm, ConfigError, Settings
from memsinks_np.data import n_vocab
from memsinks_np.model import init_params
from memsinks_np.process import one_blas_thread
from memsinks_np.sources import source
from memsinks_np.train import Diverged, Trained, train

KILLED = ("BrokenProcessPool", "PartnerDied", "KilledWorker")  # of this machine, of a pair there, of a cluster


class WorkerDied(RuntimeError):
    """A worker process was killed in the run that the message names."""


class Job(NamedTuple):
    """One arm under one setting (the setting holds the seed)."""

    arm: Arm
    settings: Settings

    def __str__(self) -> str:
        return f"{self.arm.name} seed {self.settings.train.seed}"


Then = Callable[[Job, Trained], Any]  # a function at the top of a module (a worker must find it), or a partial of one


@dataclass(frozen=True)
class Grid:
    """Where runs happen, and where they are kept."""

    cache: Path
    workers: int = 0  # processes; 0: one per core
    threads: int = 1  # 2: every worker has a second process (crew.py); never changes a result
    scheduler: str | None = None  # address of a running dask scheduler, tcp://host:8786

    def __call__(self, jobs: list[Job], then: Then) -> list[Any]:
        """`then(job, trained arm)` for every job, in the order of `jobs`, computed in workers.

        What `then` returns must be what JSON can hold; it is kept beside the trained arms, so that nothing is
        computed twice.  Raises WorkerDied, naming the run, where a worker was killed; all others are finished first.
        """
        paths = [result_path(self.cache, job, then) for job in jobs]  # the same for two jobs that are the same
        runs = dict(zip(paths, jobs, strict=True))
        results = {path: kept(path) for path in runs if path.exists()}
        if results:
            tqdm.write(f"{len(results)} of {len(runs)} runs kept, trained already")
        # the longest first, so that no worker is left alone with one at the end
        todo = sorted((path for path in runs if path not in results), key=lambda path: not runs[path].arm.repeats)
        counter, lost = multiprocessing.get_context("spawn").Value("q", 0), []
        steps = sum(runs[path].settings.train.steps for path in todo)
        with tqdm(total=steps, unit=" steps", disable=None) as bar, self.submitter(counter) as submit:
            running = {submit(work, runs[path], self.cache, then, self.threads): path for path in todo}
            for future in workers.watched(running, counter, bar):
                path = running[future]
                try:
                    seconds, results[path] = future.result()
                    bar.write(f"{runs[path]!s:26s} {seconds:5.1f} s")
                except Exception as e:
                    if type(e).__name__ not in KILLED:
                        raise
                    lost.append(str(runs[path]))
                    bar.write(f"{runs[path]}  lost: its worker was killed")
        if lost:
            raise WorkerDied(f"a worker was killed in {', '.join(lost)}; the same command runs what is missing")
        return [results[path] for path in paths]

    def submitter(self, counter: Any) -> AbstractContextManager[Callable[..., futures.Future[Any]]]:
        """`submit(function, *args) -> future`: on this machine, or on the cluster of the scheduler."""
        return workers.cluster(self.scheduler) if self.scheduler else workers.processes(self.workers, counter)


def train_once(job: Job, cache: Path, on_step: Callable[[], Any] = lambda: None, threads: int = 1) -> Trained:
    """The trained arm: from the cache if it lies there, else trained now and put there."""
    made = checkpoint.describe(*job)
    path = checkpoint.cache_path(cache, made)
    if path.exists():
        model = job.settings.model(job.arm, n_vocab(job.settings.data))
        return checkpoint.load(path, made, init_params(model))
    try:
        trained = train(*job, on_step, threads)
    except Diverged as e:
        if e.last_good:
            aside = path.with_suffix(".diverged.npz")
            checkpoint.save(aside, e.last_good, made)
            e = Diverged(f"{e}; the parameters before that step are in {aside}")
        raise e from None
    checkpoint.save(path, trained, made)
    return trained


def result_path(cache: Path, job: Job, then: Then) -> Path:
    """Where the result of `then` lies: beside the arm, under the hash of the function and its arguments."""
    function, args, more = (then.func, then.args, then.keywords) if isinstance(then, partial) else (then, (), {})
    what = [f"{function.__module__}.{function.__qualname__}", args, more, job.arm.name, source(function.__module__)]
    arm = checkpoint.cache_path(cache, checkpoint.describe(*job))
    return arm.with_suffix(f".{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]}.json")


def kept(path: Path) -> Any:
    """A result of an earlier time; ConfigError where the file is damaged."""
    try:
        return json.loads(path.read_text())["result"]
    except Exception as e:  # whatever damage leads to
        raise ConfigError(f"{path} is not a result ({type(e).__name__}); delete it and it is measured again") from None


def work(job: Job, cache: Path, then: Then, threads: int) -> tuple[float, Any]:
    """In a worker: train, then reduce what was trained to what the caller wants; returns (seconds, that)."""
    start = time.perf_counter()

    with one_blas_thread():
        result = json.dumps({"result": then(job, train_once(job, cache, workers.count_step, threads))})
    checkpoint.write_whole(result_path(cache, job, then), result)
    return time.perf_counter() - start, json.loads(result)["result"]  # as it is read from the cache another time
