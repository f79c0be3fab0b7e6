"""Exercises of page 15: grow it."""

from memsinks_np.experiments.methods import PRESETS
from tutorials.graders import grade_number, grader, verdict

POOL = PRESETS["stories"].sinks


@grader
def check_doubled(gathered: float, masked: float) -> str:
    """Grade the factors by which the multiplications grow where the pool doubles and A stays."""
    return verdict(
        (gathered, masked) == (1, 2),
        "the gathered op skips inactive sinks, the masked op computes them for nothing",
        "which letters are in the cost of each op? Only S has changed",
    )


@grader
def check_memory(numbers: int) -> str:
    """Grade how many numbers training keeps for the pool of the stories preset in two layers."""
    C, layers = PRESETS["stories"].settings.d_model, PRESETS["stories"].settings.n_layers
    S, copies = POOL.n_sink, 3  # weights and two moments
    weights = layers * S * (2 * C + 1)
    mistakes = {
        weights: "these are the weights; AdamW keeps two moments for each",
        copies * S * (2 * C + 1): "that is one layer; the model has two layers, with a pool each",
        copies * layers * S * 2 * C: "each sink also has its bias",
        copies * layers * S * (C + 1): "a sink has a row in W_in and a row in W_out",
    }
    hint = "count the numbers of one sink: W_in, b_in, W_out; then sinks, layers and moments"
    praise = "in memory the pool is large, in arithmetic it is not"
    return grade_number(numbers, copies * weights, praise, mistakes, hint, tol=0)


@grader
def check_pairs(pairs: int) -> str:
    """Grade the pairs of positions that attention scores where 20, 30 and 14 words are packed."""
    lengths = (20, 30, 14)
    mistakes = {
        64 * 65 / 2: "that is attention over the whole row; a document sees only itself",
        sum(n * n for n in lengths): "a word sees only earlier words and itself",
        sum(n * (n - 1) / 2 for n in lengths): "a word sees itself, too",
    }
    hint = "the word at place t of its document sees t words; sum over the words of each document"
    praise = "less than 40 % of those of the whole row"
    right = sum(n * (n + 1) / 2 for n in lengths)
    return grade_number(pairs, right, praise, mistakes, hint, tol=0)
