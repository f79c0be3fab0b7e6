"""Whatever kills a run, the same command goes on and gives the same bytes, and nothing stays behind."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from commands import ROOT, bytes_of, command, group, run, start, wait_for


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
from memsinks_np._internal import files as checkpoint

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
@pytest.mark.parametrize(
    "kill", ["parent 1", "parent 3", "parent 6", "worker 1", "worker 2", "worker 7"]
)
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
    assert err.strip() == f"run_toy.py: interrupted; finished methods are kept; {continues}"
    assert took < 1.5, "a second, and some for a busy machine"
    wait_for(lambda: not group(process.pid), 2)


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    process = start(
        tmp_path, "--steps", "3000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(
            lambda: len(group(process.pid)) >= 3
        )  # the parent, the resource tracker, the worker
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
