"""Graders accept right answers, and reply to others with one line and a hint that helps."""

import ast
import importlib
import inspect
import re

import numpy as np
import pytest

from memsinks_np import metrics, ops
from memsinks_np._internal.ids import uniform
from memsinks_np.data.batches import make_batch
from memsinks_np.experiments import simulations
from memsinks_np.gradcheck.diagnosis import pattern
from memsinks_np.metrics import sequence_losses
from memsinks_np.model import init_params, loss_and_grads
from memsinks_np.sinks import NO_SINKS, delete, own, own_except, sink_mask
from tutorials import refresh
from tutorials.graders import NO_ANSWER, verdict
from tutorials.toy import SENTENCES, TINY, TINY_IDS, TINY_TOKENS, compared

PAGES = {
    name: importlib.import_module(f"tutorials.graders.{name}")
    for name in (f"page{n:02d}" for n in range(17))
}
GRADERS = {
    f"{page}.{name}": function
    for page, module in PAGES.items()
    for name, function in vars(module).items()
    if name.startswith(("check_", "compare_"))
}


def is_right(line):
    return line.startswith("right: ")


# The frame of every grader


def test_verdict_is_one_printed_line(capsys):
    assert verdict(True, "yes", "look again") == "right: yes"
    assert verdict(False, "yes", "look\n again") == "not yet: look again"
    assert capsys.readouterr().out == "right: yes\nnot yet: look again\n"


WRONG_KINDS = ["?", "2", [], [[1], [2, 3]], {}, object(), 1j, np.nan, np.ones((2, 3))]
WRONG_KINDS += [np.array([1, 2]), "x\ny", lambda *args: [], lambda *args: (1, None)]
WRONG_KINDS += [lambda *args: args[0], lambda: 0, lambda *args: np.ones(7)]


@pytest.mark.parametrize("name", GRADERS)
def test_any_wrong_answer_gets_one_line(name, capsys):
    check = GRADERS[name]
    assert check.__doc__.startswith("Grade ")
    n = len(inspect.signature(check).parameters)
    assert check(*[None] * n) == f"not yet: {NO_ANSWER}"
    for answer in ([wrong] * n for wrong in WRONG_KINDS):
        capsys.readouterr()
        line = check(*answer)
        assert line.startswith("not yet: ")
        assert len(line) > 30
        assert capsys.readouterr().out == line + "\n"
    assert check().startswith("not yet: ")  # without its answer


def test_grader_of_two_answers_wants_both_right():
    assert is_right(PAGES["page15"].check_doubled(1, 2))
    assert not is_right(PAGES["page15"].check_doubled(2, 2))


@pytest.mark.parametrize("page", PAGES)
def test_solutions_on_the_page_are_right(page, capsys):
    (path,) = refresh.HERE.glob(f"{page.removeprefix('page')}-*.md")
    exercises, solutions = re.search(
        r"## Exercises(.*?)<details>(.*?)</details>", path.read_text(encoding="utf-8"), re.DOTALL
    ).groups()
    checks = {n.removeprefix(f"{page}.") for n in GRADERS if n.startswith(f"{page}.check")}
    for part in (exercises, solutions):
        assert set(re.findall(rf"{page}\.(check_\w+)\(", part)) == checks
    scope = {"np": np, "ops": ops, "own": own, "sink_mask": sink_mask, "metrics": metrics}
    scope |= {"theory": simulations, "simulations": simulations, page: PAGES[page]}
    code = "\n".join(re.findall(r"```py(?:thon)?\n(.*?)```", solutions, re.DOTALL))
    for node in ast.parse(code).body:  # the rest continues the page's own cells
        if isinstance(node, ast.FunctionDef | ast.ImportFrom) or "check_" in ast.unparse(node):
            exec(ast.unparse(node), scope)
    verdicts = re.findall("^(right|not yet): ", capsys.readouterr().out, re.MULTILINE)
    assert verdicts == ["right"] * len(checks)


# Answers of one value


@pytest.mark.parametrize(
    ("name", "answers"),
    {
        "page00.check_loss": [np.log(4), 1.39],
        "page00.check_gradient": [-0.1],
        "page01.check_zero_gradient": [[[1, 1, 1], [-2, -2, -2]]],
        "page02.check_scale": [0.1],
        "page04.check_entropy": [round(PAGES["page04"].entropy_of(PAGES["page04"].THREE), 3)],
        "page05.check_perfect_loss": [np.log(8), 2.08],
        "page05.check_evidence": [np.log(1000), 6.9],
        "page06.check_silent_neuron": [0.0],
        "page06.check_completeness": [0.599],
        "page08.check_cancelled": [1 / 64],
        "page09.check_zero_rows": [np.array([6, 5, 2, 0])],
        "page10.check_gold_gap": [0.86],
        "page12.check_threshold": [0.6531],
        "page13.check_half_life": [2310],
        "page14.check_half_gone": [44, 45, np.log(0.5) / np.log(63 / 64)],
    }.items(),
)
def test_rounded_and_other_forms_are_right(name, answers):
    assert all(is_right(GRADERS[name](answer)) for answer in answers)


ENTROPY = PAGES["page04"].entropy_of(PAGES["page04"].THREE)
TABLE = """
00.check_loss  2: bits; 3 * np.log(4): the sum; 1.232: of each; -np.log(4): positive; 1: minus the
00.check_gradient  0.1: sign; 0.9: subtract; -1 / 0.9: probability; 0: minus what
01.check_inactive  "up": multiplied by; "no": answer with
01.check_zero_gradient  [[1] * 3, [1] * 3]: not the same number; [[1, 1], [-2, -2]]: shape (2, 3)
01.check_zero_gradient  [[1, -2]] * 3: shape (2, 3); [[1, 2, 3], [4, 5, 6]]: which sums
02.check_ones  "positive": sum of a position
02.check_scale  1: scale of x
03.check_signs  (1, 1, 1): sums to zero; (1, 0, -1): average; (1, -1): give three signs
03.check_signs  (0.28, -0.12, -0.16): give three signs
04.check_entropy  0.0: more than one continuation; np.log(2) / 5: two sentences; 1.0: how often
04.check_entropy  15 * ENTROPY: mean; 15 / 18 * ENTROPY: only read; ENTROPY / np.log(2): bits
04.check_below_entropy  0: anything more; 1: anything more; -0.13: a sign
05.check_perfect_loss  3: bits; 0.125: probability; 0: certainty; -2.08: never negative
05.check_perfect_loss  8: same probability; "2.08": give the loss of a perfect model
05.check_evidence  3: power of e; 1000: odds; -6.9: positive; 0.001: solve for k
05.check_unseen_sign  "-": 64 stories; "0": memorizing; "plus": answer with "+", "-" or "0"
06.check_silent_neuron  1: second factor; 0.5: second factor
06.check_completeness  0.85: still predict; -0.6: not the other way; 0.25: whole rise; 0: whole rise
06.check_pair  (1, 1): slopes at open gates; (1, 0): equally; (0, 0): average it
07.check_at_cost  0.3: middle; 0.5: cost of 0.10; 0.15: first 0.1; 0.2: how far
07.check_closed  0.5: below 1/12; 1 / 12: which u; 0.202: solve for u; 0.0267: not times; 1: z = -ln
07.check_contrast_sign  "-": sooner; "0": order; "plus": answer with
08.check_faster  "larger": shrink to; "?": answer with
08.check_rarely_on  1: always active; 0.01: not twice; 0.05: mean of a hundred
08.check_rarely_on  0.055: mean of a hundred; 0.14: mean of a hundred; 0.2: mean of a hundred
08.check_rarely_on  0.9: average over the coin; 0.316: average over the coin
08.check_rarely_on  0.5: average over the coin; -0.1: average over the coin
08.check_cancelled  0.1: exercise 2
09.check_zero_rows  [1, 3, 4]: they get a gradient; [0, 6]: sinks of no sequence
09.check_zero_rows  [2, 5]: not in the batch; [0, 2, 3, 5, 6]: sharing a sink
09.check_zero_rows  [0, 2]: go through; []: go through
09.check_before_gelu  "different": gelu(0); "yes": answer with
09.check_shared  1 / 64: 32 of them; 32: has; 0: not impos; 2: add up
10.check_new_story_sign  "-": other stories; "0": adds something; "plus": answer with
10.check_gold_gap  0.947: not from zero; 0.143: still open; 1.167: upside down
10.check_gold_gap  3.0: higher loss; 0.3: divided by
12.check_more_often  "same": how many go up; "?": answer with
12.check_threshold  0.6665: printed; 2 / 3: first term; 0.9: mind the signs
12.check_push  0.24: one part; 0.12: where word 0 is right; -0.48: up; 1.6: by lr; 1: how many parts
13.check_tail  0.9: v shrinks too; 0.9 / 0.99: root; 0.895: makes the change larger; 0.5: m over
13.check_half_life  1667: same fraction; 6.58: not by decay; 100: solve
13.check_density  0.001: has 32 IDs; 0.032: smaller; 0.5: the wait is
14.check_half_gone  32: deleted already; 20: more of; 64: less of
14.check_collateral_sign  "+": S has grown; "0": have?; "less": answer with
15.check_memory  528384: two moments; 792576: two layers; 1572864: its bias; 1: numbers of one sink
15.check_pairs  2080: the whole row; 1496: only earlier; 716: a word sees itself; 64: sum over
16.check_factor  3: take wrong over right; 1 / 5: how many terms; 1 / 15: still sums; 2: a mean over
16.check_wrong_forward  "red": a formula; "?": answer with
16.check_functions  {}: 0 of 10; {7:"batches.make_batch"}: 1 of 10; {2:"x"}: function is bug 1, 2, 3
"""
HINTS = [  # grader, wrong answer, words of its hint
    (f"page{name}", eval(answer), words)
    for name, row in (line.split("  ") for line in TABLE.strip().splitlines())
    for answer, words in (pair.split(": ") for pair in row.split("; "))
]


@pytest.mark.parametrize(
    ("name", "solution"),
    [("page06.check_completeness", r"0\.6"), ("page09.check_shared", r"0\.[45]|half|1/2")],
)
def test_hints_do_not_reveal_the_solution(name, solution):
    lines = [GRADERS[name](answer) for hinted, answer, _ in HINTS if hinted == name]
    assert lines
    assert not any(re.search(solution, line) for line in lines)


# Answers that are functions


def swish_backward(xp, dy, cache, second=1):
    x, sigma = cache
    return dy * (sigma + second * x * sigma * (1 - sigma))


def rmsnorm_backward(xp, dy, cache, mean=0, gain=1, scale=1, across=1):
    n, rstd, g = cache
    dn = dy * g**gain
    variance = across * n * (dn * n).mean(axis=-1, keepdims=True)
    dx = rstd**scale * (dn - mean * dn.mean(axis=-1, keepdims=True) - variance)
    return dx, np.sum(dy * n, axis=(0, 1))


def shared_keys(combine):
    """Combine the gradients of the heads for the shared keys and values."""

    def backward(dy, cache):
        dq, dk, dv = ops.attention_backward(np, dy, cache)
        return combine(dq, dk, dv, lambda d: d.sum(axis=1, keepdims=True))

    return backward


def tied_mlp(combine):
    """Combine the gradients of the two uses of W."""

    def backward(xp, dy, cache):
        c_in, c_act, c_out = cache
        dpost, dWt = ops.linear_backward(xp, dy, c_out)
        dx, dW = ops.linear_backward(xp, ops.gelu_backward(xp, dpost, c_act), c_in)
        return combine(dx, dW, dWt)

    return backward


def erased(remove):
    """Make an `erase_one` from a function that returns new parameters."""

    def erase_one(params, cfg, tokens, ids, i):
        new = remove(params, cfg.sinks, ids, i)
        return new, sequence_losses(new, cfg, tokens, own(cfg.sinks, ids))

    return erase_one


def erase_array(suffix):
    """Set one of the three arrays of a pool to zero."""

    def remove(params, pool, ids, i):
        new = delete(params, pool, ids[[i]])
        return params | {n: w for n, w in new.items() if n.endswith(f"sink.{suffix}")}

    return erased(remove)


def erase_in_place(params, pool, ids, i):
    for name, w in delete(params, pool, ids[[i]]).items():
        params[name][...] = w
    return params


erase_one = erased(lambda params, pool, ids, i: delete(params, pool, ids[[i]]))


def erase_none_active(params, cfg, tokens, ids, i):
    return params, sequence_losses(params, cfg, tokens, NO_SINKS)


def erase_one_sum(params, cfg, tokens, ids, i):
    new, losses = erase_one(params, cfg, tokens, ids, i)
    return new, (tokens.shape[1] - 1) * losses


def erase_too_much(params, cfg, tokens, ids, i):
    new, losses = erase_one(params, cfg, tokens, ids, i)
    return new | {"h0.sink.b_in": 0 * new["h0.sink.b_in"]}, losses


def deactivate(params, cfg, tokens, ids, i):
    selection = own_except(cfg.sinks, ids, ids[[i]])
    return params, sequence_losses(params, cfg, tokens, selection)


def erase_one_short(params, cfg, tokens, ids, i):
    new, losses = erase_one(params, cfg, tokens, ids, i)
    return new, losses[i]


def fraction_lost(pool, ids, deleted):
    mine, gone = sink_mask(pool, ids), sink_mask(pool, deleted).max(axis=0)
    return (mine * gone).sum(axis=1) / mine.sum(axis=1)


def causality_test(
    changed=range(1, 5), stop=lambda t: t, same=np.array_equal, by=(1, 2, 3, 5, 7, 9)
):
    """Change the words `changed` in turn; compare the positions before stop(t)."""

    def test(attend):
        x = np.random.default_rng(1).standard_normal((1, 5, 6))
        y = attend(x)
        for t in changed:
            other = x.copy()
            other[:, t] += by
            if not same(attend(other)[:, : stop(t)], y[:, : stop(t)]):
                return False
        return True

    return test


def backward_causality_test(attend):
    """New words from position t on, all at once."""
    x, other = np.random.default_rng(1).standard_normal((2, 1, 5, 6))
    mixed = [np.concatenate([x[:, :t], other[:, t:]], axis=1) for t in range(1, 5)]
    return all((attend(m)[:, :t] == attend(x)[:, :t]).all() for t, m in enumerate(mixed, 1))


def last_is_equal(y, z):
    return np.array_equal(y[:, -1], z[:, -1])


CAUSALITY_HINTS = [
    (lambda attend: True, "everywhere"),
    (lambda attend: False, "rejects causal"),
    (causality_test([4], lambda t: 5), "rejects causal"),  # the changed position too
    (causality_test([4], lambda t: 1), "one word ahead"),
    (causality_test([4]), "only word 0"),
    (causality_test([1]), "before it"),
    (causality_test(stop=lambda t: t - 1), "one word ahead"),
    (causality_test(same=last_is_equal), "sees only the last"),
    (causality_test(same=lambda y, z: (y[..., 0] == z[..., 0]).all()), "channel 2"),
    (causality_test(same=lambda y, z: np.abs(y - z).max() < 1e-3), "exactly"),
    (causality_test(by=1.0), "after a LayerNorm"),
]


def fraction_of_pool(pool, gone):
    return sink_mask(pool, gone).max(axis=0).mean(keepdims=True)


def affine(db):
    """Return a backward of page 00's affine layer with this db."""
    return lambda xp, dy, cache: (dy @ cache[1].T, cache[0].T @ dy, db(dy))


FUNCTION_HINTS = {
    "page00.check_bias": [
        (affine(lambda dy: dy), "sum over what it reaches"),
        (affine(lambda dy: dy.mean(axis=0)), "no mean"),
        (affine(lambda dy: -dy.sum(axis=0)), "db differs"),
        (lambda xp, dy, cache: (dy, dy), "3 gradients"),
    ],
    "page03.check_causality_test": CAUSALITY_HINTS,
    "page01.check_swish": [
        (lambda *args: swish_backward(*args, second=0), "second term is missing"),
        (lambda *args: swish_backward(*args, second=-1), "other sign"),
        (lambda *args: swish_backward(*args, second=2), "two terms"),
        (lambda xp, dy, cache: swish_backward(xp, 1, cache), "dy is missing"),
        (lambda xp, dy, cache: swish_backward(xp, dy, cache[::-1]), "wrong order"),
        (lambda xp, dy, cache: dy * cache[1] * (1 + cache[0]), "derivative of sigma"),
        (lambda xp, dy, cache: dy.sum(), "another shape than x"),
    ],
    "page02.check_rmsnorm": [
        (lambda *args: rmsnorm_backward(*args, mean=1), "subtracts no mean"),
        (lambda *args: rmsnorm_backward(*args, gain=0), "the gain is missing"),
        (lambda *args: rmsnorm_backward(*args, scale=0), "rstd is missing"),
        (lambda *args: rmsnorm_backward(*args, across=6), "factor 1/C"),
        (lambda *args: rmsnorm_backward(*args, across=0), "root mean square"),
        (lambda *args: rmsnorm_backward(*args, across=2), "count the routes"),
        (lambda xp, dy, cache: dy, "return one array each for x, g"),
        (lambda xp, dy, cache: (0 * dy, 0 * dy), "another shape than g"),
    ],
    "page03.check_shared_keys": [
        (shared_keys(lambda q, k, v, add: (q, k, v)), "dk has shape"),
        (shared_keys(lambda q, k, v, add: (q, add(k) / 3, add(v))), "dk differs; three heads"),
        (shared_keys(lambda q, k, v, add: (add(q) + 0 * q, add(k), add(v))), "its own q"),
        (shared_keys(lambda q, k, v, add: q), "3 gradients"),
    ],
    "page04.check_tied_mlp": [
        (tied_mlp(lambda dx, dW, dWt: (dx, dW)), "used twice"),
        (tied_mlp(lambda dx, dW, dWt: (dx, (dW + dWt.T) / 2)), "used twice"),
        (tied_mlp(lambda dx, dW, dWt: (dx, dWt)), "transposed"),
        (tied_mlp(lambda dx, dW, dWt: (dx, dW + dWt)), "transposed"),
        (tied_mlp(lambda dx, dW, dWt: (2 * dx, dW + dWt.T)), "dx is wrong"),
        (tied_mlp(lambda dx, dW, dWt: dx), "2 gradients"),
    ],
    "page10.check_erase_one": [
        (erased(lambda params, pool, ids, i: params), "nothing was erased"),
        (erase_none_active, "all sinks are inactive"),
        (erased(lambda params, pool, ids, i: delete(params, pool, ids)), "all sequences were"),
        (erase_one_sum, "these are sums"),
        (erased(lambda params, pool, ids, i: delete(params, pool, [i])), "a position in the list"),
        (erase_one_short, "one loss per sequence"),
        (erase_array("b_in"), "erase with `delete`"),
        (lambda *args: erase_one(*args)[1], "two things"),
        (deactivate, "inactive, not erased"),
        (erase_array("W_out"), "h0.sink.W_in, h0.sink.b_in"),
        (erase_too_much, "no others"),
    ],
    "page14.check_fraction_lost": [
        (lambda pool, i, gone: sum(fraction_lost(pool, i, [one]) for one in gone), "union"),
        (lambda pool, i, gone: 1 - fraction_lost(pool, i, gone), "remains"),
        (
            lambda pool, i, gone: fraction_of_pool(pool, gone)[len(i) * [0]],
            "the fraction of the pool",
        ),
        (lambda pool, i, gone: fraction_lost(pool, i, gone)[:1], "one fraction for each"),
        (lambda pool, i, gone: np.zeros(len(i)), "sink_mask gives 1"),
    ],
}


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    HINTS + [(name, *row) for name, rows in FUNCTION_HINTS.items() for row in rows],
)
def test_typical_mistake_gets_its_hint(name, answer, words):
    line = GRADERS[name](answer)
    assert line.startswith("not yet: ")
    assert words in line


@pytest.mark.parametrize("name", FUNCTION_HINTS)
def test_errors_in_a_readers_function_are_located(name):
    check = GRADERS[name]
    assert "is the `return` missing?" in check(lambda *args: None)

    def divide(*args):
        return 1 / 0

    where = f"ZeroDivisionError in line {divide.__code__.co_firstlineno + 1}: division by zero"
    assert check(divide) == f"not yet: your function raised {where}"

    def interrupt(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(interrupt)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("page03.check_causality_test", causality_test()),
        ("page03.check_causality_test", backward_causality_test),
        ("page10.check_erase_one", erased(erase_in_place)),
    ],
)
def test_other_functions_are_right(name, answer):
    assert is_right(GRADERS[name](answer))


# What the graders call right is true


def test_sink_2_is_inactive_for_both_sentences():
    assert not sink_mask(TINY.sinks, TINY_IDS)[:, 2].any()


def test_layernorm_gives_the_answers_of_page_02():
    rng = np.random.default_rng(4)
    x, dy, g = rng.standard_normal((2, 5, 6)), rng.standard_normal((2, 5, 6)), rng.uniform(1, 2, 6)

    def dx(x, dy, g):
        return ops.layernorm_backward(np, dy, ops.layernorm_forward(np, x, g, 0 * g)[1])[0]

    assert np.abs(dx(x, np.ones_like(x), np.full(6, 2.0))).max() < 1e-12
    assert np.median(dx(10 * x, dy, g) / dx(x, dy, g)) == pytest.approx(0.1, abs=1e-3)


def test_a_mean_over_three_sequences_is_a_third_of_the_sum():
    rng = np.random.default_rng(0)
    x, dy, W = rng.standard_normal((3, 5, 6)), rng.standard_normal((3, 5, 4)), np.ones((6, 4))
    each = [ops.linear_backward(np, d, (row, W))[1] for d, row in zip(dy, x, strict=True)]
    right = ops.linear_backward(np, dy, (x, W))[1]
    found = pattern(np.mean(each, axis=0), right, {}, {}, tol=1e-9)
    assert "a factor: 0.3333 = 1/3 times" in found


def test_entropy_of_page_04_counts_continuations():
    # after `the`: one of three, twice two of three; after `the dog`: one of two, twice
    three = (np.log(3) + 2 * np.log(3 / 2) + 2 * np.log(2)) / 15
    assert pytest.approx(three) == ENTROPY
    assert PAGES["page04"].entropy_of(SENTENCES) == pytest.approx(np.log(2) / 5)


def test_only_active_sinks_end_below_the_entropy():
    def last_loss(selection):
        batch = make_batch(TINY, TINY_TOKENS, selection, np.float64)
        params = init_params(TINY, dtype=np.float64)
        for _ in range(300):
            loss, grads = loss_and_grads(np, params, batch, TINY)
            params = params | {name: params[name] - 0.3 * grads[name] for name in grads}
        return loss

    entropy = PAGES["page04"].entropy_of(SENTENCES)
    assert entropy < last_loss(NO_SINKS) < 1.1 * entropy
    assert last_loss(own(TINY.sinks, TINY_IDS)) < 0.1 * entropy


def test_learning_rate_does_not_move_the_limit():
    data, (s_mem, x) = simulations.positive(6000, 6, 0), simulations.positive(2, 6, 1)
    W_mem = np.outer(simulations.anywhere(1, 6, 2)[0], s_mem)
    limits = [simulations.coadaptation(W_mem, data, data, x, lr)[-1] for lr in (0.05, 0.1)]
    np.testing.assert_allclose(limits, np.linalg.norm(W_mem @ x), rtol=0.02)


def rarely_on(seeds, n=1000, lr=0.05, rho=0.1):
    """Simulate exercise 2 of page 08; return the final fraction of ||W_mem x|| for each seed."""
    data, (s_mem, x) = simulations.positive(n, 12, 0), simulations.positive(2, 12, 1)
    W_mem = np.outer(simulations.anywhere(1, 12, 2)[0], s_mem)
    coins = uniform(7, np.array(seeds)[:, None], np.arange(n)) < rho
    W_gen = np.zeros((len(seeds), *W_mem.shape))
    for s, on in zip(data, coins.T, strict=True):
        W_gen -= lr * ((W_gen + on[:, None, None] * W_mem) @ s)[..., None] * s
    return np.linalg.norm(W_gen @ x, axis=1) / np.linalg.norm(W_mem @ x)


def test_mean_of_a_hundred_runs_is_right():
    check, fractions = PAGES["page08"].check_rarely_on, rarely_on(range(300))
    assert all(is_right(check(run.mean())) for run in fractions.reshape(3, 100))
    lines = [check(fraction) for fraction in fractions]
    assert all(is_right(line) or "mean of a hundred" in line for line in lines)
    assert len(set(lines)) == 2


def test_more_occurrences_leave_a_higher_logit():
    rare, often = (
        simulations.accumulation(0.1, 1000, period, 0.3, 16, 50, 0).sink[-1] for period in (40, 20)
    )
    assert rare < often


@pytest.mark.slow
def test_signs_to_predict_are_those_of_training():
    result = compared(("standard", "retrained"), 600)
    (cost,) = result.rise("standard", "heldout.removed", "retrained", "heldout.removed")
    assert cost > 0.01
    heldout = compared(("sinks",), 600, range(3)).values("sinks", "heldout")
    assert all(loss.own - loss.removed > 0.01 for loss in heldout)
