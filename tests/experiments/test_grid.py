"""Many jobs: results are cached, a shared model trains once, a dead worker is an error."""

import io
import json
import linecache
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from commands import ROOT, run_script, screen, wait_for
from memsinks_np.config import ConfigError
from memsinks_np.experiments import methods
from memsinks_np.experiments.methods import PRESETS, methods_of, quick
from memsinks_np.experiments.runner import cache, grid, workers
from memsinks_np.experiments.runner.grid import Grid
from memsinks_np.experiments.runner.workers import Processes, WorkerDied
from memsinks_np.metrics import BySinks, HistoryRow

PRESET = methods.with_settings(quick(PRESETS["stories"], steps=3), d_model=16)
METHODS = methods_of(PRESET)
KEYS = [(name, seed) for name in ("standard", "narrow") for seed in (0, 1)]


def last_loss(model, field="own"):
    return getattr(model.history[-1].heldout, field)


def note(model, folder):
    """Leave a file for every call."""
    Path(folder, str(time.time_ns())).touch()
    return last_loss(model)


def die(model, note):
    """Die as by the kernel, but only where the note is missing; an empty one always kills."""
    if not note or not Path(note).exists():
        if note:
            Path(note).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return last_loss(model)


def jobs(measure=last_loss, keys=KEYS):
    return {(name, seed): methods.job(PRESET, METHODS[name], seed, measure) for name, seed in keys}


def test_results_are_cached_and_fresh_renews_them_once(tmp_path, monkeypatch):
    here, made = Grid(tmp_path, workers=2), jobs(keys=KEYS[1:3])
    results = here(made)
    assert results == {k: last_loss(cache.train_cached(job, tmp_path)) for k, job in made.items()}
    job = made["narrow", 0]
    path = cache.result_path(tmp_path, job, cache.fingerprint(job))
    path.write_text(json.dumps({"result": "read, not computed"}))
    assert here(made)["narrow", 0] == "read, not computed"
    for model in tmp_path.glob("*.npz"):
        model.write_bytes(b"damaged")
    fresh = Grid(tmp_path, workers=1, fresh=True)
    assert fresh(made) == results
    monkeypatch.setattr(Grid, "_run", lambda *_: pytest.fail("ran again"))
    assert fresh(made) == results


NOTEBOOK = """
import memsinks_np as ms
from memsinks_np.experiments.methods import PRESETS, job, methods_of, quick
from memsinks_np.experiments.runner.grid import Grid
preset = quick(PRESETS["stories"], steps=3)
cells = ["def f(model): return 1", "def f(model): return 2", "def f(model): return 1"]
for i, cell in enumerate(cells):
    name = f"<cell {i}>"
    linecache.cache[name] = (len(cell), None, [cell], name)  # as in a notebook
    exec(compile(cell, name, "exec"))
    jobs = {0: job(preset, methods_of(preset)["narrow"], 0, f)}
    print(Grid(sys.argv[1])(jobs))
try:
    Grid(sys.argv[1], scheduler="tcp://127.0.0.1:1", fresh=True)(jobs)
except ms.ConfigError as e:
    print(e)
"""


def test_a_notebooks_function_runs_here_and_again_when_changed(tmp_path):
    command = [sys.executable, "-c", "import linecache, sys\n" + NOTEBOOK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    trained, *lines = done.stdout.splitlines()
    assert trained.startswith("narrow seed 0"), done.stderr
    assert lines[:-1] == ["{0: 1}", "{0: 2}", "1 of 1 results are cached", "{0: 1}"]
    assert lines[-1] == "a cluster cannot import a notebook; use a file"


def counting(n):
    return lambda model: n


def measuring(values):
    """Return a function that calls another one, which reads a variable of their module."""
    module = {"__name__": "a_notebook", "values": values}
    source = "def inner():\n return [v for v in values]\ndef f(model):\n return inner()"
    name = f"<cell {source}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), module)
    return module["f"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (counting(1), counting(2)),
        *[[(lambda model, n=n: n) for n in (1, 2)]],
        *[[(lambda model, *, n=n: n) for n in (1, 2)]],
        (measuring([1]), measuring([2])),
    ],
    ids=["closure", "default", "keyword", "global"],
)
def test_functions_that_differ_in_a_value_have_results_each(one, other, tmp_path):
    (job,) = jobs(keys=KEYS[:1]).values()
    made = cache.fingerprint(job)
    path = lambda measure: cache.result_path(tmp_path, job._replace(measure=measure), made)
    assert path(one) == path(one) != path(other)


@pytest.mark.parametrize("value", [np.ones(2), object()])
def test_a_measurement_of_what_no_key_can_hold_is_refused(value, tmp_path):
    for measure in (counting(value), partial(last_loss, field=value)):
        with pytest.raises(ConfigError, match="depends on a value that no cache key can hold"):
            Grid(tmp_path)(jobs(measure))


def test_a_result_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="returned no JSON data"):
        cache.save_result(tmp_path / "a.json", {"losses": np.ones(2)})
    assert not list(tmp_path.iterdir())


def test_jobs_that_share_a_model_train_it_once(tmp_path, capsys):
    notes = tmp_path / "notes"
    notes.mkdir()
    noted = partial(note, folder=str(notes))
    same = {"a": noted, "b": noted, "c": last_loss, "d": partial(last_loss, field="removed")}
    shared = {key: jobs(measure)["standard", 0] for key, measure in same.items()}
    results = Grid(tmp_path / "cache", workers=2)(shared)
    assert capsys.readouterr().out.count("standard seed 0") == 1
    assert list(results) == list(same)
    assert results["a"] == results["b"] == results["c"]
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1
    assert len(list((tmp_path / "cache").glob("*.json"))) == 3
    assert len(list(notes.iterdir())) == 1


def test_a_killed_worker_is_an_error_and_the_rest_is_cached(tmp_path):
    deadly = jobs(partial(die, note=str(tmp_path / "note")), keys=[("standard", 1)])
    mixed = jobs(keys=KEYS[:1]) | deadly
    here = Grid(tmp_path / "cache", workers=1)
    with pytest.raises(WorkerDied, match=r"a worker was killed .* run the same command again"):
        here(mixed)
    assert not multiprocessing.active_children()
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1
    assert here(mixed) == here(jobs(keys=KEYS[:2]))


def test_what_a_worker_raises_reaches_the_caller(tmp_path):
    with pytest.raises(AttributeError, match="no such field") as e:
        Grid(tmp_path, workers=2)(jobs(partial(last_loss, field="no such field"), KEYS[:2]))
    assert "in last_loss" in "".join(e.value.__notes__)
    assert not multiprocessing.active_children()


def rewrite(model, path):
    Path(path).write_text(Path(path).read_text()[::-1])


def test_a_text_that_changes_during_a_run_is_refused(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(map(str, range(9_000))))
    preset = methods.with_settings(PRESET, data={"corpus": str(text)})
    job = methods.job(preset, METHODS["standard"], 0, partial(rewrite, path=str(text)))
    with pytest.raises(ConfigError, match=r"text\.txt' changed during the run; run again"):
        Grid(tmp_path / "cache", workers=1)({"a": job})
    assert not list((tmp_path / "cache").glob("*.json"))


def test_a_worker_with_another_source_is_refused(tmp_path):
    job = jobs()["standard", 0]
    task = grid.Task(cache.fingerprint(job) | {"source": "another"}, job, tmp_path / "a.json")
    with pytest.raises(ConfigError, match=r"^the worker on .* runs another version"):
        grid.run_task(task, tmp_path / "a.npz", 1, False)


def count(n):
    """Send news of each step, and return the number of steps."""
    for i in range(n):
        workers.send_news((i, n))
    return n


def test_news_of_a_call_arrives_in_order_before_its_result():
    news = {i: [] for i in range(3)}
    with Processes(2) as pool:
        results = []
        for i, n in pool.run(count, [(5,), (0,), (2,)], lambda i, x: news[i].append(x)):
            assert news[i] == [(j, n) for j in range(n)]
            results.append((i, n))
    assert sorted(results) == [(0, 5), (1, 0), (2, 2)]


ROW = HistoryRow(8, 2.5, BySinks(0.024, 0.946), BySinks(None, 0.931))


def test_progress_shows_losses_or_the_recall_of_facts():
    assert grid.describe(ROW) == "repeated 0.02 | removed 0.95 | new 0.93"
    people = ROW._replace(recall=(0.104, 0.2, 0.76, 0.9, 0.996, 1.0, 1.0))
    assert grid.describe(people) == "recall, stated in 1: 0.10 | 4: 0.76 | 16: 1.00"


@pytest.mark.parametrize(("terminal", "lines"), [("xterm", 3), ("dumb", 1), (None, 0)])
def test_running_jobs_have_a_line_each_until_they_end(terminal, lines, monkeypatch):
    output = io.StringIO()
    output.isatty = lambda: terminal is not None
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setattr("sys.stderr", output)
    monkeypatch.setenv("TERM", terminal or "xterm")
    running = list(jobs().values())[:2]
    with grid.Progress(running, 6) as progress:
        for news in [(0, (1, "a")), (1, (1, "b")), (0, (3, "c")), (1, (1, ""))]:
            progress.update(*news)
            progress.bar.refresh()
        shown = screen(output.getvalue())
        assert len(shown) == lines
        assert lines < 1 or "4/6" in shown[0]
        wanted = ["standard seed 0            100%  c", "standard seed 1             33%  b"]
        assert shown[1:] == (wanted if lines == 3 else [])
        progress.end(1, 12.3, "d")
        progress.bar.refresh()
        assert progress.bar.n == (6 if lines else 0)  # none is counted where nothing is shown
        assert len(screen(output.getvalue())) == max(lines, 1 + (lines > 0))
    assert screen(output.getvalue()) == ["standard seed 1            12 s  d"]


def test_lines_of_running_jobs_fit_a_narrow_terminal(monkeypatch):
    output = io.StringIO()
    output.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", output)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    with grid.Progress(list(jobs().values())[:1], 3) as progress:
        progress.update(0, (1, "x" * 60))
        assert progress.lines[0].desc == "standard seed 0             33%  " + "x" * 6


def test_a_worker_sends_steps_done_and_new_numbers(monkeypatch):
    news = []
    monkeypatch.setattr(workers, "send_news", news.append)
    grid.send_step(2, 0.5)
    grid.send_row(ROW)
    assert news == [(3, ""), (ROW.step, grid.describe(ROW))]


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.5])
def test_an_interrupt_ends_every_worker_and_thread(seconds):
    before = set(threading.enumerate())
    start = time.perf_counter()
    with suppress(KeyboardInterrupt), Processes(2) as pool:
        timer = threading.Timer(seconds, signal.raise_signal, [signal.SIGINT])
        timer.start()
        list(pool.run(time.sleep, [(60,)] * 5, lambda i, news: None))
    timer.join()
    assert time.perf_counter() - start < 60, "no task was waited for"
    assert not multiprocessing.active_children()
    assert set(threading.enumerate()) == before


def test_holding_signals_delays_them_and_restores_their_handlers():
    before, ended = signal.getsignal(signal.SIGINT), []

    def work():
        with workers.signals_held():
            signal.raise_signal(signal.SIGINT)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert ended, "interrupted in the middle"
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


WITHOUT_GUARD = """
import sys
from memsinks_np.experiments import cli
sys.exit(cli.main(["--quick", "--steps", "3", "--workers", "1", "--out", sys.argv[1]]))
"""


def test_a_worker_that_cannot_start_is_an_error(tmp_path):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run_script(tmp_path / "script.py", WITHOUT_GUARD, tmp_path / "out", env=env)
    assert done.returncode == 1
    assert "a worker could not start (exit code 2)" in done.stderr.splitlines()[-1]


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match=r"--scheduler tcp://127\.0\.0\.1:1: no answer"):
        Grid(tmp_path, scheduler="tcp://127.0.0.1:1")(jobs())


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 3, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster


@pytest.fixture
def scheduler(tmp_path):
    """A scheduler in a process of its own, without workers, and its address."""
    pytest.importorskip("distributed")
    file, flags = tmp_path / "scheduler.json", ["--host", "127.0.0.1", "--port", "0"]
    flags += ["--no-dashboard", "--no-jupyter", "--scheduler-file", str(file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "dask", "scheduler", *flags], **quiet)
    try:
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        yield process, json.loads(file.read_text())["address"]
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_the_same_as_this_machine(tmp_path, cluster, monkeypatch):
    here = Grid(tmp_path / "here", workers=1)(jobs())
    monkeypatch.chdir(tmp_path)  # after the cluster's workers have started elsewhere
    text = Path("text.txt")
    text.write_text(" ".join(map(str, range(9_000))))
    preset = methods.with_settings(PRESET, data={"corpus": "text.txt"})
    more = {"text": methods.job(preset, METHODS["standard"], 0, last_loss)}
    there = Grid(Path("there"), scheduler=cluster.scheduler_address)(jobs() | more)
    assert {key: there[key] for key in here} == here
    assert len(list((tmp_path / "there").glob("*.npz"))) == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_with_another_source_is_refused(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(cache, "SOURCE_HASH", "another")
    with pytest.raises(ConfigError, match=r"^the worker on .* runs another version"):
        Grid(tmp_path, scheduler=cluster.scheduler_address)(jobs())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_without_workers_is_one_line(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 2)
    with pytest.raises(WorkerDied, match="has had no worker for 2 s; workers end if they lack"):
        Grid(tmp_path, scheduler=scheduler[1])(jobs(cache.key_of))  # never runs


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_lacks_a_module_is_one_line(tmp_path, scheduler):
    with pytest.raises(ConfigError, match="the scheduler lacks memsinks_np; install it there"):
        Grid(tmp_path, scheduler=scheduler[1])(jobs())  # measured by this file


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_killed_scheduler_is_one_line(tmp_path, scheduler, caplog):
    process, address = scheduler
    timer = threading.Timer(3, process.kill)
    timer.start()
    with pytest.raises(WorkerDied, match="the scheduler was killed or cannot be reached"):
        Grid(tmp_path, scheduler=address)(jobs(cache.key_of))  # never runs
    assert not caplog.records, "dask logs tracebacks"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_survives_a_killed_worker_not_a_deadly_job(tmp_path, cluster):
    once = jobs(partial(die, note=str(tmp_path / "note")), keys=KEYS[:1])
    assert len(Grid(tmp_path / "cache", scheduler=cluster.scheduler_address)(once)) == 1
    assert (tmp_path / "note").exists()
    always = jobs(partial(die, note=""), keys=KEYS[:1])
    with pytest.raises(WorkerDied, match="a worker of the cluster was killed"):
        Grid(tmp_path / "cache", scheduler=cluster.scheduler_address)(always)
