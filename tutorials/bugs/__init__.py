"""Ten planted bugs for page 16, each a patch that is applied to a copy of the package."""

import ast
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPIED = ("memsinks_np", "tests", "README.md", "pyproject.toml")  # what the checks need
NUMBERS = tuple(sorted(int(path.stem) for path in HERE.glob("*.patch")))


def patch_of(number: int) -> str:
    """Return the text of a bug's patch."""
    return (HERE / f"{number:02d}.patch").read_text(encoding="utf-8")


def parse(patch: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the file that a unified diff changes, and the old and new lines of each hunk."""
    header, *hunks = patch.strip("\n").split("\n@@")
    pairs = []
    for hunk in hunks:
        lines = hunk.split("\n")[1:]
        old, new = ("".join(f"{x[1:]}\n" for x in lines if x[:1] in (" ", mark)) for mark in "-+")
        pairs.append((old, new))
    return header.rpartition("+++ b/")[2].strip(), pairs


def apply(patch: str, folder: Path) -> None:
    """Apply a unified diff of one file. The old lines of a hunk must occur once, anywhere."""
    name, hunks = parse(patch)
    source = (folder / name).read_text(encoding="utf-8")
    for old, new in hunks:
        if source.count(old) != 1:
            raise ValueError(f"{name} does not have these lines exactly once:\n{old}")
        source = source.replace(old, new)
    (folder / name).write_text(source, encoding="utf-8")


def function_of(patch: str) -> str:
    """Return the function that a patch changes."""
    name, [(old, _), *_] = parse(patch)
    source = (ROOT / name).read_text(encoding="utf-8")
    line = source[: source.index(old)].count("\n") + 1
    functions = [f for f in ast.walk(ast.parse(source)) if isinstance(f, ast.FunctionDef)]
    return [f.name for f in functions if f.lineno <= line <= (f.end_lineno or 0)][-1]


def plant(patch: str, folder: Path) -> None:
    """Copy the package and its tests into a folder, and apply a patch; an empty one is no bug."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder)
    if patch:
        apply(patch, folder)


def run(patch: str, command: str) -> tuple[int, list[str]]:
    """Run `python -m COMMAND` in a copy with a patch; return its exit code and output lines."""
    with tempfile.TemporaryDirectory() as name:
        plant(patch, Path(name))
        python = [sys.executable, "-B", "-m", *shlex.split(command)]
        done = subprocess.run(python, cwd=name, capture_output=True, text=True)
    return done.returncode, [*done.stdout.splitlines(), *done.stderr.splitlines()]
