"""Exercises of page 04: assemble a transformer that carries its own backward."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from memsinks_np import ops
from memsinks_np.gradcheck import Case
from memsinks_np.model import MLP, block_params
from tutorials.graders import grade_number, grader, require_shapes, verdict, wrong_gradients
from tutorials.graders.lines import Line, grade_lines
from tutorials.toy import TINY, tiny_params


@grader
def compare_block(backward: Callable[..., Any]) -> str:
    """Grade the lines of a backward(dout, cache) of a block, with the six caches of its ops."""
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal((2, 2, 5, 6))
    w, H = block_params(tiny_params(), layer=0), TINY.n_heads
    causal = np.triu(np.full((5, 5), -np.inf), k=1)
    a, c_ln1 = ops.layernorm_forward(np, x, w["ln1.g"], w["ln1.b"])
    qkv, c_qkv = ops.linear_forward(np, a, w["W_QKV"])
    z, c_att = ops.attention_forward(np, *ops.split_heads(np, qkv, H), causal)
    o, c_o = ops.linear_forward(np, ops.merge_heads(np, z), w["W_O"])
    m, c_ln2 = ops.layernorm_forward(np, x + o, w["ln2.g"], w["ln2.b"])
    _, c_mlp = ops.mlp_forward(np, m, *(w[name] for name in MLP))

    dm, *_ = ops.mlp_backward(np, dout, c_mlp)
    dmid_mlp, *_ = ops.layernorm_backward(np, dm, c_ln2)
    dmid = dout + dmid_mlp
    dmerged, _ = ops.linear_backward(np, dmid, c_o)
    dqkv = ops.attention_backward(np, ops.merge_heads_backward(np, dmerged, H), c_att)
    da, _ = ops.linear_backward(np, ops.split_heads_backward(np, *dqkv), c_qkv)
    dx_att, *_ = ops.layernorm_backward(np, da, c_ln1)
    W_O = w["W_O"]
    lines = [
        Line(
            "dmid",
            dmid,
            "mid goes into out directly and through the MLP",
            {
                "the direct route is missing: out = mid + y": dmid_mlp,
                "the route through the MLP is missing": dout,
            },
        ),
        Line(
            "dmerged",
            dmerged,
            "ops.linear_backward(np, dy, cache) returns the gradients of its input and its weight",
            {
                "W_O is not transposed": dmid @ W_O,
                "the gradient that arrives here is that of mid": dout @ W_O.T,
            },
        ),
        Line(
            'd["W_O"]',
            ops.merge_heads(np, z).reshape(-1, 6).T @ dmid.reshape(-1, 6),
            "ops.linear_backward returns the gradient of the weight, too",
            {
                "the gradient that arrives here is that of mid": (
                    ops.merge_heads(np, z).reshape(-1, 6).T @ dout.reshape(-1, 6)
                )
            },
        ),
        Line(
            "dx",
            dmid + dx_att,
            "x goes into mid directly and through attention",
            {
                "the direct route is missing: mid = x + o": dx_att,
                "the direct route carries the gradient of mid, not of out": dout + dx_att,
                "the route through attention is missing": dmid,
            },
        ),
    ]
    cache = (c_ln1, c_qkv, c_att, c_o, c_ln2, c_mlp)
    return grade_lines(
        backward, (dout, cache), lines, "each sum of the forward is a fork", ("dx", "d")
    )


THREE = ("the cat sat on the mat", "the dog ran to the cat", "the dog sat on the mat")


def entropy_of(sentences: tuple[str, ...]) -> float:
    """Return the lowest mean loss, in nats per word, of a model that sees only the words so far."""
    words = [s.split() for s in sentences]
    pairs = [(tuple(w[:t]), w[t]) for w in words for t in range(1, len(w))]
    contexts = [context for context, _ in pairs]
    return -sum(log(pairs.count(pair) / contexts.count(pair[0])) for pair in pairs) / len(pairs)


@grader
def check_entropy(nats: float) -> str:
    """Grade the entropy floor of the three sentences, in nats per word, to three digits."""
    entropy = entropy_of(THREE)
    n = sum(len(s.split()) - 1 for s in THREE)
    mistakes = {
        0.0: "two of the beginnings have more than one continuation; no model can predict which",
        entropy_of(THREE[:2]): "that is the entropy of two sentences; the third changes the odds "
        "after `the`, and adds a second uncertain word",
        entropy * n: "that is the sum; the loss is the mean over all words to be predicted",
        entropy * n / 18: "the first word is only read: 5 words of each sentence are predicted",
        entropy / log(2): "that is in bits; nats use the natural logarithm",
    }
    hint = "list the beginnings that sentences share, and how often each continuation follows"
    praise = "two beginnings cost something, all other words nothing"
    return grade_number(nats, entropy, praise, mistakes, hint, tol=1e-3)


def tied_mlp_forward(xp: Any, x: Any, W: Any) -> tuple[Any, Any]:  # (B,T,C), (C,G) -> (B,T,C)
    """Return y = gelu(x W) W^T: one weight, used on the way in and on the way out."""
    pre, c_in = ops.linear_forward(xp, x, W)
    post, c_act = ops.gelu_forward(xp, pre)
    y, c_out = ops.linear_forward(xp, post, W.T)
    return y, (c_in, c_act, c_out)


@grader
def check_tied_mlp(backward: Callable[..., Any]) -> str:
    """Grade backward(xp, dy, cache) -> dx, dW of `tied_mlp_forward`."""
    rng = np.random.default_rng(0)  # W is square: dW_transposed has the shape of W
    inputs = {"x": rng.standard_normal((2, 5, 6)), "W": rng.standard_normal((6, 6))}
    y, cache = tied_mlp_forward(np, *inputs.values())
    dy = rng.standard_normal(y.shape)
    grads = backward(np, dy, cache)
    require_shapes(grads, inputs, "a gradient has the shape of its array")
    dpost, dWt = ops.linear_backward(np, dy, cache[2])
    _, dW = ops.linear_backward(np, ops.gelu_backward(np, dpost, cache[1]), cache[0])
    if any(np.allclose(grads[1], wrong) for wrong in (dWt, dW + dWt)):
        return verdict(False, "", "the second use is of W^T: its gradient has to be transposed")
    wrong = wrong_gradients(Case("tied MLP", tied_mlp_forward, backward, inputs))
    hint = "W is used twice: follow dy through both uses, and add their gradients"
    if "x" in wrong:
        hint = "dx is wrong: go backwards through W^T, then gelu, then W"
    return verdict(not wrong, "W is used twice, so its gradients add", hint)


@grader
def check_below_entropy(sign: int) -> str:
    """Grade the sign of (last loss with own sinks active) minus the entropy: +1, 0 or -1."""
    hint = "the entropy is the limit for a model that sees only the words so far; "
    hint += "does the choice of sinks carry anything more?"
    if sign not in (-1, 0, 1):
        hint = "give a sign: +1 (stays above), 0 (ends at it) or -1 (falls below)"
    praise = "the active sinks distinguish the two sequences before the first word"
    return verdict(sign == -1, praise, hint)
