"""A trained model: parameters, configuration, vocabulary, history, and methods that use them."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from memsinks_np import sinks
from memsinks_np._internal.ids import validate_ids, validate_ints
from memsinks_np._internal.typing import Floats, Ids, Params
from memsinks_np.config import (
    ConfigError,
    ModelConfig,
    SinkConfig,
    check_seed,
    require,
    require_sinks,
)
from memsinks_np.data.corpus import Corpus
from memsinks_np.data.own import as_rows, choose_ids, pad, to_tokens
from memsinks_np.export import npz
from memsinks_np.metrics import HistoryRow, sample, sequence_losses, to_history
from memsinks_np.model import init_params


class Model(NamedTuple):
    """A trained model. It is never changed: functions return a new one."""

    params: Params
    cfg: ModelConfig
    vocab: tuple[str, ...]
    separator: str  # between two tokens of a text
    history: list[HistoryRow]  # one per evaluation
    corpus: Corpus | None = None  # what it was trained on; None after `load`
    ids: Ids | None = None  # of repeated sequences, after `load` or `delete`: see `known_ids`

    def __repr__(self) -> str:
        n = sum(w.size for w in self.params.values())
        steps = self.history[-1].step if self.history else 0
        return f"Model({n:,} parameters, {steps} steps, sinks={self.cfg.sinks})"

    def loss(
        self,
        tokens: Sequence[Any],
        ids: Any = None,
        *,
        owners: Sequence[Hashable] | None = None,
        sinks: Literal["own", "none"] = "own",
    ) -> Floats:
        """Return the loss of each sequence, (N,), in nats per token.

        `tokens` are sequences of equal or unequal lengths, or strings. Each runs with the sinks of
        its ID or owner, or with sinks="none" without any. Raises ConfigError if a model with sinks
        gets neither.
        """
        require(not isinstance(tokens, str), "tokens is one string; give a list of strings")
        numbers = [self.encode(row) if isinstance(row, str) else row for row in tokens]
        rows = as_rows(numbers, "tokens")
        selection = self._select(len(rows), choose_ids(ids, owners), sinks)
        padded = pad(rows, max(map(len, rows)))
        return sequence_losses(self.params, self.cfg, padded, selection)

    def generate(
        self,
        prompt: str | Sequence[int],
        n_tokens: int = 16,
        ids: Any = None,
        *,
        owner: Hashable = None,
        sinks: Literal["own", "none"] = "own",
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """Continue a prompt (text, or tokens) and return both as text.

        It runs with the sinks of one ID or owner, or with sinks="none" without any. At temperature
        0 each token is the likeliest; at a higher one it is drawn. The model reads the last `n_ctx`
        tokens. Raises ConfigError for a word outside the vocabulary.
        """
        tokens = self.encode(prompt) if isinstance(prompt, str) else validate_ints(prompt, "prompt")
        require(
            tokens.ndim == 1 and len(tokens) > 0, "the prompt is empty; give at least one token"
        )
        require(tokens.min() >= 0, f"the prompt holds token {tokens.min()}; tokens are 0 or more")
        require(n_tokens >= 0, f"n_tokens={n_tokens} is below 0; use 0 or more")
        finite = 0 <= temperature < inf
        require(finite, f"temperature={temperature} is not a finite number of 0 or more; use 1.0")
        check_seed(seed)
        selection = self._select(1, choose_ids(ids, None if owner is None else [owner]), sinks)
        drawn = sample(self.params, self.cfg, tokens[None], n_tokens, selection, temperature, seed)
        return self.decode(drawn[0])

    def encode(self, text: str) -> Any:
        """Return a text as tokens. Raises ConfigError for one outside the vocabulary."""
        return to_tokens(text, self.vocab, self.separator)

    def decode(self, tokens: Any) -> str:
        """Return tokens as text."""
        return self.separator.join(self.vocab[i] for i in tokens)

    def save(self, path: str | Path) -> None:
        """Write the model to an .npz file, without pickle.

        Of the corpus only the IDs of repeated sequences are stored, so that `delete` knows them. A
        model without sinks stores none.
        """
        ids = self.known_ids() if self.cfg.sinks else None
        meta: dict[str, Any] = {
            "ids": None if ids is None else ids.tolist(),
            "cfg": asdict(self.cfg),
            "vocab": self.vocab,
            "separator": self.separator,
        }
        npz.save(Path(path), self.params, meta | {"history": self.history})

    def known_ids(self) -> Ids | None:
        """Return the IDs of repeated sequences, sorted, without deleted ones; None if unknown."""
        if self.ids is None and self.corpus:
            return np.unique(self.corpus.repeated_ids)
        return self.ids

    def _select(self, n: int, ids: Any, which: str) -> sinks.Selection:
        """Return the selection of n sequences."""
        require(which in ("own", "none"), f"sinks={which!r} is unknown; use 'own' or 'none'")
        if which == "none" or self.cfg.sinks is None:
            return sinks.NO_SINKS
        require(ids is not None, "which sinks are active? give ids=[...], or sinks='none'")
        require(len(ids) == n, f"{n} sequences with {len(ids)} IDs; give one ID per sequence")
        return sinks.own(self.cfg.sinks, ids)


def prune(model: Model) -> Model:
    """Drop the sink pool. What remains is an ordinary transformer (paper, section 5)."""
    cfg = model.cfg.__class__(**{**vars(model.cfg), "sinks": None})
    return model._replace(params=sinks.prune(model.params), cfg=cfg)


def delete(model: Model, ids: Any = None, *, owners: Sequence[Hashable] | None = None) -> Model:
    """Erase the sinks of some IDs or owners. Other memories stay, except for shared sinks.

    Raises ConfigError if the model has no sinks, or if no repeated sequence of its training has an
    ID or owner, also after `load`.
    """
    pool, chosen = require_sinks(model.cfg), choose_ids(ids, owners)
    require(chosen is not None, "whose sinks are deleted? give ids=[...] or owners=[...]")
    assert chosen is not None
    known, left = model.known_ids(), None
    if known is not None:
        names, what = (chosen.tolist(), "ID") if owners is None else (owners, "owner")
        for i, name in zip(chosen, names, strict=True):
            require(i in known, f"no repeated sequence has the {what} {name!r}; nothing is deleted")
        left = np.setdiff1d(known, chosen)
    return model._replace(params=sinks.delete(model.params, pool, chosen), ids=left)


def load(path: str | Path) -> Model:
    """Read a model that `Model.save` wrote. Nothing is unpickled. Raises ConfigError."""
    path = Path(path)
    try:
        meta = npz.read_meta(path)
        pool = meta["cfg"].pop("sinks")
        cfg = ModelConfig(**meta["cfg"], sinks=SinkConfig(**pool) if pool else None)
        vocab, history = tuple(meta["vocab"]), to_history(meta["history"])
        ids = meta.get("ids")  # 0.2.0 stored none
        known = None if ids is None else validate_ids(ids)
        require(all(isinstance(word, str) for word in vocab), "its vocabulary is not text")
        require(len(vocab) == cfg.n_vocab, "its vocabulary has another size")
        # before memory is taken: a layer has 12 arrays, each with a header of 128 bytes
        fits = 4 * cfg.n_params + 12 * 128 * cfg.n_layers <= path.stat().st_size
        require(fits, f"{path} is not a saved model ({cfg} does not fit into its size)")
    except ConfigError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ConfigError(f"{path} is not a model ({type(e).__name__}: {e})") from None
    params = npz.load(path, init_params(cfg))
    return Model(params, cfg, vocab, str(meta["separator"]), history, ids=known)
