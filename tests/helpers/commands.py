"""Runs of the command in processes of their own, for tests of what ends or disturbs them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = [
    "config.json",
    "headline.png",
    "headline.svg",
    "history.csv",
    "result.json",
    "samples.txt",
    "summary.json",
]


def command(out, *more):
    return [
        sys.executable,
        str(ROOT / "run_toy.py"),
        "--quick",
        "--workers",
        "1",
        "--out",
        str(out),
        *more,
    ]


def run(out, *more, **options):
    return subprocess.run(
        command(out, *more), capture_output=True, text=True, check=False, **options
    )


def start(out, *more, **options):
    """A run in a process group of its own, interruptible even where the tests' own process ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    pipes = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "start_new_session": True,
    }
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


def group(pgid):
    """The processes of a group that still run."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [args for of, stat, args in rows if int(of) == pgid and not stat.startswith("Z")]
