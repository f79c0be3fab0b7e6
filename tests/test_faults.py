"""Whatever ends a run, the same command goes on and gives the same bytes; nothing half written is believed."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import run_toy
from memsinks_np import checkpoint, grid
from memsinks_np.arms import PRESETS, jobs_of, quick
from memsinks_np.checkpoint import alone, in_turn, together
from memsinks_np.config import ConfigError

ROOT = Path(__file__).parent.parent
RESULTS = ["config.json", "headline.png", "headline.svg", "history.csv", "result.json", "samples.txt", "summary.json"]


def command(out, *more):
    return [sys.executable, str(ROOT / "run_toy.py"), "--quick", "--workers", "1", "--out", str(out), *more]


def run(out, *more, **options):
    return subprocess.run(command(out, *more), capture_output=True, text=True, check=False, **options)


def start(out, *more, **options):
    """A run in a process group of its own, interruptible even where the tests' own process ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    try:
        return subprocess.Popen(command(out, *more), **{**pipes, **options})
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(condition, seconds=60):
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "waited in vain"
        time.sleep(0.01)


def bytes_of(out):
    return {name: (out / "headline" / name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What comes out when nothing happens."""
    out = tmp_path_factory.mktemp("whole")
    done = run(out)
    assert done.returncode == 0, done.stderr
    return bytes_of(out)


@pytest.mark.slow
def test_killed_at_30_random_moments(tmp_path, whole):
    """SIGKILL to all processes of the run at once, over and over, until nothing is left to do; then a last run."""
    moments = random.Random(7)
    survived = 0
    for _ in range(30):
        process = start(tmp_path / "out")
        try:
            process.wait(moments.uniform(0.2, 4.0))
            survived += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if survived == 2:  # finished: from the beginning again
            assert bytes_of(tmp_path / "out") == whole
            assert not list(tmp_path.rglob("*.part"))
            (tmp_path / "out").rename(tmp_path / f"out{len(list(tmp_path.iterdir()))}")
            survived = 0
    done = run(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "out") == whole


KILLED_IN_A_WRITE = """
import os, signal, sys
import run_toy
from memsinks_np import checkpoint

who, left = os.environ["KILL"].split()
left = int(left) if who == {"__main__": "parent", "__mp_main__": "worker"}[__name__] else -1


def fsync(handle):
    global left
    left -= 1
    if left == 0:
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)


checkpoint.os.fsync = fsync
if __name__ == "__main__":
    sys.exit(run_toy.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["parent 1", "parent 3", "parent 6", "worker 1", "worker 2", "worker 7"])
def test_killed_in_the_middle_of_a_write(tmp_path, whole, kill):
    """The parent or a worker: half a file lies there, under a name that is not read."""
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(KILLED_IN_A_WRITE)
    env = os.environ | {"PYTHONPATH": str(ROOT), "KILL": kill}
    argv = [sys.executable, str(script), *command(out)[2:]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == (1 if kill.startswith("worker") else -signal.SIGKILL), done.stderr
    assert list(out.rglob("*.part"))
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert bytes_of(out) == whole
    assert not list(out.rglob("*.part"))


def test_a_full_disk_is_told_in_one_line_and_the_same_command_continues(tmp_path, whole):
    """No file may grow beyond 300 kB: the first arm does not fit."""
    limit = lambda: (
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    done = run(tmp_path, preexec_fn=limit)
    assert done.returncode == 1
    assert "File too large; finished arms are kept, the same command continues" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.npz")) + list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "headline" / "result.json").exists()
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path) == whole


def test_memory_that_does_not_suffice_is_told_in_one_line(tmp_path):
    """The matrices of the first arm need 2 GB, and the process may have 1.4."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (1_400_000_000, 1_400_000_000))
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread would take its share
    done = run(tmp_path, "--d-model", "8192", preexec_fn=limit, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("run_toy.py: Unable to allocate ")
    assert "finished arms are kept, the same command continues when that is mended" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npz", ".part")]


def test_a_disk_that_is_full_when_results_are_written(tmp_path, monkeypatch, capsys, whole):
    """The arms are trained by then; the next run writes what is missing."""
    real = checkpoint.write_whole

    def full(path, data):
        if path.name == "claims.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data)

    monkeypatch.setattr(run_toy, "write_whole", full)
    with pytest.raises(SystemExit) as e:
        run_toy.main(["--quick", "--out", str(tmp_path)])
    assert e.value.code == 1
    err = capsys.readouterr().err
    assert "claims.json: No space left on device; finished arms are kept, the same command continues" in err
    monkeypatch.undo()
    done = run(tmp_path)
    assert done.stdout.startswith("6 of 6 runs kept")
    assert bytes_of(tmp_path) == whole


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_refused_before_anything_is_trained(tmp_path):
    tmp_path.chmod(0o500)
    done = run(tmp_path)
    tmp_path.chmod(0o700)
    assert done.returncode == 2
    assert "cannot write there (Permission denied); choose another folder" in done.stderr


def test_a_lock_is_held_by_one_and_falls_with_its_process(tmp_path):
    code = f"import time; from memsinks_np.checkpoint import *; a = alone(Path({str(tmp_path)!r})); a.__enter__(); "
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "print(1, flush=True); time.sleep(60)"], stdout=-1, cwd=ROOT
    )
    holder.stdout.readline()
    with pytest.raises(ConfigError, match="is in use by another run; wait until it ends, or choose another --out"):
        alone(tmp_path).__enter__()
    holder.kill()
    holder.communicate()
    with alone(tmp_path):
        pass
    with alone(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


LEFT = ["result.json.4242.part", "headline.svg.7.part", "0a1b.npz.99999.part", "0a1b.33cd.json.1.part", "r.html.5.part"]
NOT_OURS = [
    "notes.part",
    "film.avi.3.part",
    "result.json.part",
    "result.json.x.part",
    "result.json",
    "4.npz.4.part.bak",
]


def leave_parts(folder):
    for name in (*LEFT, *NOT_OURS):
        (folder / name).write_text("half a fi")
    (folder / "a folder.json.1.part").mkdir()
    (folder / "a link.json.1.part").symlink_to(folder / "notes.part")


@pytest.mark.parametrize("enter", [alone, in_turn, together])
def test_half_written_files_of_killed_processes_are_swept_and_nothing_else(tmp_path, enter):
    leave_parts(tmp_path)
    with enter(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            [*NOT_OURS, "a folder.json.1.part", "a link.json.1.part"]
        )


def test_half_written_files_of_processes_that_still_run_are_not_swept(tmp_path):
    """Runs of several experiments share the trained arms: nothing is swept as long as one of them is there."""
    part = tmp_path / LEFT[0]
    first, second = together(tmp_path), together(tmp_path)
    first.__enter__()
    part.write_text("half a fi")
    second.__enter__()
    with pytest.raises(ConfigError, match="is in use by another run"), alone(tmp_path):
        pass
    first.__exit__(None, None, None)
    with together(tmp_path):
        assert part.exists()
    second.__exit__(None, None, None)
    with together(tmp_path):
        assert not part.exists()


def test_where_there_is_no_lock_nothing_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "fcntl", None)
    leave_parts(tmp_path)
    for enter in (alone, in_turn, together):
        with enter(tmp_path):
            assert len(list(tmp_path.iterdir())) == len(LEFT + NOT_OURS) + 2


def test_the_last_page_of_two_runs_holds_what_both_have_finished(tmp_path, monkeypatch):
    """The first has read all results that are there and is slow to write; the second finishes another meanwhile."""
    has_read, second_done = threading.Event(), threading.Event()

    def page(out):
        found = sorted(p.parent.name for p in out.glob("*/result.json"))
        if not has_read.is_set():
            has_read.set()
            second_done.wait(0.5)
        return " ".join(found)

    def finish(name):
        checkpoint.write_whole(tmp_path / name / "result.json", "{}")
        run_toy.write_page(tmp_path)

    monkeypatch.setattr(run_toy, "report_page", page)
    first = threading.Thread(target=finish, args=("fig3",))
    first.start()
    assert has_read.wait(10)
    finish("fig5")
    second_done.set()
    first.join()
    assert (tmp_path / "report.html").read_text() == "fig3 fig5"


def test_a_second_run_in_the_same_folder_is_refused_and_disturbs_nothing(tmp_path, capsys):
    with alone(tmp_path / "headline"), pytest.raises(SystemExit) as e:
        run_toy.main(["--quick", "--out", str(tmp_path)])
    assert e.value.code == 2
    assert "headline is in use by another run" in capsys.readouterr().err
    assert list((tmp_path / "headline").iterdir()) == []


def results_of_another_time(out):
    """As after a finished run with the default configuration."""
    a = run_toy.parser().parse_args(["--quick"])
    config = run_toy.configuration(run_toy.preset_of(a), a)
    run_toy.claim_folder(out / "headline", config)
    checkpoint.write_whole(out / "headline" / "result.json", "{}")
    return config


@pytest.mark.parametrize(
    "argv", [["--quick", "--lr", "1e-4"], ["--quick", "--n-sink", "512"], ["--quick", "--corpus", "pydoc"], []]
)
def test_results_of_another_configuration_are_never_overwritten(argv, tmp_path, capsys):
    results_of_another_time(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "headline").iterdir()}
    with pytest.raises(SystemExit) as e:
        run_toy.main([*argv, "--out", str(tmp_path)])
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "headline holds results of another configuration; choose another --out, or delete it" in err
    assert err.count("\n") == 1
    assert {p.name: p.read_bytes() for p in (tmp_path / "headline").iterdir()} == before


def test_other_seeds_and_versions_and_a_run_without_results_are_no_obstacle(tmp_path):
    config = results_of_another_time(tmp_path)
    run_toy.claim_folder(tmp_path / "headline", config | {"seeds": 5, "versions": {}})
    old = json.loads((tmp_path / "headline" / "config.json").read_text())
    assert old["seeds"] == 1  # it describes the results that are there, until there are others
    (tmp_path / "headline" / "result.json").unlink()
    run_toy.claim_folder(tmp_path / "headline", config | {"preset": "another"})
    assert json.loads((tmp_path / "headline" / "config.json").read_text())["preset"] == "another"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"preset"', "\0"])
def test_a_damaged_description_of_results_is_refused(text, tmp_path):
    config = results_of_another_time(tmp_path)
    (tmp_path / "headline" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json is damaged; delete .*headline"):
        run_toy.claim_folder(tmp_path / "headline", config)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", "[" * 9999, "\udcff"])
def test_a_damaged_result_in_the_cache_is_refused(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"is not a result .*; delete it and it is measured again"):
        grid.kept(path)


def test_a_damaged_arm_in_the_cache_is_refused_by_the_command(tmp_path):
    job = jobs_of(quick(PRESETS["stories"]), 0)[0]
    path = checkpoint.cache_path(tmp_path / "cache", checkpoint.describe(*job))
    checkpoint.write_whole(path, b"half an ar")
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{path} is not a trained arm (BadZipFile); delete it and it is trained again" in done.stderr


@pytest.mark.parametrize("lr", ["10", "1e30"])
def test_divergence_ends_the_command_with_one_line_and_the_parameters_before_it(lr, tmp_path):
    done = run(tmp_path, "--lr", lr)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run_toy.py: arm standard, step " in done.stderr
    assert "lower the learning rate (now " in done.stderr
    assert "lengthen the warm-up (now 10 steps)" in done.stderr
    aside = [p for p in (tmp_path / "cache").iterdir() if p.name.endswith(".diverged.npz")]
    assert len(aside) == 1
    assert str(aside[0]) in done.stderr
    assert not (tmp_path / "headline" / "result.json").exists()


def test_both_remedies_of_divergence_can_be_given_to_the_command():
    train = run_toy.preset_of(run_toy.parser().parse_args(["--lr", "1e-4", "--warmup", "200"])).settings.train
    assert (train.lr, train.warmup) == (1e-4, 200)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.7, 2.0])
def test_ctrl_c_on_a_terminal_ends_everything_within_a_second(seconds, tmp_path):
    """A terminal sends it to workers as well; the first of them has begun, `seconds` ago."""
    process = start(tmp_path, "--steps", "3000")
    wait_for(lambda: len(group(process.pid)) >= 3)
    time.sleep(seconds)
    before = time.perf_counter()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    took = time.perf_counter() - before
    assert process.returncode == 130
    continues = f"to continue: python run_toy.py --quick --workers 1 --out {tmp_path} --steps 3000"
    assert err.strip() == f"run_toy.py: interrupted; finished arms are kept; {continues}"
    assert took < 1.5, "a second, and some for a busy machine"
    wait_for(lambda: not group(process.pid), 2)


def group(pgid):
    """The processes of a group that still run."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [args for of, stat, args in rows if int(of) == pgid and not stat.startswith("Z")]


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    process = start(tmp_path, "--steps", "3000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(group(process.pid)) >= 3)  # the parent, the resource tracker, the worker
        time.sleep(2)
        process.kill()
        process.wait()
        wait_for(lambda: not group(process.pid), 5)
    finally:
        if group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def test_whoever_stops_reading_gets_no_traceback(tmp_path):
    process = start(tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert err == ""
