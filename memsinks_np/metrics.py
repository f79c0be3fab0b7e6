"""Losses under any selection of sinks, extraction, and the numbers that compare methods.

Losses are mean nats per token.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.backend import namespace_of, to_device, to_host
from memsinks_np._internal.typing import Floats, Losses, Params
from memsinks_np._internal.typing import Tokens as Tokens
from memsinks_np.config import ModelConfig, SinkConfig, require
from memsinks_np.data.batches import check_selection, check_tokens, make_batch
from memsinks_np.data.corpus import PADDING, Corpus, Facts
from memsinks_np.data.people import VALUE_PLACES
from memsinks_np.model import model_forward
from memsinks_np.ops import cross_entropy_forward
from memsinks_np.sinks import NO_SINKS, Mask, Selection, all_scaled, delete, own, sink_mask

CHUNK = 32  # sequences per forward pass, fewer where masks make a large pool expensive
MASKED_CELLS = 1 << 21  # neurons x tokens that one masked layer may hold at once


def slice_selection(selection: Selection, part: slice | NDArray[np.bool_]) -> Selection:
    """Return the entries of a selection for some of its sequences."""
    if selection is None or (isinstance(selection, Mask) and selection.value.ndim == 1):
        return selection
    return type(selection)(selection[0][part])


def predict(
    params: Params, cfg: ModelConfig, tokens: Tokens, selection: Selection
) -> tuple[Losses, Tokens]:
    """Return the loss of every token and the likeliest token, (N,T+1) -> (N,T), (N,T).

    The loss is NaN where the target is padding, and infinite where the model's output is NaN.
    Raises ConfigError like `make_batch`.
    """
    xp, tokens, chunk = namespace_of(params["wte"]), check_tokens(cfg, tokens), CHUNK
    check_selection(cfg, selection, len(tokens), tokens.shape[1] - 1)
    if isinstance(selection, Mask):
        cells = selection.value.shape[-1] * tokens.shape[1]
        chunk = max(1, min(CHUNK, MASKED_CELLS // cells))
    losses, likeliest = [], []
    for start in range(0, len(tokens), chunk):
        part = slice(start, start + chunk)
        sinks = slice_selection(selection, part)
        batch = to_device(xp, make_batch(cfg, tokens[part], sinks, params["wte"].dtype))
        logits, _ = model_forward(xp, params, batch, cfg, keep=False)
        nll, _ = cross_entropy_forward(xp, logits, batch.targets)
        losses.append(to_host(nll))
        likeliest.append(to_host(xp.argmax(logits, axis=-1)))
    loss = np.concatenate(losses)
    loss[np.isnan(loss)] = np.inf
    loss[tokens[:, 1:] == PADDING] = np.nan
    return loss, np.concatenate(likeliest)


def mean_of(losses: Losses) -> float:
    """Return the mean loss of all tokens but padding."""
    return float(losses[~np.isnan(losses)].mean(dtype=np.float64))


def mean_loss(params: Params, cfg: ModelConfig, tokens: Tokens, selection: Selection) -> float:
    """Return the mean loss of all tokens of all sequences."""
    return mean_of(predict(params, cfg, tokens, selection)[0])


def sequence_losses(
    params: Params, cfg: ModelConfig, tokens: Tokens, selection: Selection
) -> Floats:
    """Return the mean loss of each sequence, (N,T+1) -> (N,)."""
    losses: Floats = np.nanmean(
        predict(params, cfg, tokens, selection)[0], axis=1, dtype=np.float64
    )
    return losses


def first_half(tokens: Tokens) -> int:
    """Return how many tokens of a sequence are the prompt when the rest is to be extracted."""
    half: int = tokens.shape[1] // 2
    return half


def extracted(
    tokens: Tokens,
    likeliest: NDArray[np.int64],
    n_prompt: int | None = None,
    n_continued: int | None = None,
) -> NDArray[np.bool_]:
    """Return whether greedy decoding continues each prompt with the true tokens, (N,).

    This is (n,k) extraction (Carlini et al. 2023); by default the second half from the first. One
    teacher-forced pass decides it: as long as every likeliest token is true, greedy decoding reads
    the true tokens, and at the first other token it has failed. Padding counts as right. Raises
    ConfigError unless at least one token is given and continued, and all exist.
    """
    n = first_half(tokens) if n_prompt is None else n_prompt
    k = tokens.shape[1] - n if n_continued is None else n_continued
    require(
        n > 0 and k > 0 and n + k <= tokens.shape[1],
        f"n_prompt={n}, n_continued={k} do not fit {tokens.shape[1]} tokens; "
        "choose at least 1 and 1, at most all in sum",
    )
    truth = tokens[:, n : n + k]
    right = (likeliest[:, n - 1 : n + k - 1] == truth) | (truth == PADDING)
    every: NDArray[np.bool_] = right.all(axis=1)
    return every


def greedy(
    params: Params, cfg: ModelConfig, prompts: Tokens, n_tokens: int, selection: Selection
) -> Tokens:
    """Continue (N,P) prompts by the `n_tokens` likeliest tokens, under one selection."""
    return sample(params, cfg, prompts, n_tokens, selection, temperature=0)


def sample(
    params: Params,
    cfg: ModelConfig,
    prompts: Tokens,
    n_tokens: int,
    selection: Selection,
    temperature: float = 1.0,
    seed: int = 0,
) -> Tokens:
    """Continue (N,P) prompts by `n_tokens` drawn tokens, under one selection.

    Each is drawn from softmax(logits / temperature); at 0 the likeliest is taken. The model reads
    the last `n_ctx` tokens.
    """
    xp, tokens, rng = namespace_of(params["wte"]), prompts, np.random.default_rng(seed)
    for _ in range(n_tokens):
        no_target = np.zeros((len(tokens), 1), np.int64)  # the last token has no target yet
        given = np.concatenate([tokens[:, -cfg.n_ctx :], no_target], axis=1)
        batch = to_device(xp, make_batch(cfg, given, selection, params["wte"].dtype))
        logits = to_host(model_forward(xp, params, batch, cfg, keep=False)[0])[:, -1]
        # the largest of logits / temperature plus Gumbel noise is a draw from the softmax
        noisy = logits + temperature * rng.gumbel(size=logits.shape)
        tokens = np.concatenate([tokens, noisy.argmax(axis=1)[:, None]], axis=1)
    return tokens


def values_right(tokens: Tokens, likeliest: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which facts of documents about people are completed correctly, (N,30) -> (N,5)."""
    places = np.array(VALUE_PLACES)
    right: NDArray[np.bool_] = likeliest[:, places - 1] == tokens[:, places]
    return right


def recall(params: Params, cfg: ModelConfig, facts: Facts, k: int) -> Floats:
    """Return how often each fact of a group is completed correctly in new documents.

    The model sees the true words before the value. Its sinks are removed. (n,), from 0 to 1.
    """
    tokens, stated = facts.documents(k), facts.new[k].ravel()
    _, likeliest = predict(params, cfg, tokens, NO_SINKS)
    right = values_right(tokens, likeliest).ravel()
    counts = np.bincount(stated, right)[facts.world.facts_of(k)]
    means: Floats = counts / np.bincount(stated).max()
    return means


class BySinks(NamedTuple):
    """One number under each selection of sinks; None where it does not exist."""

    own: float | None  # each sequence with the sinks of its ID
    removed: float  # no sinks
    all: float | None = None  # all sinks, scaled


class Evaluation(NamedTuple):
    """A model's losses in nats per token, by split and selection, and extraction."""

    repeated: BySinks  # natural repeated sequences
    heldout: BySinks
    extraction: BySinks  # fraction of the natural repeated sequences that can be extracted


class HistoryRow(NamedTuple):
    """Losses after a number of training steps, in nats per token."""

    step: int
    train: float | None  # mean over the steps since the last row
    repeated: BySinks
    heldout: BySinks
    first_sequence: tuple[float, ...] = ()  # its loss after every step
    recall: tuple[float, ...] = ()  # in a world of people: for each k, sinks removed


def to_evaluation(row: list[Any]) -> Evaluation:
    """Return an evaluation that was stored as JSON."""
    return Evaluation(*(BySinks(*numbers) for numbers in row))


def to_history(rows: list[list[Any]]) -> list[HistoryRow]:
    """Return rows that were stored as JSON, also by 0.2.0, which stored no recall."""
    return [
        HistoryRow(step, train, BySinks(*repeated), BySinks(*heldout), *map(tuple, numbers))
        for step, train, repeated, heldout, *numbers in rows
    ]


def evaluate(params: Params, cfg: ModelConfig, corpus: Corpus) -> Evaluation:
    """Evaluate natural repeated and held-out sequences under each selection of sinks.

    A model without sinks is the same under every selection, so its numbers are equal.
    """
    n = corpus.n_evaluated
    repeated, heldout = corpus.repeated[:n], corpus.heldout
    selection, every = own(cfg.sinks, corpus.repeated_ids[:n]), all_scaled(cfg.sinks)
    nll, likeliest = predict(params, cfg, repeated, selection)
    nll_removed, likeliest_removed = predict(params, cfg, repeated, NO_SINKS)
    return Evaluation(
        repeated=BySinks(
            mean_of(nll), mean_of(nll_removed), mean_loss(params, cfg, repeated, every)
        ),
        heldout=BySinks(
            mean_loss(params, cfg, heldout, own(cfg.sinks, corpus.heldout_ids)),
            mean_loss(params, cfg, heldout, NO_SINKS),
            mean_loss(params, cfg, heldout, every),
        ),
        extraction=BySinks(
            float(extracted(repeated, likeliest).mean()),
            float(extracted(repeated, likeliest_removed).mean()),
        ),
    )


def fraction_deleted(cfg: SinkConfig, ids: Any, deleted: Any) -> Floats:
    """Return the fraction of each ID's sinks that the deletion of other IDs erases, (N,).

    Lower is better. Expected 1 - (1-p)^m for m random deletions at density p; 0 where the scheme
    gives every ID a slice of its own.
    """
    mask = sink_mask(cfg, ids)
    erased = sink_mask(cfg, deleted).max(axis=0, initial=0)
    fraction: Floats = (mask * erased).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return fraction.astype(np.float64)


def collateral(params: Params, cfg: ModelConfig, corpus: Corpus) -> Floats:
    """Return the loss of repeated sequence j, own sinks on, after deletion of sequence i, (R,R).

    The loss of a sequence that shares no sink with i does not change and is not computed again.
    """
    ids, tokens = corpus.repeated_ids, corpus.repeated
    selection = own(cfg.sinks, ids)
    losses = np.tile(sequence_losses(params, cfg, tokens, selection), (len(ids), 1))
    if cfg.sinks:
        for row, i in zip(losses, ids, strict=True):
            sharing = fraction_deleted(cfg.sinks, ids, [i]) > 0
            if sharing.any():  # False if sinks are random and i has none
                deleted = delete(params, cfg.sinks, [i])
                part = slice_selection(selection, sharing)
                row[sharing] = sequence_losses(deleted, cfg, tokens[sharing], part)
    return losses


class Deletion(NamedTuple):
    """The effect of deleting one repeated sequence, mean over all of them; None without sinks."""

    deleted_loss: float | None = None  # of the deleted sequence, nats per token
    deleted_others_up: float | None = None  # rise of the others' loss; None if there are none


def deletion(params: Params, cfg: ModelConfig, corpus: Corpus) -> Deletion:
    """Delete the sinks of each repeated sequence in turn."""
    if cfg.sinks is None:
        return Deletion()
    loss = collateral(params, cfg, corpus)
    before = mean_loss(params, cfg, corpus.repeated, own(cfg.sinks, corpus.repeated_ids))
    others = None
    if len(loss) > 1:
        others = float((loss.sum() - loss.trace()) / (loss.size - len(loss))) - before
    return Deletion(float(loss.trace() / len(loss)), others)


def ratio(a: float, b: float) -> float | None:
    """Return a / b; None if b is 0: there is no such number."""
    return a / b if b else None


class Comparison(NamedTuple):
    """A model compared with *standard* and *retrained*, all with their sinks removed.

    None where the references are equal, so that there is nothing to close.
    """

    gap_closed: float | None
    gold_gap_closed: float | None
    heldout_cost: float


def compare(model: Evaluation, standard: Evaluation, retrained: Evaluation) -> Comparison:
    """Compare a model with *standard* and with *retrained*, the reference for any removal.

    gap_closed        1 - G/G_standard, where G = held-out minus repeated loss (paper, Fig. 6); a
                      worse model closes gaps too, so read it with heldout_cost
    gold_gap_closed   (repeated - standard's) / (retrained's - standard's): 1 is "as if never seen"
    heldout_cost      held-out loss minus standard's: what the removal costs
    """
    gap: Callable[[Evaluation], float] = lambda e: e.heldout.removed - e.repeated.removed
    rise: Callable[[Evaluation], float] = lambda e: e.repeated.removed - standard.repeated.removed
    cost = model.heldout.removed - standard.heldout.removed
    closed = ratio(gap(standard) - gap(model), gap(standard))
    return Comparison(closed, ratio(rise(model), rise(retrained)), cost)


def compute_penalty(history: Sequence[HistoryRow], loss: float) -> float:
    """Return which part of standard training a held-out loss wastes, from 0 to 1.

    SGTM's measure (arXiv 2512.05648, appendix B): 1 - the fraction of its steps after which
    standard training, whose `history` this is, first has this loss, by linear interpolation. 0 for
    a loss that is not above that at its end.
    """
    losses, steps = [row.heldout.removed for row in history], [row.step for row in history]
    if loss <= losses[-1]:
        return 0.0
    i = next(i for i, x in enumerate(losses) if x <= loss)
    around = slice(max(i - 1, 0), i + 1)
    first = np.interp(-loss, [-x for x in losses[around]], steps[around])
    return 1 - float(first) / steps[-1]
