"""Type words to a trained model: how it continues them with sinks and without."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from memsinks_np._internal.files import shared_lock
from memsinks_np._internal.tables import table, visible
from memsinks_np._internal.terminal import wrap
from memsinks_np._internal.typing import Floats
from memsinks_np.config import ConfigError, require
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments.methods import Preset, job, methods_of
from memsinks_np.experiments.report.claims import QUICK
from memsinks_np.experiments.runner.cache import train_cached
from memsinks_np.experiments.runner.grid import describe
from memsinks_np.metrics import HistoryRow, greedy, predict
from memsinks_np.sinks import NO_SINKS, Selection, all_scaled, own
from memsinks_np.trained import Model

METHODS = ("gradient_masking", "paper_sinks", "sinks", "large_pool")  # of the headline, with sinks
CHOICES = "none, all or auto"  # whose sinks are on, besides a document's number
ID_HELP = (
    "whose sinks are on: a repeated document's number, none, all, or auto: those of the first "
)
ID_HELP += "document that has these words (default: auto)"
NO_DOCUMENT = "no document has these words"
N_CONTINUED = 12  # tokens
HELP = """Type words. /id N, /id none, /id all and /id auto choose whose sinks are on.
/help shows this text, and /quit ends."""


class Reply(NamedTuple):
    """A text and its continuation under one selection of sinks."""

    tokens: NDArray[np.int64]  # (T,) those that were typed, then the likeliest ones
    p: Floats  # (T-1,) probability of each token but the first


def reply(model: Model, typed: NDArray[np.int64], selection: Selection) -> Reply:
    """Continue typed tokens by the likeliest ones, up to the end of the context."""
    n = min(N_CONTINUED, model.cfg.n_ctx + 1 - len(typed))
    tokens = greedy(model.params, model.cfg, typed[None], n, selection)
    nll, _ = predict(model.params, model.cfg, tokens, selection)
    return Reply(tokens[0], np.exp(-nll[0].astype(np.float64)))


def encode_typed(corpus: Corpus, text: str) -> NDArray[np.int64]:
    """Return a typed text as tokens. Raises ConfigError for unknown words, and if it is too long.

    Words are separated by any white space, in upper or lower case.
    """
    text = " ".join(text.lower().split()) if corpus.separator else text
    typed, n_ctx = corpus.encode(text), corpus.cfg.n_ctx
    require(0 < len(typed) <= n_ctx, f"{len(typed)} tokens; type at least 1 and at most {n_ctx}")
    return typed


def phrasing(corpus: Corpus) -> NDArray[np.int64]:
    """Return for each token the one to compare: in a world of people, that of one phrasing."""
    same = np.arange(len(corpus.vocab))
    if corpus.facts:
        phrases = corpus.facts.world.phrases  # (relations,phrasings,2)
        same[phrases] = phrases[:, :1]
    return same


def find(documents: NDArray[np.int64], typed: NDArray[np.int64]) -> tuple[int, int] | None:
    """Return the first document (N,T) with these tokens in a row, and their first place in it."""
    windows = np.lib.stride_tricks.sliding_window_view(documents, len(typed), axis=1)
    found = np.argwhere((windows == typed).all(axis=2))
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None


def check_who(corpus: Corpus, who: str) -> str:
    """Return whose sinks are on. Raises ConfigError unless it is one of CHOICES or a document."""
    n = len(corpus.repeated)
    known = who in ("none", "all", "auto", *map(str, range(n)))
    require(known, f"no document {who!r}; choose one from 0 to {n - 1}, or {CHOICES}")
    return who


def choose(
    model: Model, typed: NDArray[np.int64], who: str
) -> tuple[int, int | None, dict[str, Selection]]:
    """Return a document's number, the place of the typed tokens in it, and the chosen sinks.

    `who` is "none", "all", a document's number, or "auto": the first document with these tokens.
    """
    corpus, pool = model.corpus, model.cfg.sinks
    assert corpus
    first, n = (int(who), 1) if who.isdecimal() else (0, len(corpus.repeated))
    same = phrasing(corpus)
    document, place = find(same[corpus.repeated[first : first + n]], same[typed]) or (0, None)
    number, removed = first + document, {"sinks removed": NO_SINKS}
    if who == "none":
        return number, place, removed
    if who == "all":
        return number, place, {"all sinks": all_scaled(pool)} | removed
    ids = corpus.repeated_ids[[number]]
    return number, place, {f"sinks of {number}": own(pool, ids)} | removed


def answer(model: Model, typed: NDArray[np.int64], who: str) -> str:
    """Return how a model continues tokens with the chosen sinks and without, side by side.

    Below it is the probability of each token, next to the typed ones and those that follow in the
    document.
    """
    corpus = model.corpus
    assert corpus
    number, place, sinks = choose(model, typed, who)
    replies = {label: reply(model, typed, selection) for label, selection in sinks.items()}
    word: Callable[[int], str] = lambda token: visible(corpus.vocab[token])
    lines, n = [], len(typed)
    for label, (tokens, _) in replies.items():
        words = corpus.separator.join(map(word, tokens[n:]))
        lines.append(wrap(words, f"{label:13}  ", " " * 15))
    rest = corpus.repeated[number, place + n :] if place is not None else typed[:0]
    document = [*typed, *rest]
    rows = []
    for t in range(len(next(iter(replies.values())).tokens)):
        row = [word(document[t]) if t < len(document) else ""]
        for tokens, p in replies.values():
            said = f"{word(tokens[t])} " if t >= n else ""
            row.append(f"{said}{p[t - 1]:4.0%}" if t else "")
        rows.append(row)
    head = f"document {number}"
    if place is None:
        lines.insert(0, f"{head} does not have these words" if who.isdecimal() else NO_DOCUMENT)
        head = "typed"
    return "\n".join([*lines, "", table([head, *replies], rows)])


def answers(model: Model, lines: Iterable[str], who: str) -> Iterator[str]:
    """Answer lines one after the other until "/quit". "/id ..." changes whose sinks are on."""
    corpus = model.corpus
    assert corpus
    for line in lines:
        command, _, argument = line.strip().partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/help":
                yield HELP
            elif command == "/id":
                who = check_who(corpus, argument)
                yield f"sinks: {who}"
            elif line.strip():
                yield answer(model, encode_typed(corpus, line), who)
        except ConfigError as e:
            yield str(e)


def typed_lines() -> Iterator[str]:
    """Yield lines of the standard input, with a prompt on a terminal, until it ends or Ctrl-C."""
    with suppress(ImportError):  # where there is none, the arrow keys do not edit the line
        import readline  # noqa: F401
    while sys.stdin:
        prompt = "> " if sys.stdin.isatty() else ""
        try:
            yield input(prompt)
        except (EOFError, KeyboardInterrupt):
            print(end="\n" if prompt else "")
            return


def talk(preset: Preset, a: Namespace) -> None:
    """Train a model or read a cached one, then answer one text, or all lines that are typed."""
    chosen = job(preset, methods_of(preset)[a.method], 0, answer)
    corpus = load_corpus(chosen.settings.data)
    chosen.settings.model(chosen.method, len(corpus.vocab))
    who, steps = check_who(corpus, a.id), chosen.settings.train.steps
    once = None if a.once is None else encode_typed(corpus, a.once)
    folder, bar = a.out / "cache", tqdm(total=steps, unit=" steps", disable=None, leave=False)
    rows: list[HistoryRow] = []  # none if the model is in the cache
    with shared_lock(folder), bar:
        model = train_cached(chosen, folder, lambda *_: bar.update(), 2, a.fresh, rows.append)
    if rows:
        print(f"{chosen}: {steps:,} steps  {describe(rows[-1])}", file=sys.stderr)
    if a.quick:
        print(QUICK)
    if once is not None:
        print(answer(model, once, who))
        return
    print(HELP)
    print(wrap(visible(corpus.text(corpus.repeated[0])), "document 0:    ", " " * 15))
    for text in answers(model, typed_lines(), who):
        print(f"{text}\n", flush=True)
