"""Run many jobs in parallel, locally or on a cluster, and cache each result."""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, NamedTuple

from tqdm import tqdm

from memsinks_np._internal.blas import one_blas_thread
from memsinks_np._internal.tables import number
from memsinks_np._internal.terminal import is_dumb
from memsinks_np.config import require
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments.runner import cache, workers
from memsinks_np.experiments.runner.cache import Job
from memsinks_np.metrics import HistoryRow


class Task(NamedTuple):
    """One job for a worker."""

    made: dict[str, Any]  # the model's fingerprint
    job: Job
    path: Path  # of the result


@dataclass(frozen=True)
class Grid:
    """Where jobs run, and where their results are cached."""

    cache: Path | str
    workers: int = 0  # processes; 0: one per core
    scheduler: str | None = None  # address of a dask scheduler, tcp://host:8786
    fresh: bool = False  # ignore what earlier commands cached
    renewed: set[Path] = field(default_factory=set)  # models and results of this command

    def __call__(self, jobs: Mapping[Hashable, Job]) -> dict[Hashable, Any]:
        """Return each job's result under the job's key. Identical jobs run once.

        Raises WorkerDied if a worker was killed; finished results are cached by then.
        """
        folder = Path(self.cache).resolve()  # workers of a cluster have another working directory
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
        pool: workers.Cluster | workers.Processes | workers.Here = workers.Processes(n)
        if not all(workers.is_importable(task.job.measure) for _, task in tasks):
            require(not self.scheduler, "a cluster cannot import a notebook; use a file")
            pool = workers.Here()
        elif self.scheduler:
            pool = workers.Cluster(self.scheduler)
        with Progress([task.job for _, task in tasks], steps) as progress, pool:
            for i, (seconds, numbers, result) in pool.run(run_task, calls, progress.update):
                model, task = tasks[i]
                results[task.path] = result
                self.renewed.update([model, task.path])
                progress.end(i, seconds, numbers)
        return results


class Progress:
    """A bar of all training steps, and a line for each job: what runs only on a terminal."""

    def __init__(self, jobs: Sequence[Job], steps: int) -> None:
        self.jobs = jobs
        self.done = [0] * len(jobs)
        self.numbers = [""] * len(jobs)
        self.lines: dict[int, Any] = {}
        self.total = steps
        self.bar = tqdm(total=steps, unit=" steps", disable=None if steps else True, leave=False)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        for line in [*self.lines.values(), self.bar]:
            line.close()

    def update(self, i: int, news: tuple[int, str]) -> None:
        """Show how many steps a job has done, and its numbers if there are new ones."""
        step, numbers = news
        self.numbers[i] = numbers or self.numbers[i]
        self.bar.update(step - self.done[i])
        self.done[i] = step
        if i not in self.lines:
            hidden = True if is_dumb() else None
            self.lines[i] = tqdm(bar_format="{desc}", disable=hidden, leave=False)
        fraction, width = step / self.jobs[i].settings.train.steps, get_terminal_size().columns - 1
        text = f"{self.jobs[i]!s:24s} {fraction:6.0%}  {self.numbers[i]}"[:width]
        line = self.lines[i]
        if not line.disable and text != line.desc:
            line.set_description_str(text)

    def end(self, i: int, seconds: float, numbers: str) -> None:
        """Print the line of a job that has ended, if it was trained."""
        if i in self.lines:
            self.lines.pop(i).close()
        if self.total:
            self.bar.update(self.jobs[i].settings.train.steps - self.done[i])  # none on a cluster
            self.bar.write(f"{self.jobs[i]!s:24s} {seconds:4.0f} s  {numbers}")


def describe(row: HistoryRow) -> str:
    """Return losses with own sinks, with sinks removed, and of new sequences; or, if known, recall.

    Recall is that of facts in new documents, sinks removed, by the number of documents that state
    them.
    """
    if row.recall:
        recalls = [f"{k}: {row.recall[GROUPS.index(k)]:.2f}" for k in (1, 4, 16)]
        return f"recall, stated in {' | '.join(recalls)}"
    own, removed, new = row.repeated.own, row.repeated.removed, row.heldout.removed
    return f"repeated {number(own, 2)} | removed {removed:.2f} | new {new:.2f}"


def absolute(job: Job) -> Job:
    """Return a job with an absolute path to its text, for another working directory."""
    data = job.settings.data
    if not Path(data.corpus).is_file():
        return job
    data = replace(data, corpus=str(Path(data.corpus).resolve()))
    return job._replace(settings=replace(job.settings, data=data))


def send_step(step: int, loss: float) -> None:
    """Send to the parent how many steps are done."""
    workers.send_news((step + 1, ""))


def send_row(row: HistoryRow) -> None:
    """Send new numbers to the parent."""
    workers.send_news((row.step, describe(row)))


def run_task(task: Task, model_path: Path, threads: int, fresh: bool) -> tuple[float, str, Any]:
    """Train a model in a worker if it is missing, and measure it.

    Return the seconds, the last numbers of the training, and the result.
    """
    start = time.perf_counter()
    cache.check_fingerprint(task.job, task.made)
    with one_blas_thread():
        folder = model_path.parent
        model = cache.train_cached(task.job, folder, send_step, threads, fresh, send_row)
        result = task.job.measure(model)
    cache.check_fingerprint(task.job, task.made)  # the text is still the same
    cache.save_result(task.path, result)
    seconds, numbers = time.perf_counter() - start, describe(model.history[-1])
    return seconds, numbers, cache.load_result(task.path)
