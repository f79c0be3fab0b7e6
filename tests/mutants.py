"""Plant random single faults in the core modules, and report which ones no test finds.

    nice -n 19 python tests/mutants.py --n 300 --seed 0

Each mutant is a copy of the repository in which one operator, comparison, constant, call or
statement differs. Its module's test files run on it, up to the first failure. Survivors are printed
as they come; judge each: it computes the same (equivalent), or a test is missing. In the same
source, a seed plants the same faults, and --skip continues where a run stopped.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
TESTS = {  # module -> test files of tests/unit, the fastest first
    "sinks": "sinks model batches metrics golden",
    "ops": "ops model sinks golden gradcheck",
    "model": "model sinks batches golden gradcheck",
    "optim": "optim train golden",
    "train": "train golden api",
    "metrics": "metrics memorization api",
    "data/stories": "stories data golden",
    "data/people": "people golden",
    "data/text": "text data",
    "data/own": "documents api batches",
    "data/corpus": "data people batches text api golden",
    "data/batches": "batches metrics train model",
    "_internal/ids": "ids sinks data batches",
}
BOTH_WAYS = "Add Sub, Mult Div, BitAnd BitOr, LShift RShift, And Or, Lt LtE, Gt GtE, Eq NotEq, "
BOTH_WAYS += "Is IsNot, In NotIn"
PAIRS = [pair.split() for pair in BOTH_WAYS.split(", ")]
PAIRS += [[b, a] for a, b in PAIRS]
PAIRS += [["FloorDiv", "Mult"], ["Mod", "FloorDiv"], ["Pow", "Mult"], ["BitXor", "BitOr"]]
SWAPS = {getattr(ast, a): getattr(ast, b) for a, b in PAIRS}
CALLS = {"min": "max", "any": "all", "maximum": "minimum", "zeros": "ones", "argmin": "argmax"}
CALLS |= {b: a for a, b in CALLS.items()}


class Mutant(NamedTuple):
    """One fault: the bytes of a file from `start` to `end` become `new`."""

    module: str
    line: int
    start: int
    end: int
    new: str


def changes(node: ast.AST) -> Iterator[ast.AST | str]:
    """Yield what may stand in a node's place."""
    match node:
        case ast.BinOp(a, op, b) if type(op) in SWAPS:
            yield ast.BinOp(a, SWAPS[type(op)](), b)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(SWAPS[type(op)](), values)
        case ast.Compare(a, [op], [b]):
            yield ast.Compare(a, [SWAPS[type(op)]()], [b])
        case ast.UnaryOp(_, a):
            yield a
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Name(name) if name in CALLS:
            yield ast.Name(CALLS[name])
        case ast.Attribute(a, name) if name in CALLS:
            yield ast.Attribute(a, CALLS[name])
        case ast.Call(f, [a, b, *rest], keywords) if ast.dump(a) != ast.dump(b):
            yield ast.Call(f, [b, a, *rest], keywords)
        case ast.IfExp(test, a, b):
            yield ast.IfExp(test, b, a)
        case ast.AugAssign() | ast.Expr(ast.Call()) | ast.Continue() | ast.Break():
            yield "pass"


def mutants_of(module: str) -> list[Mutant]:
    """Return every fault of a module, except in annotations, f-strings and docstrings."""
    source = (ROOT / f"memsinks_np/{module}.py").read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(source) if byte == ord("\n"))]
    nodes = list(ast.walk(ast.parse(source)))
    hints = [getattr(n, name, None) for n in nodes for name in ("annotation", "returns")]
    skipped = [h for h in hints if h] + [n for n in nodes if isinstance(n, ast.JoinedStr)]
    hidden = {part for n in skipped for part in ast.walk(n)}
    found = []
    for node in nodes:
        for change in changes(node) if node not in hidden else ():
            new = change if isinstance(change, str) else ast.unparse(change)
            new = f"({new})" if isinstance(change, ast.expr) else new
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            found.append(Mutant(module, node.lineno, start, end, new))
    return found


def outcome(mutant: Mutant, timeout: float) -> str:
    """Run the tests of the module on a copy with the fault: SURVIVED, killed or timed out."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "figures"))
        path = copy / f"memsinks_np/{mutant.module}.py"
        source = path.read_bytes()
        path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
        files = [f"tests/unit/test_{name}.py" for name in TESTS[mutant.module].split()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
        env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(command, cwd=copy, env=env, capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return "timed out"
        return "killed" if done.returncode else "SURVIVED"


def main() -> None:
    """Plant the faults, and print the survivors and their number."""
    p = argparse.ArgumentParser(description="Plant random faults; see the top of the file.")
    for option, default in (("n", 300), ("seed", 0), ("skip", 0), ("jobs", 1), ("timeout", 600)):
        p.add_argument(f"--{option}", type=int, default=default, help="default: %(default)s")
    a = p.parse_args()
    every = [mutant for module in TESTS for mutant in mutants_of(module)]
    chosen = random.Random(a.seed).sample(every, a.n)[a.skip :]
    for module in {m.module for m in chosen}:  # without a fault, the tests pass
        assert outcome(Mutant(module, 0, 0, 0, ""), a.timeout) == "SURVIVED", module
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(a.jobs) as pool, tqdm(total=len(chosen)) as bar:
        outcomes = pool.map(partial(outcome, timeout=a.timeout), chosen)
        for m, how in zip(chosen, outcomes, strict=True):
            source = (ROOT / f"memsinks_np/{m.module}.py").read_bytes()
            old = " ".join(source[m.start : m.end].decode().split())
            if how != "killed":
                bar.write(f"{how} {m.module}.py:{m.line}: {old} -> {m.new}")
            counts[how] += 1
            bar.update()
    print(f"{len(chosen)} mutants: {dict(counts)}")


if __name__ == "__main__":
    main()
