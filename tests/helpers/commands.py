"""Run the command in processes of its own."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ["claims.json", "config.json", "headline.png", "headline.svg", "history.csv"]
FILES += ["loss_map.json", "numbers.md", "result.json", "samples.txt"]


def command(out, *more):
    """Return the words of a quick run with one worker."""
    flags = ["--quick", "--workers", "1", "--out", str(out)]
    return [sys.executable, str(ROOT / "run_toy.py"), *flags, *more]


def run(out, *more, **options):
    """Run the command and return how it ended."""
    options = {"capture_output": True, "text": True, "check": False} | options
    return subprocess.run(command(out, *more), **options)


def run_script(path, code, *argv, **options):
    """Write a script, run it and return how it ended."""
    path.write_text(code)
    options = {"capture_output": True, "text": True, "check": False, "timeout": 60} | options
    return subprocess.run([sys.executable, str(path), *map(str, argv)], **options)


def start(out, *more, **options):
    """Start the command in a process group of its own, which Ctrl-C can interrupt."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # children inherit an ignored signal
    try:
        return subprocess.Popen(command(out, *more), start_new_session=True, **pipes | options)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(condition, seconds=60):
    """Wait until a condition is true; fail after some seconds."""
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, f"not true after {seconds} s"
        time.sleep(0.01)


def bytes_of(out):
    """Return the content of all files of the headline's results."""
    folder = out / "headline"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    return {name: (folder / name).read_bytes() for name in FILES}


def group(pgid):
    """Return {process ID: command line} of the processes of a group that still run."""
    ps = ["ps", "-ww", "-eo", "pid=,pgid=,stat=,args="]
    listed = subprocess.run(ps, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return {int(p): args for p, of, stat, args in rows if int(of) == pgid and stat[0] != "Z"}


def screen(output):
    """Return the lines that a terminal shows after an output with tqdm's control sequences."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|[\r\n]|[^\r\n\x1b]+", output):
        if part == "\x1b[A":
            row -= 1
        elif part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]
