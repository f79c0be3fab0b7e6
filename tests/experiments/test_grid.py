"""Many runs at once: what is finished is kept, a killed worker costs one run and is named, here and on a cluster."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from memsinks_np.crew import PartnerDied

from memsinks_np._internal.files import alone
from memsinks_np.config import ConfigError
from memsinks_np.experiments.methods import PRESETS, methods_of, quick, seeded
from memsinks_np.experiments.runner import grid, workers
from memsinks_np.experiments.runner.grid import Grid, WorkerDied, result_path, train_cached
from memsinks_np.train import Model
from tutorials import toy as lessons

PRESET = quick(PRESETS["stories"], steps=3)
METHODS = methods_of(PRESET)
JOBS = [seeded(PRESET, METHODS[name], seed) for name in ("standard", "narrow") for seed in (0, 1)]


def last(job, trained, field="heldout_own"):
    return {
        "method": job.method.name,
        "seed": job.settings.train.seed,
        "loss": trained.history[-1][field],
    }


def killed(job, trained, victim, again):
    """Dies like a process that the kernel kills; `again`: also when it is run a second time."""
    note = Path(victim[2])
    if [job.method.name, job.settings.train.seed] == victim[:2] and (again or not note.exists()):
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return last(job, trained)


def torn_apart(job, trained, victim):
    """Fails as a training does whose second process was killed."""
    if [job.method.name, job.settings.train.seed] == victim:
        raise PartnerDied("the other process of a training has ended")
    return last(job, trained)


def test_results_come_in_the_order_of_the_jobs_and_are_kept(tmp_path):
    here = Grid(tmp_path, workers=2)
    found = here(JOBS, last)
    assert [(row["method"], row["seed"]) for row in found] == [
        ("standard", 0),
        ("standard", 1),
        ("narrow", 0),
        ("narrow", 1),
    ]
    assert found == [last(job, train_cached(job, tmp_path)) for job in JOBS]
    path = result_path(tmp_path, JOBS[2], last)
    path.write_text(json.dumps({"result": "read, not computed"}))
    assert here(JOBS, last)[2] == "read, not computed"


def interrupted(seconds):
    """Five calls on two workers, and Ctrl-C after `seconds`; returns the calls."""
    calls = []
    with suppress(KeyboardInterrupt), workers.processes(2, None) as submit:
        calls += [submit(time.sleep, 60) for _ in range(5)]
        time.sleep(seconds)
        raise KeyboardInterrupt
    return calls


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.5])
def test_nothing_goes_on_after_an_interrupt(seconds):
    """No worker, whenever it was started, and no thread that minds it: Python would end with a traceback of theirs."""
    before = set(threading.enumerate())
    calls = interrupted(seconds)
    assert all(call.done() for call in calls)
    assert not multiprocessing.active_children()
    assert set(threading.enumerate()) == before


TWICE = """
import os, signal, threading, time
from contextlib import suppress
from memsinks_np.experiments.runner import workers

if __name__ == "__main__":
    for _ in range(4):
        with suppress(KeyboardInterrupt):
            with workers.processes(2, None) as submit:
                [submit(time.sleep, 60) for _ in range(2)]
                threading.Timer(0.004, os.kill, (os.getpid(), signal.SIGINT)).start()
                raise KeyboardInterrupt
            time.sleep(1)
    time.sleep(0.1)
"""


def test_ctrl_c_twice_waits_for_nothing_either(tmp_path):
    """The second one, while the first is being obeyed."""
    (tmp_path / "twice.py").write_text(TWICE)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, tmp_path / "twice.py"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env=env,
    )
    assert (done.returncode, done.stderr) == (0, "")


def noted(job, trained, folder):
    """Leaves a file behind for every time that it is called."""
    Path(folder, str(time.time_ns())).touch()
    return last(job, trained)


def test_the_same_job_is_run_once_however_often_it_is_asked_for(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    first, *_, other = JOBS
    found = Grid(tmp_path, workers=2)(
        [first, other, first, first], partial(noted, folder=str(notes))
    )
    assert [row["method"] for row in found] == ["standard", "narrow", "standard", "standard"]
    assert len(list(notes.iterdir())) == 2


def test_results_are_kept_apart_by_function_argument_arm_and_seed(tmp_path):
    same = {
        result_path(tmp_path, job, then)
        for job in (*JOBS, JOBS[0]._replace(method=replace(JOBS[0].method, name="another name")))
        for then in (
            last,
            partial(last, field="repeated_own"),
            partial(last, field="heldout_removed"),
            killed,
        )
    }
    assert len(same) == 5 * 4


def test_a_killed_worker_costs_one_run_and_is_named(tmp_path):
    then = partial(killed, victim=["narrow", 0, str(tmp_path / "note")], again=False)
    here = Grid(tmp_path / "cache", workers=2)
    with pytest.raises(WorkerDied, match=r"killed in narrow seed 0; the same command"):
        here(JOBS, then)
    assert [result_path(here.cache, job, then).exists() for job in JOBS] == [
        True,
        True,
        False,
        True,
    ]
    assert here(JOBS, then)[2]["method"] == "narrow"  # the second time it is not killed


def test_a_pair_that_lost_one_process_costs_one_run_and_is_named(tmp_path):
    here = Grid(tmp_path, workers=1)
    with pytest.raises(WorkerDied, match=r"killed in narrow seed 0; the same command"):
        here(JOBS, partial(torn_apart, victim=["narrow", 0]))
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_what_a_worker_raises_reaches_the_caller(tmp_path):
    with pytest.raises(KeyError, match="no such field"):
        Grid(tmp_path, workers=2)(JOBS, partial(last, field="no such field"))


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match=r"--scheduler tcp://127\.0\.0\.1:1: no answer"):
        Grid(tmp_path, scheduler="tcp://127.0.0.1:1")(JOBS, last)


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_the_same_as_this_machine(tmp_path, cluster):
    here = Grid(tmp_path / "here", workers=1)(JOBS, last)
    assert Grid(tmp_path / "there", scheduler=cluster.scheduler_address)(JOBS, last) == here


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_worker_of_a_cluster_that_is_killed_costs_nothing_and_a_deadly_run_is_named(
    tmp_path, cluster
):
    once = partial(killed, victim=["narrow", 0, str(tmp_path / "note")], again=False)
    assert len(Grid(tmp_path / "cache", scheduler=cluster.scheduler_address)(JOBS, once)) == 4
    assert (tmp_path / "note").exists()
    always = partial(killed, victim=["narrow", 1, str(tmp_path / "note")], again=True)
    with pytest.raises(WorkerDied, match="narrow seed 1"):
        Grid(tmp_path / "cache", scheduler=cluster.scheduler_address)(JOBS, always)


def test_a_lesson_trains_its_arm_once_and_finds_it_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSINKS_CACHE", str(tmp_path / "kept"))
    small = {"n_repeated": 8, "n_heldout": 8}
    first = lessons.trained("sinks", steps=2, **small)
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 1
    monkeypatch.setattr(grid, "train", lambda *_: pytest.fail("trained again"))
    again = lessons.trained(methods_of(PRESETS["stories"])["sinks"], steps=2, **small)
    assert again.cfg == first.cfg
    assert first.cfg.sinks == METHODS["sinks"].sinks
    assert len(again.corpus.repeated) == 8
    for name, w in first.params.items():
        assert (again.params[name] == w).all()


def test_nobody_sweeps_the_cache_while_a_lesson_trains(tmp_path, monkeypatch):
    def watched(job, cache):
        with pytest.raises(ConfigError, match="in use by another run"), alone(cache):
            pass
        return Model({}, [])

    monkeypatch.setenv("MEMSINKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lessons, "train_cached", watched)
    assert lessons.history("sinks", steps=2) == []


def test_a_lesson_is_that_of_its_seed_steps_and_data(monkeypatch):
    asked, preset = [], PRESETS["stories"]
    known = lambda job, cache: asked.append(job) or Model({}, [{"step": 0, "train": 2.5}])
    monkeypatch.setattr(lessons, "train_cached", known)
    lesson = lessons.trained("sinks", 7, seed=5, n_canaries=3)
    rows = lessons.history("narrow", 9, seed=6)
    for job, name, steps, seed, n in zip(
        asked, ("sinks", "narrow"), (7, 9), (5, 6), (3, 0), strict=True
    ):
        s = preset.settings
        s = replace(s, data=replace(s.data, n_canaries=n), train=replace(s.train, steps=steps))
        assert job == seeded(preset._replace(settings=s), methods_of(preset)[name], seed)
    assert lesson.cfg.sinks.seed == lesson.corpus.cfg.seed == 5
    assert len(lesson.corpus.repeated) == 64 + 3
    assert rows == [{"method": "narrow", "seed": 6, "step": 0, "train": 2.5}]


def test_a_lesson_keeps_its_arms_beside_the_command_that_it_can_see(tmp_path, monkeypatch):
    (tmp_path / "run_toy.py").touch()
    (tmp_path / "tutorials" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tutorials" / "deep")
    assert lessons.clone() == tmp_path
    (tmp_path / "run_toy.py").unlink()
    assert lessons.clone() == tmp_path / "tutorials" / "deep"
