"""The methods on real text, by characters: the English of Python's help, or a text of your own.

The claims are those of `isolation`, which were made for stories; some may fail here. One more asks
what `knowledge` asks: are words that several repeated windows share kept, words of one forgotten?
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memsinks_np._internal.tables import number, table
from memsinks_np.config import require
from memsinks_np.data.corpus import TOY_LANGUAGES, Corpus
from memsinks_np.experiments import isolation
from memsinks_np.experiments.methods import job, label, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.metrics import predict
from memsinks_np.sinks import NO_SINKS
from memsinks_np.trained import Model

files = isolation.files
METHODS = ("standard", "retrained", "sinks")
WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]{4,}(?![A-Za-z])")
SEVERAL = 3  # windows


def words_of(corpus: Corpus) -> list[tuple[int, int, int, str]]:
    """Return all words of the repeated windows: (window, start, end, word), cut ones left out."""
    windows = [corpus.text(row) for row in corpus.repeated[: corpus.n_evaluated]]
    return [
        (i, m.start(), m.end(), m[0].lower())
        for i, text in enumerate(windows)
        for m in WORD.finditer(text)
        if 0 < m.start() and m.end() < len(text)
    ]


def word_losses(model: Model) -> list[float]:
    """Return the mean loss of a character, sinks removed, in two kinds of words, in a worker.

    Words of one repeated window, and words that several windows share.
    """
    corpus = model.corpus
    assert corpus
    words = words_of(corpus)
    windows = Counter(word for _, word in {(i, word) for i, _, _, word in words})
    nll, _ = predict(model.params, model.cfg, corpus.repeated[: corpus.n_evaluated], NO_SINKS)
    losses: list[list[float]] = [[], []]
    for i, start, end, word in words:
        if windows[word] == 1 or windows[word] >= SEVERAL:
            losses[windows[word] > 1] += nll[i, start - 1 : end - 1].tolist()
    return [float(np.mean(each)) if each else float("nan") for each in losses]


@dataclass(frozen=True)
class Text(isolation.Isolation):
    """The comparison, and the fraction of words that removal forgets, by seed."""

    forgotten_one: list[float | None]  # words of one repeated window
    forgotten_several: list[float | None]  # words that several share


def forgotten(standard: float, retrained: float, sinks: float) -> float | None:
    """Return which fraction of what standard training memorized is forgotten, 0 to 1."""
    gap = retrained - standard
    return (sinks - standard) / gap if gap > 0 else None  # None for nan, too


def jobs(context: Context) -> Jobs:
    """Return the jobs of `isolation`, and word losses. Raises ConfigError for a toy language."""
    corpus = context.preset.settings.data.corpus
    remedy = "choose pydoc, or the path of a text file"
    require(corpus not in TOY_LANGUAGES, f"--corpus {corpus} is a toy language; {remedy}")
    methods = methods_of(context.preset)
    words = {
        ("words", name, seed): job(context.preset, methods[name], seed, word_losses)
        for name in METHODS
        for seed in range(context.seeds)
    }
    return isolation.jobs(context) | words


def result(context: Context, outputs: Outputs) -> Text:
    """Compare the methods; compare words of one window with words that several share."""
    seeds = range(context.seeds)
    losses = [[outputs.pop(("words", name, seed)) for name in METHODS] for seed in seeds]
    one, several = ([forgotten(*(each[kind] for each in row)) for row in losses] for kind in (0, 1))
    r = isolation.result(context, outputs)
    return Text(r.entropy, r.methods, r.corpus, r.samples, r.loss_map, one, several)


def known(values: list[float | None]) -> list[float]:
    """Return the values that exist."""
    return [x for x in values if x is not None]


def claims(result: Text) -> list[Claim]:
    """Return the claims of `isolation`, and one about words."""
    one, several = known(result.forgotten_one), known(result.forgotten_several)
    here, holds = "no such words", False
    if one and several:
        here = f"forgotten: {estimate(one)} in one window, {estimate(several)} in {SEVERAL} or more"
        holds = float(np.mean(one)) > float(np.mean(several))
    return [
        *isolation.claims(result),
        Claim(
            "removal forgets words of one repeated window more than words that several share",
            "ours",
            here,
            holds,
            "once-seen text has the words of several windows too; what repeats add is their place",
        ),
    ]


def tabulate(result: Text) -> str:
    """Return the table of `isolation`, and the words."""
    columns = [known(result.forgotten_one), known(result.forgotten_several)]
    rows = [[label("sinks"), *(number(float(np.mean(c)) if c else None) for c in columns)]]
    head = ["forgotten when removed", "words of one window", f"words of {SEVERAL} and more"]
    return f"{isolation.tabulate(result)}\n\n{table(head, rows)}"


def draw(result: isolation.Isolation, folder: Path) -> list[Path]:
    """Draw the figure."""
    return isolation.draw(result, folder, "text")
