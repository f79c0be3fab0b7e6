"""Plant one of ten bugs in a copy of the package: `python -m tutorials.bugs 3`."""

import argparse
import tempfile
from pathlib import Path

from tutorials.bugs import NUMBERS, patch_of, plant


def main(argv: list[str] | None = None) -> None:
    """Make the copy, and print how to go on."""
    p = argparse.ArgumentParser(prog="python -m tutorials.bugs", description=__doc__)
    p.add_argument("number", type=int, choices=NUMBERS, help="which bug")
    number = p.parse_args(argv).number
    folder = Path(tempfile.mkdtemp(prefix=f"bug-{number:02d}-"))
    plant(patch_of(number), folder)
    print(f"cd {folder}")
    print("python -m memsinks_np.gradcheck")
    print("python -m pytest tests/unit")


if __name__ == "__main__":
    main()
