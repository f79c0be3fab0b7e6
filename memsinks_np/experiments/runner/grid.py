"""Run many jobs in parallel, locally or on a cluster, and cache each result."""

import multiprocessing
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.experiments.runner import cache, workers
from memsinks_np.experiments.runner.cache import Job

# raised when a worker process dies: on this machine, on a cluster
KILLED = ("BrokenProcessPool", "KilledWorker")


class WorkerDied(RuntimeError):
    """Raised when a worker process was killed or could not start."""


@dataclass(frozen=True)
class Grid:
    """Where jobs run, and where their results are cached."""

    cache: Path
    workers: int = 0  # processes; 0: one per core
    scheduler: str | None = None  # address of a dask scheduler, tcp://host:8786
    fresh: bool = False  # train and measure again what is cached

    def __call__(self, jobs: Mapping[Hashable, Job]) -> dict[Hashable, Any]:
        """Return each job's result under the job's key. Identical jobs run once.

        Raises WorkerDied if a worker was killed; finished results are cached by then.
        """
        made = {key: cache.fingerprint(job) for key, job in jobs.items()}
        paths = {key: cache.result_path(self.cache, job, made[key]) for key, job in jobs.items()}
        unique = {path: key for key, path in paths.items()}
        stored = {path for path in unique if path.exists() and not self.fresh}
        results = {path: cache.load_result(path) for path in stored}
        if results:
            tqdm.write(f"{len(results)} of {len(unique)} results are cached")
        todo = [path for path in unique if path not in results]
        # methods that see all data take longest: start them first
        todo.sort(key=lambda path: not jobs[unique[path]].method.sees_repeated)
        if todo:
            self._run({path: (jobs[unique[path]], made[unique[path]]) for path in todo}, results)
        return {key: results[path] for key, path in paths.items()}

    def _run(self, todo: dict[Path, tuple[Job, dict[str, Any]]], results: dict[Path, Any]) -> None:
        """Run the jobs, and add their results."""
        counter = multiprocessing.get_context("spawn").Value("q", 0)
        steps = sum(job.settings.train.steps for job, _ in todo.values())
        n = min(self.workers or workers.n_cores(), len(todo))
        threads = 2 if 2 * n <= workers.n_cores() else 1
        pool = (
            workers.cluster(self.scheduler) if self.scheduler else workers.processes(n, counter)
        )
        with tqdm(total=steps, unit=" steps", disable=None) as bar, pool as submit:
            running = {
                submit(run_job, job, made, self.cache, threads, self.fresh): path
                for path, (job, made) in todo.items()
            }
            for future in workers.as_completed(running, counter, bar):
                job, _ = todo[running[future]]
                try:
                    seconds, results[running[future]] = future.result()
                except Exception as e:
                    if type(e).__name__ in KILLED:
                        raise WorkerDied(
                            "a worker process was killed or could not start (out of memory?); "
                            "finished runs are saved, run the same command again"
                        ) from None
                    raise
                bar.write(f"{job!s:26s} {seconds:5.1f} s")


def run_job(
    job: Job, made: dict[str, Any], folder: Path, threads: int, fresh: bool
) -> tuple[float, Any]:
    """Train and measure in a worker; return the seconds that it took and the result."""
    start = time.perf_counter()
    cache.check_fingerprint(job, made)
    with one_blas_thread():
        model = cache.train_cached(job, folder, workers.count_step, threads, fresh)
        result = job.measure(model)
    path = cache.result_path(folder, job, made)
    cache.save_result(path, result)
    return time.perf_counter() - start, cache.load_result(path)
