"""A trained model: parameters, configuration, vocabulary, history, and methods that use them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from memsinks_np import sinks
from memsinks_np._internal.ids import validate_ids, validate_ints
from memsinks_np._internal.typing import Floats, Params
from memsinks_np.config import ConfigError, ModelConfig, SinkConfig, require, require_sinks
from memsinks_np.data.corpus import Corpus, as_rows, pad
from memsinks_np.export import npz
from memsinks_np.metrics import HistoryRow, greedy, sequence_losses, to_history
from memsinks_np.model import init_params


class Model(NamedTuple):
    """A trained model. It is never changed: functions return a new one."""

    params: Params
    cfg: ModelConfig
    vocab: tuple[str, ...]
    separator: str  # between two tokens of a text
    history: list[HistoryRow]  # one per evaluation
    corpus: Corpus | None = None  # what it was trained on; None after `load`

    def __repr__(self) -> str:
        n = sum(w.size for w in self.params.values())
        steps = self.history[-1].step if self.history else 0
        return f"Model({n:,} parameters, {steps} steps, sinks={self.cfg.sinks})"

    def loss(
        self, tokens: Sequence[Any], ids: Any = None, *, sinks: Literal["own", "none"] = "own"
    ) -> Floats:
        """Return the loss of each sequence, (N,), in nats per token.

        `tokens` are sequences of equal or unequal lengths. Each runs with the sinks of its ID, or
        with sinks="none" without any. Raises ConfigError if a model with sinks gets neither.
        """
        rows = as_rows(tokens, "tokens")
        selection = self._select(len(rows), ids, sinks)
        padded = pad(rows, max(map(len, rows)))
        return sequence_losses(self.params, self.cfg, padded, selection)

    def generate(
        self,
        prompt: str | Sequence[int],
        n_tokens: int = 16,
        ids: Any = None,
        *,
        sinks: Literal["own", "none"] = "own",
    ) -> str:
        """Continue a prompt (text, or tokens) by its likeliest tokens, and return both as text.

        It runs with the sinks of one ID, or with sinks="none" without any. Raises ConfigError for
        a word outside the vocabulary, and if prompt and continuation do not fit the context.
        """
        tokens = self.encode(prompt) if isinstance(prompt, str) else validate_ints(prompt, "prompt")
        require(
            tokens.ndim == 1 and len(tokens) > 0, "the prompt is empty; give at least one token"
        )
        total, n_ctx = len(tokens) + n_tokens, self.cfg.n_ctx
        require(
            total <= n_ctx + 1,
            f"{len(tokens)} + {n_tokens} tokens do not fit n_ctx={n_ctx}; "
            f"use n_tokens={max(0, n_ctx + 1 - len(tokens))}",
        )
        selection = self._select(1, ids, sinks)
        return self.decode(greedy(self.params, self.cfg, tokens[None], n_tokens, selection)[0])

    def encode(self, text: str) -> Any:
        """Return a text as tokens. Raises ConfigError for one outside the vocabulary."""
        number = {word: i for i, word in enumerate(self.vocab)}
        words = text.split(self.separator) if self.separator else list(text)
        unknown = [word for word in words if word not in number]
        require(not unknown, f"{', '.join(map(repr, unknown[:3]))} not in the vocabulary")
        return np.array([number[word] for word in words], np.int64)

    def decode(self, tokens: Any) -> str:
        """Return tokens as text."""
        return self.separator.join(self.vocab[i] for i in tokens)

    def save(self, path: str | Path) -> None:
        """Write the model to an .npz file, without pickle. The corpus is not stored."""
        meta: dict[str, Any] = {
            "cfg": asdict(self.cfg),
            "vocab": self.vocab,
            "separator": self.separator,
        }
        npz.save(Path(path), self.params, meta | {"history": self.history})

    def _select(self, n: int, ids: Any, which: str) -> sinks.Selection:
        """Return the selection of n sequences."""
        require(which in ("own", "none"), f"sinks={which!r} is unknown; use 'own' or 'none'")
        if which == "none" or self.cfg.sinks is None:
            return sinks.NO_SINKS
        require(ids is not None, "which sinks are active? give ids=[...], or sinks='none'")
        ids = validate_ids(ids)
        require(len(ids) == n, f"{n} sequences with {len(ids)} IDs; give one ID per sequence")
        return sinks.own(self.cfg.sinks, ids)


def prune(model: Model) -> Model:
    """Drop the sink pool. What remains is an ordinary transformer (paper, section 5)."""
    cfg = model.cfg.__class__(**{**vars(model.cfg), "sinks": None})
    return model._replace(params=sinks.prune(model.params), cfg=cfg)


def delete(model: Model, ids: Any) -> Model:
    """Erase the sinks of some IDs. Other memories stay, except for what is in shared sinks.

    Raises ConfigError if the model has no sinks, or if its corpus has no sequence with an ID.
    """
    pool, ids = require_sinks(model.cfg), validate_ids(ids)
    if model.corpus:
        unknown = ids[~np.isin(ids, model.corpus.repeated_ids)].tolist()
        if unknown:
            raise ConfigError(f"no repeated sequence has the ID {unknown[0]}; nothing is deleted")
    return model._replace(params=sinks.delete(model.params, pool, ids))


def load(path: str | Path) -> Model:
    """Read a model that `Model.save` wrote. Nothing is unpickled. Raises ConfigError."""
    path = Path(path)
    try:
        meta = npz.read_meta(path)
        pool = meta["cfg"].pop("sinks")
        cfg = ModelConfig(**meta["cfg"], sinks=SinkConfig(**pool) if pool else None)
        vocab, history = tuple(meta["vocab"]), to_history(meta["history"])
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
    return Model(params, cfg, vocab, str(meta["separator"]), history)
