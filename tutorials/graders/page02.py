"""Exercises of page 02: take LayerNorm apart and put it back together."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.gradcheck import Case
from memsinks_np.ops import gelu_backward, gelu_forward, layernorm_forward
from tutorials.graders import grade_choice, grade_number, grader, verdict, wrong_gradients
from tutorials.graders.lines import Line, grade_lines


@grader
def compare_layernorm(backward: Callable[..., Any]) -> str:
    """Grade the lines of a backward(xp, dy, cache) of LayerNorm, with cache (xc, rstd, n, g)."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2, 3, 6))
    g = rng.uniform(1, 2, 6)
    xc = x - x.mean(axis=-1, keepdims=True)
    _, (n, rstd, _) = layernorm_forward(np, x, g, 0 * g)
    dn = dy * g
    drstd = np.sum(dn * xc, axis=-1, keepdims=True)
    dvar = -0.5 * rstd**3 * drstd
    dxc = dn * rstd + 2 / 6 * xc * dvar
    each = "g and b are used at every position: sum over the positions"
    lines = [
        Line("dg", np.sum(dy * n, axis=(0, 1)), each, {each: dy * n}),
        Line("db", dy.sum(axis=(0, 1)), each, {each: dy}),
        Line("dn", dn, "what is n multiplied by in the forward?", {"the gain is missing": dy}),
        Line(
            "dxc_direct",
            dn * rstd,
            "what is xc multiplied by in the forward?",
            {"rstd is missing": dn},
        ),
        Line(
            "drstd",
            drstd,
            "what is rstd multiplied by, and how many numbers does it serve?",
            {
                "one rstd serves C numbers: sum over them, with keepdims=True": dn * xc,
                "with keepdims=True it fits the other arrays": drstd[..., 0],
                "dn, not dy, arrives here": np.sum(dy * xc, axis=-1, keepdims=True),
            },
        ),
        Line(
            "dvar",
            dvar,
            "rstd is (var + eps) to the power -1/2; what is the derivative, in terms of rstd?",
            {"the power of rstd is 3: (var + eps) to the power -3/2": -0.5 * rstd**2 * drstd},
        ),
        Line(
            "dxc",
            dxc,
            "var is the mean of xc * xc: which factor does each xc get, and what came directly?",
            {
                "the direct route is not added": 2 / 6 * xc * dvar,
                "the mean's factor 1/C is missing": dn * rstd + 2 * xc * dvar,
                "the factor 2 is missing: xc is used twice": dn * rstd + 1 / 6 * xc * dvar,
            },
        ),
        Line(
            "dx",
            dxc - dxc.mean(axis=-1, keepdims=True),
            "page 00: subtract the mean",
            {
                "the mean's route is missing": dxc,
                "the mean's factor 1/C is missing": dxc - dxc.sum(axis=-1, keepdims=True),
            },
        ),
    ]
    return grade_lines(
        backward, (np, dy, (xc, rstd, n, g)), lines, "eight lines, three routes", ("dx", "dg", "db")
    )


@grader
def compare_mlp(backward: Callable[..., Any]) -> str:
    """Grade the lines of a backward(dy, cache), with cache (x, W_in, c_act, post, W_out)."""
    # all sizes are 5: a wrong transpose reaches the comparison, not NumPy's error
    x, dy, W_in, W_out = np.random.default_rng(1).standard_normal((4, 5, 5))
    post, c_act = gelu_forward(np, x @ W_in)
    dpost = dy @ W_out.T
    dpre = gelu_backward(np, dpost, c_act)
    rows = "the bias is added to every row: sum over the rows"
    weight = "an input, transposed, times an upstream gradient"
    lines = [
        Line("dpost", dpost, "dy times W_out, transposed", {"W_out is not transposed": dy @ W_out}),
        Line(
            "dW_out",
            post.T @ dy,
            weight,
            {
                "post is not transposed": post @ dy,
                "this is the transpose of dW_out": dy.T @ post,
                "the input of this product is post, not x": x.T @ dy,
            },
        ),
        Line("db_out", dy.sum(axis=0), rows, {rows: dy, "a sum, not a mean": dy.mean(axis=0)}),
        Line(
            "dpre",
            dpre,
            "gelu_backward takes np, dpost and c_act",
            {"the slope of GELU is missing": dpost},
        ),
        Line(
            "dx",
            dpre @ W_in.T,
            "dpre times W_in, transposed",
            {"W_in is not transposed": dpre @ W_in},
        ),
        Line(
            "dW_in",
            x.T @ dpre,
            weight,
            {"x is not transposed": x @ dpre, "this is the transpose of dW_in": dpre.T @ x},
        ),
        Line("db_in", dpre.sum(axis=0), rows, {rows: dpre, "a sum, not a mean": dpre.mean(axis=0)}),
    ]
    return grade_lines(
        backward,
        (dy, (x, W_in, c_act, post, W_out)),
        lines,
        "seven gradients",
        ("dx", "dW_in", "db_in", "dW_out", "db_out"),
    )


@grader
def check_ones(answer: str) -> str:
    """Grade the sign of dx under an upstream gradient of ones: "zero", "positive" or "negative"."""
    hint = "what is the sum of a position's six outputs, for any x?"
    praise = "the outputs of a position have the same sum for every x, so the sum has no slope"
    return grade_choice(answer, "zero", praise, {"positive": hint, "negative": hint})


@grader
def check_scale(number: float) -> str:
    """Grade the factor by which dx changes when x is multiplied by 10."""
    praise = "y is the same, so a step must be ten times as long to change it as much"
    hint = "y stays the same; which factor of dx depends on the scale of x?"
    return grade_number(number, 0.1, praise, {}, hint, tol=1e-3)


def rmsnorm_forward(xp: Any, x: Any, g: Any, eps: float = 1e-5) -> tuple[Any, Any]:
    """Return y = g x / sqrt(mean(x^2) + eps) over the last axis, with cache (n, rstd, g).

    Zhang and Sennrich 2019.
    """
    rstd = 1 / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    n = x * rstd
    return n * g, (n, rstd, g)


@grader
def check_rmsnorm(backward: Callable[..., Any]) -> str:
    """Grade a backward (xp, dy, cache) -> dx, dg of `rmsnorm_forward`."""
    rng = np.random.default_rng(5)
    inputs = {"x": rng.standard_normal((3, 5, 6)), "g": rng.standard_normal(6)}
    dy = rng.standard_normal((3, 5, 6))
    _, (n, rstd, g) = rmsnorm_forward(np, *inputs.values())
    dn = dy * g
    across = n * np.mean(dn * n, axis=-1, keepdims=True)
    slips = {
        "rstd is missing: n = x * rstd": dn - across,
        "the gain is missing: y = n * g": rstd * (dy - n * np.mean(dy * n, axis=-1, keepdims=True)),
        "the mean in the forward gives a factor 1/C, so a mean here and not a sum": rstd
        * (dn - 6 * across),
        "RMSNorm subtracts no mean, so the mean's route is not there": rstd
        * (dn - dn.mean(axis=-1, keepdims=True) - across),
        "the route through the root mean square is missing": rstd * dn,
    }
    answer = backward(np, dy, (n, rstd, g))
    for slip, value in slips.items():
        if np.shape(answer[0]) == value.shape and np.allclose(answer[0], value):
            return verdict(False, "", f"dx differs from the references; {slip}")
    wrong = wrong_gradients(Case("rmsnorm", rmsnorm_forward, backward, inputs))
    hint = f"{' and '.join(f'd{name}' for name in wrong)} differs from the references; "
    hint += "count the routes from x to n, and the uses of g"
    for name in filter(lambda name: np.isinf(wrong[name]), wrong):
        hint = f"d{name} has another shape than {name}, or is not finite"
    return verdict(not wrong, "every reference agrees", hint)
