"""The figures of the README: python -m memsinks_np.experiments.report.pictures (some minutes).

Trains three methods on stories, and writes mechanism.svg, mechanism-dark.svg and
learn-and-remove.svg into figures/, or into the folder that is named.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from memsinks_np._internal.files import write_atomic
from memsinks_np.experiments.methods import PRESETS
from memsinks_np.experiments.report.learn_and_remove import learn_and_remove
from memsinks_np.experiments.report.mechanism import mechanism
from memsinks_np.experiments.report.moments import STEPS, Row, measure

PRESET = PRESETS["stories"]


def pictures(rows: Mapping[str, Row]) -> dict[str, str]:
    """Return each figure by its file name."""
    return {
        "mechanism.svg": mechanism(PRESET, rows, dark=False),
        "mechanism-dark.svg": mechanism(PRESET, rows, dark=True),
        "learn-and-remove.svg": learn_and_remove(rows, STEPS),
    }


if __name__ == "__main__":
    for name, svg in pictures(measure(PRESET)).items():
        write_atomic(Path(*sys.argv[1:2] or ["figures"]) / name, svg)
