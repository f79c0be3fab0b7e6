"""Print the table of tests/README.md on time and memory: python tests/helpers/load.py (10 minutes).

Each row is measured in its own process: processor seconds, and peak memory (up to 4 GB).
"""

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from memsinks_np._internal.ids import hash_ints
from memsinks_np._internal.tables import table
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.text import read_text
from memsinks_np.experiments.methods import PRESETS, job, methods_of, with_settings
from memsinks_np.train import train

STEPS = 5
SIZES = {
    "pool of 1,024 sinks": {"n_sink": 1 << 10},
    "pool of 32,768": {"n_sink": 1 << 15},
    "pool of 1,048,576": {"n_sink": 1 << 20},
    "100 repeated sequences": {"n_repeated": 100},
    "10,000": {"n_repeated": 10_000},
    "100,000": {"n_repeated": 100_000},
    "windows of 32 tokens": {"n_ctx": 32},
    "of 128": {"n_ctx": 128},
    "of 512": {"n_ctx": 512},
    "text of 1 MB": {"megabytes": 1},
    **{f"of {n} MB": {"megabytes": n} for n in (10, 100, 200)},
}


def write_text(path: Path, megabytes: int) -> None:
    """Write the words of Python's help in a random order."""
    words = read_text("pydoc").split()
    with path.open("w") as file:
        while file.tell() < megabytes * 10**6:
            order = hash_ints(7, file.tell(), np.arange(100_000)) % np.uint64(len(words))
            file.write(" ".join(words[i] for i in order.tolist()) + "\n")


def measure(what: str) -> None:
    """Make the data, train with sinks, evaluate a little, and print time and memory."""

    start, size, preset = time.process_time(), dict(SIZES[what]), PRESETS["stories"]
    with tempfile.TemporaryDirectory() as folder:
        if megabytes := size.pop("megabytes", 0):
            size["corpus"] = str(Path(folder) / "text.txt")
            write_text(Path(size["corpus"]), megabytes)
            start = time.process_time()
        sinks = replace(preset.sinks, n_sink=size.pop("n_sink", preset.sinks.n_sink))
        train_settings = {"steps": STEPS, "eval_every": STEPS}
        data = {"n_heldout": 32} | size
        preset = with_settings(preset._replace(sinks=sinks), data=data, train=train_settings)
        method, settings, _ = job(preset, methods_of(preset)["sinks"], 0, len)
        corpus = load_corpus(settings.data)
        loaded = time.process_time()
        train(method, settings, corpus)
        trained = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    print(f"{what}|{loaded - start:.1f}|{trained - loaded:.1f}|{peak:.2f}")


def main() -> None:
    """Measure each row in its own process and print the table."""
    run = lambda what: subprocess.check_output([sys.executable, __file__, what], text=True)
    rows = [run(what).strip().split("|") for what in SIZES]
    time_of_steps = f"{STEPS} steps and two evaluations (s)"
    print(table(["what", "data (s)", time_of_steps, "memory (GB)"], rows))


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
