"""Run many jobs in parallel, locally or on a cluster, and cache each result."""

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.experiments.runner import cache, workers
from memsinks_np.experiments.runner.cache import Job


@dataclass(frozen=True)
class Task:
    """Jobs that share one model: it is trained once, then measured for each."""

    made: dict[str, Any]  # the model's fingerprint
    jobs: dict[Path, Job]  # by the path of their result

    def __str__(self) -> str:
        return str(next(iter(self.jobs.values())))


@dataclass(frozen=True)
class Grid:
    """Where jobs run, and where their results are cached."""

    cache: Path
    workers: int = 0  # processes; 0: one per core
    scheduler: str | None = None  # address of a dask scheduler, tcp://host:8786
    fresh: bool = False  # train and measure again what an earlier command has cached
    renewed: set[Path] = field(default_factory=set)  # models and results of this command

    def __call__(self, jobs: Mapping[Hashable, Job]) -> dict[Hashable, Any]:
        """Return each job's result under the job's key. Identical jobs run once.

        Raises WorkerDied if a worker was killed; finished results are cached by then.
        """
        folder = self.cache.resolve()  # workers of a cluster have another working directory
        paths: dict[Hashable, Path] = {}
        tasks: dict[Path, Task] = {}  # by the path of their model
        results: dict[Path, Any] = {}
        for key, job in jobs.items():
            made = cache.fingerprint(job)
            model = cache.model_path(folder, made)
            paths[key] = path = cache.result_path(folder, job, made)
            if path not in results and self.has(path):
                results[path] = cache.load_result(path)
            elif path not in results:
                shared = absolute(job) if self.scheduler else job
                tasks.setdefault(model, Task(made, {})).jobs[path] = shared
        if results:
            tqdm.write(f"{len(results)} of {len(set(paths.values()))} results are cached")
        if tasks:
            results |= self._run(tasks)
        return {key: results[path] for key, path in paths.items()}

    def has(self, path: Path) -> bool:
        """Return whether a model or a result is cached and may be used."""
        return path.exists() and (not self.fresh or path in self.renewed)

    def _run(self, tasks: dict[Path, Task]) -> dict[Path, Any]:
        """Run the tasks, those first that see all data, since they take longest."""
        order = sorted(tasks, key=lambda model: not tasks[model].made["method"]["sees_repeated"])
        n = min(self.workers or workers.n_cores(), len(tasks))
        threads = 2 if 2 * n <= workers.n_cores() and not self.scheduler else 1
        missing = [tasks[model] for model in order if not self.has(model)]
        steps = sum(task.made["settings"]["train"]["steps"] for task in missing)
        calls = [(tasks[model], model, threads, not self.has(model)) for model in order]
        results: dict[Path, Any] = {}
        pool = workers.Cluster(self.scheduler) if self.scheduler else workers.Processes(n)
        with tqdm(total=steps, unit=" steps", disable=None) as bar, pool:
            for i, (seconds, new) in pool.run(run_task, calls, lambda n: bar.update(n - bar.n)):
                results |= new
                self.renewed.update(new, [order[i]])
                bar.write(f"{tasks[order[i]]!s:26s} {seconds:5.1f} s")
        return results


def absolute(job: Job) -> Job:
    """Return a job that finds its text from another working directory."""
    data = job.settings.data
    if not Path(data.corpus).is_file():
        return job
    data = replace(data, corpus=str(Path(data.corpus).resolve()))
    return job._replace(settings=replace(job.settings, data=data))


def run_task(
    task: Task, model_path: Path, threads: int, fresh: bool
) -> tuple[float, dict[Path, Any]]:
    """Train one model in a worker and measure it; return the seconds and the results."""
    start = time.perf_counter()
    first = next(iter(task.jobs.values()))
    cache.check_fingerprint(first, task.made)
    results = {}
    with one_blas_thread():
        model = cache.train_cached(first, model_path.parent, workers.count_step, threads, fresh)
        for path, job in task.jobs.items():
            result = job.measure(model)
            cache.check_fingerprint(job, task.made)
            cache.save_result(path, result)
            results[path] = cache.load_result(path)
    return time.perf_counter() - start, results
