"""Whatever ends a run, the same command continues with the same bytes, and no process is left."""

import os
import random
import re
import signal
import subprocess
import time

import pytest

from commands import ROOT, bytes_of, command, group, run, run_script, start, wait_for
from memsinks_np._internal.command import run_command


@pytest.mark.slow
def test_a_run_killed_at_12_moments_gives_the_same_bytes(tmp_path, undisturbed):
    moments = random.Random(7)
    finished = 0
    for _ in range(12):
        process = start(tmp_path / "out")
        try:
            process.wait(moments.uniform(0.2, 4.0))
            finished += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if finished == 2:  # begin anew
            assert bytes_of(tmp_path / "out") == undisturbed
            assert not list(tmp_path.rglob("*.part"))
            (tmp_path / "out").rename(tmp_path / f"out{len(list(tmp_path.iterdir()))}")
            finished = 0
    done = run(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "out") == undisturbed


KILLED_IN_A_WRITE = """
import os, signal, sys
from memsinks_np._internal import files
from memsinks_np.experiments import cli

where, left = os.environ["KILL"].split()
left = int(left) if where == {"__main__": "parent", "__mp_main__": "worker"}[__name__] else -1


def fsync(handle):
    global left
    left -= 1
    if left == 0:
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)


files.os.fsync = fsync
if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["parent 1", "parent 6", "worker 7"])
def test_a_kill_in_the_middle_of_a_write_is_harmless(tmp_path, undisturbed, kill):
    out, env = tmp_path / "out", os.environ | {"PYTHONPATH": str(ROOT), "KILL": kill}
    done = run_script(tmp_path / "s.py", KILLED_IN_A_WRITE, *command(out)[2:], env=env)
    if kill.startswith("worker"):
        line = r"run_toy\.py: a worker was killed \(signal 9; out of memory\?\); finished.*\n"
        assert re.fullmatch(line, done.stderr), done.stderr
    assert done.returncode == (1 if kill.startswith("worker") else -signal.SIGKILL), done.stderr
    assert list(out.rglob("*.part"))
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert bytes_of(out) == undisturbed
    assert not list(out.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seconds", "times"),
    [
        ("SIGINT", 0.0, 2),
        ("SIGINT", 0.7, 1),
        ("SIGINT", 2.0, 2),
        ("SIGTERM", 0.7, 2),
        ("SIGTERM", 2.0, 1),
        ("SIGHUP", 0.0, 1),
        ("SIGHUP", 2.0, 2),
    ],
)
def test_a_signal_ends_all_processes(name, seconds, times, tmp_path):
    """A terminal sends it to the workers too. The first process has started `seconds` ago."""
    process = start(tmp_path, "--steps", "3000")
    wait_for(lambda: len(group(process.pid)) >= 2)
    time.sleep(seconds)
    for _ in range(times):
        os.killpg(process.pid, getattr(signal, name))
        time.sleep(0.02)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    remedy = f"to continue: python run_toy.py --quick --workers 1 --out {tmp_path} --steps 3000"
    assert err.strip() == f"run_toy.py: interrupted; finished runs are saved; {remedy}"
    wait_for(lambda: not group(process.pid))


INTERRUPTED = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["numpy", "tqdm"])  # the first import, and a late one
def test_an_interrupt_during_the_imports_is_silent(module, tmp_path):
    (tmp_path / f"{module}.py").write_text(INTERRUPTED)
    process = start(tmp_path / "out", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


def interrupted():
    raise KeyboardInterrupt


def test_an_interrupt_before_the_work_is_silent(capsys):
    with pytest.raises(SystemExit) as e:
        run_command("run_toy.py", interrupted)
    assert e.value.code == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = start(tmp_path, "--steps", "3000", **quiet)
    try:
        wait_for(lambda: len(group(process.pid)) >= 3)  # parent, resource tracker, worker
        time.sleep(2)
        process.kill()
        process.wait()
        wait_for(lambda: not group(process.pid), 5)
    finally:
        if group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_closed_stdout_ends_without_a_traceback(tmp_path):
    process = start(tmp_path, "--list")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 74
