"""What is measured on a trained arm, and the numbers that compare arms.  Losses are mean nats per word."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np.arrays import Floats, Losses, Params
from memsinks_np.arrays import Tokens as Tokens
from memsinks_np.backend import namespace_of, to_device, to_host
from memsinks_np.config import ModelConfig, SinkConfig, require
from memsinks_np.model import make_batch, model_forward
from memsinks_np.ops import cross_entropy_forward
from memsinks_np.sinks import Mask, Selected, Selection, delete, everything, mask_of, none, own

Row = dict[str, Any]  # an arm's numbers: a float by name, None where an arm has none
CHUNK = 32  # sequences per forward pass, fewer where masks make a large pool expensive
MASKED_CELLS = 1 << 21  # neurons x words that one masked layer may hold at once


def take(selection: Selection, part: slice | NDArray[np.bool_]) -> Selection:
    """The entries of a selection for some of its sequences."""

    def cut(s: Selected) -> Selected:
        if s is None or (isinstance(s, Mask) and len(s.value) == 1):
            return s
        return type(s)(s[0][part])

    return tuple(cut(s) for s in selection)


def predict(params: Params, cfg: ModelConfig, tokens: Tokens, selection: Selection) -> tuple[Losses, Tokens]:
    """(N,T+1) tokens and a selection of sinks -> (N,T) loss of every word, (N,T) the likeliest word there."""
    xp, nll, likeliest = namespace_of(params["wte"]), [], []
    chunk = CHUNK
    masks = [s.value for s in selection if isinstance(s, Mask)]
    if masks:
        chunk = max(1, min(CHUNK, MASKED_CELLS // masks[0].shape[-1] // tokens.shape[1]))
    for start in range(0, len(tokens), chunk):
        part = slice(start, start + chunk)
        batch = make_batch(cfg, tokens[part], take(selection, part), params["wte"].dtype)
        batch = to_device(xp, batch)
        logits, _ = model_forward(xp, params, batch, cfg, keep=False)
        nll.append(to_host(cross_entropy_forward(xp, logits, batch.targets)[0]))
        likeliest.append(to_host(xp.argmax(logits, axis=-1)))
    return np.concatenate(nll), np.concatenate(likeliest)


def mean_loss(params: Params, cfg: ModelConfig, tokens: Tokens, selection: Selection) -> float:
    """Mean loss over all words of all sequences."""
    return float(predict(params, cfg, tokens, selection)[0].mean(dtype=np.float64))


def first_half(tokens: Tokens) -> int:
    """How many words of a sequence are given when the rest is to be extracted."""
    half: int = tokens.shape[1] // 2
    return half


def extracted(
    tokens: Tokens, likeliest: NDArray[np.int64], given: int | None = None, said: int | None = None
) -> NDArray[np.bool_]:
    """(N,) whether greedy decoding of `said` words after `given` ones is the truth word for word.

    This is (n,k) extraction (Carlini et al. 2023); by default the second half from the first.  One teacher-forced
    pass decides it: as long as every likeliest word is the true one, greedy decoding reads the true words, and at
    the first other word it has failed.  ConfigError unless at least one word is given and said, and all exist.
    """
    n = first_half(tokens) if given is None else given
    k = tokens.shape[1] - n if said is None else said
    require(
        n > 0 and k > 0 and n + k <= tokens.shape[1],
        f"given={n}, said={k} do not fit into {tokens.shape[1]} words; choose at least 1 and 1, at most all in sum",
    )
    right: NDArray[np.bool_] = (likeliest[:, n - 1 : n + k - 1] == tokens[:, n : n + k]).all(axis=1)
    return right


def greedy(params: Params, cfg: ModelConfig, prompts: Tokens, n_words: int, selection: Selection) -> Tokens:
    """(N,P) prompts continued by `n_words` likeliest words, all under the same selection at every word."""
    words = prompts
    for _ in range(n_words):
        ignored = np.zeros((len(words), 1), np.int64)  # the last word has no target yet
        _, likeliest = predict(params, cfg, np.concatenate([words, ignored], axis=1), selection)
        words = np.concatenate([words, likeliest[:, -1:]], axis=1)
    return words


def measure(params: Params, cfg: ModelConfig, corpus: Any) -> dict[str, float | None]:
    """One arm's own numbers: each kind of sequence under each selection of sinks.

    An arm without sinks is the same model under every selection, and says so with equal numbers.  Canaries have
    numbers of their own, None where there are none.
    """
    off = none(cfg.n_layers)
    repeated, heldout, natural = corpus.repeated, corpus.heldout, corpus.cfg.n_repeated

    def on(ids: NDArray[np.int64]) -> Selection:
        return own(cfg.sinks, ids, cfg.n_layers)

    row: dict[str, float | None] = {}
    for name, selection in (("own", on(corpus.repeated_ids)), ("removed", off)):
        nll, likeliest = predict(params, cfg, repeated, selection)
        row[f"repeated_{name}"] = float(nll[:natural].mean(dtype=np.float64))
        row[f"extraction_{name}"] = float(extracted(repeated, likeliest)[:natural].mean())
        row[f"canary_{name}"] = float(nll[natural:].mean(dtype=np.float64)) if len(nll) > natural else None
    row["heldout_removed"] = mean_loss(params, cfg, heldout, off)
    row["heldout_own"] = mean_loss(params, cfg, heldout, on(corpus.heldout_ids))
    every = everything(cfg.sinks, cfg.n_layers) if cfg.sinks else off
    row["heldout_all"] = mean_loss(params, cfg, heldout, every)
    row["repeated_all"] = mean_loss(params, cfg, repeated[:natural], every)
    return row


def share_deleted(cfg: SinkConfig, ids: Any, deleted: Any, n_layers: int) -> Floats:
    """(N,) the share of each ID's sinks that go when all sinks of the `deleted` IDs are erased; lower is better.

    Expected 1 - (1-p)^m for m random deletions at density p; 0 where the scheme gives every ID a slice of its own.
    """
    shares = []
    for layer in range(n_layers if cfg.per_layer else 1):
        mine, gone = mask_of(cfg, ids, layer), mask_of(cfg, deleted, layer).max(axis=0, initial=0)
        shares.append((mine * gone).sum(axis=1) / np.maximum(mine.sum(axis=1), 1))
    mean: Floats = np.mean(shares, axis=0, dtype=np.float64)
    return mean


def collateral(params: Params, cfg: ModelConfig, corpus: Any) -> Floats:
    """(R,R) loss of repeated sequence j, own sinks on, after the sinks of sequence i were deleted.

    A sequence that shares no sink with i computes what it computed before, so it is not computed again.
    """
    ids, tokens, selection = corpus.repeated_ids, corpus.repeated, own(cfg.sinks, corpus.repeated_ids, cfg.n_layers)

    def loss_of(some: Any, now: Params) -> Floats:
        loss: Floats = predict(now, cfg, tokens[some], take(selection, some))[0].mean(axis=1, dtype=np.float64)
        return loss

    rows = np.tile(loss_of(slice(None), params), (len(ids), 1))
    if cfg.sinks:
        for row, i in zip(rows, ids, strict=True):
            sharing = share_deleted(cfg.sinks, ids, [i], cfg.n_layers) > 0
            if sharing.any():  # not where masks are by chance and i owns no sink
                row[sharing] = loss_of(sharing, delete(params, cfg.sinks, [i]))
    return rows


NO_DELETION = {"deleted_loss": None, "deleted_others_up": None}


def deletion(params: Params, cfg: ModelConfig, corpus: Any) -> dict[str, float | None]:
    """Delete the sinks of one repeated sequence, for each in turn: its own loss then, and the rise of the others'.

    None where there are no sinks, or no others.
    """
    if cfg.sinks is None:
        return dict(NO_DELETION)
    loss = collateral(params, cfg, corpus)
    before = mean_loss(params, cfg, corpus.repeated, own(cfg.sinks, corpus.repeated_ids, cfg.n_layers))
    others = float((loss.sum() - loss.trace()) / (loss.size - len(loss))) - before if len(loss) > 1 else None
    return {"deleted_loss": float(loss.trace() / len(loss)), "deleted_others_up": others}


def compare(row: Row, standard: Row, gold: Row) -> dict[str, float]:
    """The numbers that set an arm beside *standard* and beside *retrained without* (the gold reference).

    gap_closed        1 - G/G_standard, G = held-out minus repeated loss, sinks removed (paper, Fig. 6); a worse
                      model closes gaps too, so read it beside heldout_cost
    gold_gap_closed   (repeated - standard's) / (gold's - standard's), sinks removed: 1 is "as if never seen"
    heldout_cost      held-out loss, sinks removed, minus standard's: what the removal costs
    """
    gap: Callable[[Row], float] = lambda r: r["heldout_removed"] - r["repeated_removed"]
    rise: Callable[[Row], float] = lambda r: r["repeated_removed"] - standard["repeated_removed"]
    return {
        "gap_closed": 1 - gap(row) / gap(standard),
        "gold_gap_closed": rise(row) / rise(gold),
        "heldout_cost": row["heldout_removed"] - standard["heldout_removed"],
    }


def benefit_kept(once: float, many: float, loss: float) -> float | None:
    """(L_1x - L) / (L_1x - L_Nx), held-out: how much of what repetition teaches about new text an arm keeps.

    `once` is the loss of ordinary training on the same sequences without their repeats, `many` with all repeats, and
    `loss` the arm's (paper, Fig. 6; the ratio is ours).  1 keeps all, 0 none; above 1 repeats did harm that
    the arm avoids.  None where repetition does not help (many >= once): there is no benefit to keep.
    """
    return (once - loss) / (once - many) if many < once else None
