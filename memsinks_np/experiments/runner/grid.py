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
Task = dict[Path, Job]  # jobs that share one model, by the path of their result


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
        stored = {path for path in paths.values() if path.exists() and not self.fresh}
        results = {path: cache.load_result(path) for path in stored}
        if results:
            tqdm.write(f"{len(results)} of {len(set(paths.values()))} results are cached")
        tasks: dict[Path, tuple[dict[str, Any], Task]] = {}
        for key, path in paths.items():
            if path not in results:
                model = cache.model_path(self.cache, made[key])
                tasks.setdefault(model, (made[key], {}))[1][path] = jobs[key]
        if tasks:
            results |= self._run(list(tasks.values()))
        return {key: results[path] for key, path in paths.items()}

    def _run(self, tasks: list[tuple[dict[str, Any], Task]]) -> dict[Path, Any]:
        """Run the tasks, those first that see all data, since they take longest."""
        tasks.sort(key=lambda task: not task[0]["method"]["sees_repeated"])
        counter = multiprocessing.get_context("spawn").Value("q", 0)
        steps = sum(made["settings"]["train"]["steps"] for made, _ in tasks)
        n = min(self.workers or workers.n_cores(), len(tasks))
        threads = 2 if 2 * n <= workers.n_cores() else 1
        local = self.scheduler is None
        pool = workers.processes(n, counter) if local else workers.cluster(str(self.scheduler))
        results: dict[Path, Any] = {}
        with tqdm(total=steps, unit=" steps", disable=None) as bar, pool as submit:
            running = {
                submit(run_task, made, task, self.cache, threads, self.fresh): str(
                    next(iter(task.values()))
                )
                for made, task in tasks
            }
            for future in workers.as_completed(running, counter, bar):
                try:
                    seconds, new = future.result()
                except Exception as e:
                    if type(e).__name__ in KILLED:
                        raise WorkerDied(
                            "a worker process was killed or could not start (out of memory?); "
                            "finished runs are saved, run the same command again"
                        ) from None
                    raise
                results |= new
                bar.write(f"{running[future]:26s} {seconds:5.1f} s")
        return results


def run_task(
    made: dict[str, Any], task: Task, folder: Path, threads: int, fresh: bool
) -> tuple[float, dict[Path, Any]]:
    """Train one model in a worker and measure it; return the seconds and the results."""
    start = time.perf_counter()
    job = next(iter(task.values()))
    cache.check_fingerprint(job, made)
    results = {}
    with one_blas_thread():
        model = cache.train_cached(job, folder, workers.count_step, threads, fresh)
        for path, each in task.items():
            cache.save_result(path, each.measure(model))
            results[path] = cache.load_result(path)
    return time.perf_counter() - start, results
