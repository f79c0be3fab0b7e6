"""Plant single faults in every backward: the checker must find each.

Faults are planted one at a time: a sum, difference or product keeps one side only (a lost term,
scale or mask), a sum becomes a difference, a transpose is dropped, the operands of a matrix product
are swapped, an in-place step is left out, two returned gradients change places, an axis changes.
"""

import ast
import inspect
import textwrap
from pathlib import Path

import numpy as np
import pytest

from memsinks_np import model, ops, sinks
from memsinks_np.baselines import gates, unlearn
from memsinks_np.gradcheck import check
from memsinks_np.gradcheck.cases import cases

CASES = {case.name: case for case in cases()}
BACKWARDS = {
    ops.embedding_backward: ["embedding", "embedding, large V"],
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
    model.block_backward: ["block"],
    model.model_backward: ["model, mask", "model, rows"],
    unlearn.npo_backward: ["npo"],
    gates.hard_concrete_backward: ["hard_concrete"],
    gates.open_fraction_backward: ["open_fraction"],
    gates.gate_grads: ["model, gates"],
}
OPPOSITE = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


def edits(node):
    """Yield every single fault at one node as (description, replacement)."""
    text = ast.unparse(node)
    match node:
        case ast.BinOp(left, op, right):
            yield f"only {ast.unparse(left)} of {text}", left
            yield f"only {ast.unparse(right)} of {text}", right
            if isinstance(op, ast.MatMult):
                yield f"swapped {text}", ast.BinOp(right, op, left)
            elif type(op) in OPPOSITE:
                other = OPPOSITE[type(op)]
                yield f"{other.__name__} in {text}", ast.BinOp(left, other(), right)
        case ast.Attribute(value, "T") | ast.Call(ast.Name("transpose"), [_, value]):
            yield f"no transpose in {text}", value
        case ast.AugAssign():
            yield f"without {text}", ast.Pass()
        case ast.keyword("axis", value):
            other = int(ast.unparse(value) == "0")
            yield f"another {text}", ast.keyword("axis", ast.Constant(other))
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            yield f"{value} + 1", ast.Constant(value + 1)
        case ast.List(elts, ast.Load()) | ast.Tuple(elts, ast.Load()):
            for i in range(len(elts) - 1):
                swapped = [*elts[:i], elts[i + 1], elts[i], *elts[i + 2 :]]
                yield f"places {i} and {i + 1} of {text}", type(node)(swapped, ast.Load())


class Replace(ast.NodeTransformer):
    def __init__(self, target, replacement):
        self.target, self.replacement = target, replacement

    def visit(self, node):
        return self.replacement if node is self.target else super().visit(node)


def mutants(function):
    """Yield (description, code object) for every single fault in a function."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    hints = [getattr(n, name, None) for n in ast.walk(tree) for name in ("annotation", "returns")]
    ignored = {part for hint in hints if hint for part in ast.walk(hint)}
    nodes = [node for node in ast.walk(tree) if node not in ignored]
    faults = [(node, *edit) for node in nodes for edit in edits(node)]
    for node, fault, replacement in faults:
        Replace(node, replacement).visit(tree)
        code = compile(ast.fix_missing_locations(tree), function.__name__, "exec")
        Replace(replacement, node).visit(tree)
        namespace = {}
        exec(code, function.__globals__, namespace)
        yield fault, namespace[function.__name__].__code__


def is_found(case):
    """Return whether the checker finds the fault; an exception counts."""
    try:
        return not all(result.ok for result in check(case, seed=1, directions=1))
    except Exception:
        return True


@pytest.mark.parametrize("function", BACKWARDS, ids=lambda f: f.__name__)
def test_every_planted_fault_is_found(function):
    chosen = [CASES[name] for name in BACKWARDS[function]]
    assert not any(map(is_found, chosen))  # without a fault
    original, missed = function.__code__, []
    planted = list(mutants(function))
    for fault, code in planted:
        function.__code__ = code
        try:
            with np.errstate(all="ignore"):
                if not any(map(is_found, chosen)):
                    missed.append(fault)
        finally:
            function.__code__ = original
    assert len(planted) >= 2
    assert missed == []


@pytest.mark.parametrize("fault", ["dW[index] = dy2", "dW[index] += dy2", "pass"])
def test_a_repeated_token_that_does_not_add_is_found(fault, monkeypatch):
    case = CASES["embedding, large V"]
    source, right = inspect.getsource(ops.embedding_backward), "xp.add.at(dW, index, dy2)"
    assert right in source
    assert not is_found(case)
    exec(source.replace(right, fault), vars(ops), planted := {})
    monkeypatch.setattr(ops.embedding_backward, "__code__", planted["embedding_backward"].__code__)
    assert is_found(case)


def test_every_backward_of_the_package_is_mutated():
    found = {
        f
        for module in (ops, sinks, model, gates, unlearn)
        for name, f in vars(module).items()
        if name.endswith("_backward") and f.__module__ == module.__name__
    }
    assert found - set(BACKWARDS) == {sinks.sink_backward}  # it only calls one of two that are


def test_readme_states_the_number_of_faults():
    planted = sum(1 for function in BACKWARDS for _ in mutants(function))
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"inject {planted} single bugs into the backward passes" in " ".join(readme.split())
