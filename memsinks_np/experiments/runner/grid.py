"""Run many jobs in parallel, locally or on a cluster, and cache each result."""

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.experiments.runner import cache, workers
from memsinks_np.experiments.runner.cache import Job


class Task(NamedTuple):
    """One job for a worker."""

    made: dict[str, Any]  # the model's fingerprint
    job: Job
    path: Path  # of the result


@dataclass(frozen=True)
class Grid:
    """Where jobs run, and where their results are cached."""

    cache: Path
    workers: int = 0  # processes; 0: one per core
    scheduler: str | None = None  # address of a dask scheduler, tcp://host:8786
    fresh: bool = False  # ignore what earlier commands cached
    renewed: set[Path] = field(default_factory=set)  # models and results of this command

    def __call__(self, jobs: Mapping[Hashable, Job]) -> dict[Hashable, Any]:
        """Return each job's result under the job's key. Identical jobs run once.

        Raises WorkerDied if a worker was killed; finished results are cached by then.
        """
        folder = self.cache.resolve()  # workers of a cluster have another working directory
        paths: dict[Hashable, Path] = {}
        first: dict[Path, Task] = {}  # by the path of their model, which is missing
        rest: dict[Path, tuple[Path, Task]] = {}  # by the path of their result
        results: dict[Path, Any] = {}
        for key, job in jobs.items():
            made = cache.fingerprint(job)
            model = cache.model_path(folder, made)
            path = cache.result_path(folder, job, made)
            known, paths[key] = path in paths.values(), path
            if known:
                continue
            if self.has(path):
                results[path] = cache.load_result(path)
                continue
            task = Task(made, absolute(job) if self.scheduler else job, path)
            if self.has(model) or model in first:
                rest[path] = (model, task)
            else:
                first[model] = task
        if results:
            tqdm.write(f"{len(results)} of {len(set(paths.values()))} results are cached")
        # train every model once; its other measurements can then run in parallel
        for tasks in (list(first.items()), list(rest.values())):
            results |= self._run(tasks) if tasks else {}
        return {key: results[path] for key, path in paths.items()}

    def has(self, path: Path) -> bool:
        """Return whether a model or a result is cached and may be used."""
        return path.exists() and (not self.fresh or path in self.renewed)

    def _run(self, tasks: list[tuple[Path, Task]]) -> dict[Path, Any]:
        """Run tasks, first those that see all data, since they take longest."""
        tasks.sort(key=lambda task: task[1].made["method"]["max_showings"] is not None)
        n = min(self.workers or workers.n_cores(), len(tasks))
        threads = 2 if 2 * n <= workers.n_cores() and not self.scheduler else 1
        missing = [task for model, task in tasks if not self.has(model)]
        steps = sum(task.made["settings"]["train"]["steps"] for task in missing)
        calls = [(task, model, threads, not self.has(model)) for model, task in tasks]
        results: dict[Path, Any] = {}
        pool = workers.Cluster(self.scheduler) if self.scheduler else workers.Processes(n)
        with tqdm(total=steps, unit=" steps", disable=None) as bar, pool:
            for i, (seconds, result) in pool.run(run_task, calls, lambda n: bar.update(n - bar.n)):
                model, task = tasks[i]
                results[task.path] = result
                self.renewed.update([model, task.path])
                if steps:
                    bar.write(f"{task.job!s:26s} {seconds:5.1f} s")
        return results


def absolute(job: Job) -> Job:
    """Return a job with an absolute path to its text, for another working directory."""
    data = job.settings.data
    if not Path(data.corpus).is_file():
        return job
    data = replace(data, corpus=str(Path(data.corpus).resolve()))
    return job._replace(settings=replace(job.settings, data=data))


def run_task(task: Task, model_path: Path, threads: int, fresh: bool) -> tuple[float, Any]:
    """Train a model in a worker if it is missing, measure it; return the seconds and the result."""
    start = time.perf_counter()
    cache.check_fingerprint(task.job, task.made)
    with one_blas_thread():
        folder = model_path.parent
        model = cache.train_cached(task.job, folder, workers.count_step, threads, fresh)
        result = task.job.measure(model)
    cache.check_fingerprint(task.job, task.made)  # the text is still the same
    cache.save_result(task.path, result)
    return time.perf_counter() - start, cache.load_result(task.path)
