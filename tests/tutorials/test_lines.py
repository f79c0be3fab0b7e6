"""A reader's backward is compared line by line, and the first mistake is named."""

import ast
import re

import numpy as np
import pytest
from test_graders import GRADERS

from memsinks_np import ops
from memsinks_np.model import MLP
from memsinks_np.ops import flatten_positions, sum_rows
from tutorials import refresh
from tutorials.graders import grader
from tutorials.graders.lines import Line, grade_lines
from tutorials.toy import TINY

COMPARED = [name for name in GRADERS if ".compare_" in name]
X = np.arange(1.0, 7.0).reshape(2, 3)
LINES = [Line("a", X, "think of a"), Line("b", X + 1, "think of b", {"one is missing": X})]


@grader
def compare(function):
    """Grade lines a and b, planted above."""
    return grade_lines(function, (X,), LINES, "both", ("a", "b"))


def right(x):
    a = x
    b = a + 1
    return a, b


def none(x):
    a = x
    b = None
    return a, b


def renamed(x):
    a = x
    c = x + 1
    return a, c


def slip(x):
    a = x
    b = x
    return a, b


def shape(x):
    a = x.T
    b = x + 1
    return a, b


def sign(x):
    a = -x
    b = x + 1
    return a, b


def factor(x):
    a = x * 3**0.5
    b = x + 1
    return a, b


def other(x):
    a = x**2
    b = x + 1
    return a, b


def words(x):
    a = "x"
    b = x + 1
    return a, b


def raises(x):
    a = x
    b = x @ x
    return a, b


def raises_later(x):
    a = x
    b = x + 1
    return a @ b


def swapped(x):
    a = x
    b = a + 1
    return b, a


def returns_nothing(x):
    a = x
    b = a + 1
    print(b)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (right, "right: both"),
        (none, "not yet: `a` is right; `b` is None"),
        (renamed, "not yet: `a` is right; there is no `b`"),
        (slip, "not yet: `a` is right; `b` differs: one is missing"),
        (shape, "not yet: `a` has shape (3, 2) and should have (2, 3); think of a"),
        (sign, "not yet: `a` has the wrong sign"),
        (factor, "not yet: `a` is 1.732 times what it should be"),
        (other, "not yet: `a` differs: think of a"),
        (words, "not yet: `a` is not an array of numbers"),
        (raises, "not yet: `a` is right; `b` raised ValueError: "),
        (raises_later, "not yet: every line is right, then came ValueError: "),
        (swapped, "not yet: every line is right, but the end is not `return a, b`"),
        (returns_nothing, "not yet: every line is right, but the end is not `return a, b`"),
        (len, "not yet: there is no `a`"),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_first_line_that_differs_is_named(function, line):
    assert compare(function).startswith(line)


def test_interrupt_passes_through():
    def interrupt(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(interrupt)


SCOPE = {"np": np, "ops": ops, "flatten_positions": flatten_positions, "sum_rows": sum_rows}
SCOPE |= {"gelu_backward": ops.gelu_backward, "MLP": MLP, "H": TINY.n_heads}


def function_of(code, scope, check):
    """Run the functions of a cell; return the one that it compares."""
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef):
            exec(ast.unparse(node), scope)
    return scope[re.search(rf"{check}\((\w+)\)", code)[1]]


def answers(name):
    """Return the functions that a page compares by `name`: the cell to fill in, the solution."""
    page, check = name.split(".")
    (path,) = refresh.HERE.glob(f"{page.removeprefix('page')}-*.md")
    text = path.read_text(encoding="utf-8")
    cells = [c["code"] for c in refresh.CELL.finditer(text) if f"{page}.{check}(" in c["code"]]
    return [(code, function_of(code, dict(SCOPE), check)) for code in cells]


@pytest.mark.parametrize("name", COMPARED)
def test_page_asks_for_the_lines_and_has_the_solution(name):
    (to_fill, stub), (solution, function) = answers(name)
    n = len(re.findall(r"= None.*  # yours", to_fill))
    assert n >= 1
    assert "# yours" not in solution
    assert "is None: write this line" in GRADERS[name](stub)
    assert GRADERS[name](function).startswith("right: ")


SLIPS = """
00.compare_linear  W.T -> W: W is not transposed
00.compare_linear  dy @ W.T -> W.T @ dy: order
00.compare_linear  x.T -> x: x is not transposed
00.compare_linear  x.T @ dy -> dy.T @ x: transpose of dW
00.compare_center  dy.mean(axis=-1, keepdims=True) -> 0: only the direct path
00.compare_center  dy.mean( -> dy.sum(: 1/C
00.compare_center  dy - -> dy +: has a minus
00.compare_center  axis=-1, keepdims=True -> : of each row
00.compare_center  axis=-1, keepdims=True -> axis=0: not over the rows
00.compare_cross_entropy   / len(p) -> : 1/N
00.compare_cross_entropy  p - true -> true - p: raises the loss
00.compare_cross_entropy  (p - true) -> true * (p - true): other words
00.compare_cross_entropy  (p - true) -> (-true / p): respect to p
02.compare_layernorm  xp.sum(dy * n, axis=(0, 1)) -> dy * n: over the positions
02.compare_layernorm  xp.sum(dy, axis=(0, 1)) -> dy: over the positions
02.compare_layernorm  dy * g -> dy: gain is missing
02.compare_layernorm  dn * rstd -> dn: rstd is missing
02.compare_layernorm  xp.sum(dn * xc, axis=-1, keepdims=True) -> dn * xc: serves C numbers
02.compare_layernorm  axis=-1, keepdims=True -> axis=-1: keepdims=True it fits
02.compare_layernorm  dn * xc -> dy * xc: not dy
02.compare_layernorm  rstd**3 -> rstd**2: power of rstd is 3
02.compare_layernorm  -0.5 -> 0.5: wrong sign
02.compare_layernorm  dxc_direct +  -> : direct route is not added
02.compare_layernorm  2 / C -> 2: factor 1/C
02.compare_layernorm  2 / C -> 1 / C: factor 2
02.compare_layernorm  dxc - xp.mean(dxc, axis=-1, keepdims=True) -> dxc: route is missing
02.compare_layernorm  xp.mean( -> xp.sum(: factor 1/C
02.compare_mlp  dy @ W_out.T -> dy @ W_out: W_out is not transposed
02.compare_mlp  post.T @ dy -> post @ dy: post is not transposed
02.compare_mlp  post.T @ dy -> dy.T @ post: transpose of dW_out
02.compare_mlp  post.T @ dy -> x.T @ dy: not x
02.compare_mlp  dy.sum(axis=0) -> dy: every row
02.compare_mlp  dy.sum(axis=0) -> dy.mean(axis=0): not a mean
02.compare_mlp  gelu_backward(np, dpost, c_act) -> dpost: slope of GELU
02.compare_mlp  W_in.T -> W_in: W_in is not transposed
02.compare_mlp  x.T @ dpre -> x @ dpre: x is not transposed
02.compare_mlp  x.T @ dpre -> dpre.T @ x: transpose of dW_in
02.compare_mlp  dpre.sum(axis=0) -> dpre: every row
02.compare_mlp  dpre.sum(axis=0) -> dpre.mean(axis=0): not a mean
03.compare_softmax  (dp - np.sum(p * dp, axis=-1, keepdims=True)) -> dp: not subtracted
03.compare_softmax  p * (dp -> (dp: factor p is missing
03.compare_softmax  np.sum(p * dp, axis -> np.mean(dp, axis: weighted by p
03.compare_softmax  np.sum(p * dp, axis -> np.sum(dp, axis: not over dp
03.compare_softmax  , axis=-1, keepdims=True -> : last axis alone
03.compare_attention  p.swapaxes(-1, -2) -> p: p is not transposed
03.compare_attention  v.swapaxes(-1, -2) -> v: v is not transposed
03.compare_attention  (dp - np.sum(p * dp, axis=-1, keepdims=True)) -> dp: not subtracted
03.compare_attention  scale * ds @ k -> ds @ k: scale is missing
03.compare_attention  ds @ k -> ds @ k.swapaxes(-1, -2): transposed twice
03.compare_attention  scale * ds.swapaxes -> ds.swapaxes: scale is missing
03.compare_attention  ds.swapaxes(-1, -2) @ q -> ds @ q: ds is not transposed
03.compare_attention  ds.swapaxes(-1, -2) @ q -> q.swapaxes(-1, -2) @ ds: transpose of dk
04.compare_block  dout + dmid_mlp -> dmid_mlp: out = mid + y
04.compare_block  dout + dmid_mlp -> dout: through the MLP is missing
04.compare_block  ops.linear_backward(np, dmid, c_o) -> (dmid @ c_o[1], 0): not transposed
04.compare_block  ops.linear_backward(np, dmid -> ops.linear_backward(np, dout: that of mid
04.compare_block  dmid + dx_att -> dx_att: mid = x + o
04.compare_block  dmid + dx_att -> dout + dx_att: not of out
04.compare_block  dmid + dx_att -> dmid: through attention is missing
06.compare_gates  np.sum(dW_gated * W_out, axis=1) -> dW_gated * W_out: whole row
06.compare_gates  axis=1 -> axis=0: not over j
06.compare_gates   * W_out -> : its factor W_out
06.compare_gates  np.sum -> np.mean: not a mean
08.compare_gen  (W_gen + W_mem) -> W_gen: a part of what
08.compare_gen  (W_gen + W_mem) @ s - y -> y - (W_gen + W_mem) @ s: not the other way
08.compare_gen  np.outer(error, s) -> np.outer(s, error): the transpose
08.compare_gen  np.outer(error, s) -> 2 * np.outer(error, s): cancels the 2
08.compare_gen  np.outer(error, s) -> error * s: its own product
09.compare_sinks  kept).T @ flatten_positions(xp, dy) -> dy).T @ flatten_positions(xp, kept): a row
09.compare_sinks  (dy @ W_out.T) * mask -> dy @ W_out.T: mask is missing
09.compare_sinks  W_out.T -> W_out: W_out is not transposed
09.compare_sinks  gelu_backward(xp, dpost, c_act) -> dpost: slope of GELU
09.compare_sinks  dpre @ W_in -> dpre @ W_in.T: it is not in dx
09.compare_sinks  dpre).T @ flatten_positions(xp, x) -> x).T @ flatten_positions(xp, dpre): a row
09.compare_sinks  sum_rows(xp, dpre) -> dpre: one number for each
09.compare_sinks  sum_rows(xp, dpre) -> xp.sum(dpre, axis=1): the sequences, too
09.compare_sinks  sum_rows(xp, dpre) -> xp.mean(dpre, axis=(0, 1)): not a mean
13.compare_adamw  (1 - b1) * g -> g: counts 1 - b1
13.compare_adamw  b1 * m + (1 - b1) * g -> (1 - b1) * g: old mean is missing
13.compare_adamw  b1 * m + (1 - b1) * g -> b1 * g + (1 - b1) * m: share of the old
13.compare_adamw  g**2 -> g: square of g
13.compare_adamw  b2 * v + (1 - b2) -> b1 * v + (1 - b1): its own b2
13.compare_adamw  (m / (1 - b1**n)) / ((v / (1 - b2**n)) -> m / (v: correct both
13.compare_adamw  (m / (1 - b1**n)) -> m: m is not corrected
13.compare_adamw  (v / (1 - b2**n)) -> v: v is not corrected
13.compare_adamw   ** 0.5 -> : the root of v
13.compare_adamw   / ((v / (1 - b2**n)) ** 0.5 + eps) -> : plain momentum
13.compare_adamw  (1 - lr * decay) * w -> w: the decay is missing
13.compare_adamw  w - lr * change -> w + lr * change: not along it
13.compare_adamw  lr * decay -> decay: multiplied by lr
13.compare_adamw  - lr * change -> - change: rate is missing
"""
ROWS = [row.split("  ", 1) for row in SLIPS.strip().splitlines()]


@pytest.mark.parametrize(("name", "slip"), ROWS)
def test_typical_slip_gets_its_hint(name, slip):
    """Make the slip `before -> after` in the page's solution."""
    change, words = slip.rsplit(": ", 1)
    before, after = change.split(" -> ")
    name = f"page{name}"
    _, (code, _) = answers(name)
    assert before in code
    function = function_of(code.replace(before, after), dict(SCOPE), name.split(".")[1])
    line = GRADERS[name](function)
    assert line.startswith("not yet: ")
    assert words in line
