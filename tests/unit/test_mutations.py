"""Single faults, planted in every backward: the checker kills each; none survives.

Each backward is mutated in place, one fault at a time: a sum, difference or product keeps one side only (a lost
term, scale or mask), a sum becomes a difference, a transpose is dropped, the operands of a matrix product are
swapped, an in-place step is left out (a dropped route), a tuple's gradients change places, an axis moves.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
from memsinks_np.posthoc import gates, localize, unlearn

from memsinks_np import model, ops, sinks
from memsinks_np.gradcheck import check
from memsinks_np.gradcheck.cases import cases

CASES = {case.name: case for case in cases()}
DENSE, GATHERED = "model, mask, tied head", "model, own (gathered), random_sinks head"
BACKWARDS = {
    ops.linear_backward: ["linear"],
    ops.layernorm_backward: ["layernorm"],
    ops.gelu_backward: ["gelu"],
    ops.softmax_backward: ["softmax"],
    ops.attention_backward: ["attention"],
    ops.mlp_backward: ["mlp"],
    ops.cross_entropy_backward: ["cross_entropy"],
    ops.split_heads_backward: ["split_heads"],
    ops.merge_heads_backward: ["merge_heads"],
    sinks.masked_sink_backward: ["masked_sink"],
    sinks.gathered_sink_backward: ["gathered_sink"],
    unlearn.npo_backward: ["npo"],
    model.block_backward: ["block"],
    model.model_backward: [DENSE, GATHERED],
    gates.hard_concrete_backward: ["hard_concrete"],
    gates.open_share_backward: ["open_share"],
    localize.gate_grads: ["gates of a model"],
}


def edits(node):
    """Every single fault at one node, as (what, replacement)."""
    if isinstance(node, ast.BinOp):
        yield f"only {ast.unparse(node.left)} of {ast.unparse(node)}", node.left
        yield f"only {ast.unparse(node.right)} of {ast.unparse(node)}", node.right
        if isinstance(node.op, ast.MatMult):
            yield f"swapped {ast.unparse(node)}", ast.BinOp(node.right, ast.MatMult(), node.left)
        other = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}.get(
            type(node.op)
        )
        if other:
            yield (
                f"{other.__name__} in {ast.unparse(node)}",
                ast.BinOp(node.left, other(), node.right),
            )
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield f"no transpose in {ast.unparse(node)}", node.value
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "flip":
        yield f"no transpose in {ast.unparse(node)}", node.args[1]
    if isinstance(node, ast.AugAssign):
        yield f"without {ast.unparse(node)}", ast.Pass()
    if isinstance(node, ast.keyword) and node.arg == "axis":
        yield (
            f"another {ast.unparse(node)}",
            ast.keyword("axis", ast.Constant(int(ast.unparse(node.value) == "0"))),
        )
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        yield f"{node.value} + 1", ast.Constant(node.value + 1)
    if (
        isinstance(node, ast.List | ast.Tuple)
        and isinstance(getattr(node, "ctx", None), ast.Load)
        and len(node.elts) > 1
    ):
        for i in range(len(node.elts) - 1):
            elts = [*node.elts[:i], node.elts[i + 1], node.elts[i], *node.elts[i + 2 :]]
            yield f"places {i} and {i + 1} of {ast.unparse(node)}", type(node)(elts, ast.Load())


def annotations(tree):
    """What says something and computes nothing: a fault in it is none."""
    said = [
        getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns")
    ]
    return {part for annotation in said if annotation for part in ast.walk(annotation)}


def mutants(function):
    """(what was done, code object) for every single fault in a function."""
    source = textwrap.dedent(inspect.getsource(function))
    total = len(list(ast.walk(ast.parse(source))))
    for i in range(total):
        k = 0
        while True:
            tree = ast.parse(source)
            target = list(ast.walk(tree))[i]
            found = [] if target in annotations(tree) else list(edits(target))
            if k >= len(found):
                break
            what, replacement = found[k]
            tree = Replace(target, replacement).visit(tree)
            space = {}
            exec(
                compile(ast.fix_missing_locations(tree), function.__name__, "exec"),
                function.__globals__,
                space,
            )
            yield what, space[function.__name__].__code__
            k += 1


class Replace(ast.NodeTransformer):
    def __init__(self, target, replacement):
        self.target, self.replacement = target, replacement

    def visit(self, node):
        return self.replacement if node is self.target else super().visit(node)


def killed(case):
    """Whether gradcheck sees the fault; an exception is a sighting too."""
    try:
        return not all(found.ok for found in check(case, seed=1, directions=1))
    except Exception:
        return True


@pytest.mark.parametrize("function", BACKWARDS, ids=lambda f: f.__name__)
def test_every_planted_fault_is_found(function: FunctionType, record_property):
    prepared = [CASES[name] for name in BACKWARDS[function]]
    assert not any(killed(case) for case in prepared)  # unharmed, it lives
    whole, survivors, planted = function.__code__, [], 0
    for what, code in mutants(function):
        planted += 1
        function.__code__ = code
        try:
            with np.errstate(all="ignore"):
                if not any(killed(case) for case in prepared):
                    survivors.append(what)
        finally:
            function.__code__ = whole
    record_property("planted", planted)
    assert planted >= 2
    assert survivors == []


def test_every_backward_of_the_package_is_mutated():
    found = {
        f
        for module in (ops, sinks, model, gates, localize, unlearn)
        for name, f in vars(module).items()
        if name.endswith("_backward") and f.__module__ == module.__name__
    }
    assert found - set(BACKWARDS) == {sinks.sink_backward}  # it only calls one of two that are


def test_the_readme_counts_the_faults():
    planted = sum(1 for function in BACKWARDS for _ in mutants(function))
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"plant (\d+) single faults", readme) == [str(planted)]
