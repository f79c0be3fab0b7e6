"""Which source made a result: a module's own, and that of all that it imports from this package or from beside it."""

import ast
import hashlib
import importlib
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent
TOLD = ("plots", "report")  # how numbers are shown does not change them


def imports(path: Path) -> set[Path]:
    """The files that one file imports, by whatever spelling; those of other packages are left out."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names, folders = [alias.name for alias in node.names], [PACKAGE.parent, path.parent]
        elif isinstance(node, ast.ImportFrom):
            of = f"{node.module}." if node.module else ""
            names = [of.rstrip("."), *(of + alias.name for alias in node.names)]  # a module, or what is in one
            folders = [path.parents[node.level - 1]] if node.level else [PACKAGE.parent, path.parent]
        else:
            continue
        found |= {folder.joinpath(*name.split(".")).with_suffix(".py") for folder in folders for name in names if name}
    return {file for file in found if file.is_file() and file.stem not in TOLD}


@lru_cache
def files(module: str) -> frozenset[Path]:
    """The file of a module and those of all that it imports, directly or through others."""
    found: set[Path] = set()
    new = {Path(importlib.import_module(module).__file__ or "")}
    while new:
        found |= new
        new = {file for path in new for file in imports(path)} - found
    return frozenset(found)


@lru_cache
def source(module: str) -> str:
    """A hash of all these files: what an older source made is not this one's."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files(module)))).hexdigest()
