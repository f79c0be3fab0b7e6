"""The memory map: what every word of every repeated sequence costs a model, and whose sinks a sequence shares."""

from typing import Any

import numpy as np

from memsinks_np.data import Corpus, load_corpus
from memsinks_np.grid import Job
from memsinks_np.metrics import predict
from memsinks_np.sinks import Rows, none, own
from memsinks_np.train import Trained

VERSIONS = {  # what the reader can switch between: the arm, and which sinks are on
    "standard": ("standard", "removed"),
    "memsinks, own sinks on": ("memsinks", "own"),
    "memsinks, sinks removed": ("memsinks", "removed"),
    "retrained without": ("retrained_without", "removed"),
}
MOST = 64  # sequences on the map


def word_losses(job: Job, trained: Trained) -> dict[str, list[list[float]]]:
    """In a worker: the loss of every word of the repeated sequences in nats, own sinks on and sinks removed."""
    corpus = load_corpus(job.settings.data)
    cfg = job.settings.model(job.arm, len(corpus.vocab))
    tokens, ids = corpus.repeated[:MOST], corpus.repeated_ids[:MOST]
    selections = {"own": own(cfg.sinks, ids, cfg.n_layers), "removed": none(cfg.n_layers)}
    return {
        name: np.round(predict(trained.params, cfg, tokens, selection)[0], 2).tolist()
        for name, selection in selections.items()
    }


def memory_map(job: Job, corpus: Corpus, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All that the page shows, as plain data; `job` is that of the arm with sinks, `found` each arm's `word_losses`."""
    tokens, ids = corpus.repeated[:MOST], corpus.repeated_ids[:MOST]
    chosen = own(job.arm.sinks, ids, job.settings.n_layers)
    return {
        "words": [[corpus.vocab[i] for i in row] for row in tokens.tolist()],
        "separator": corpus.separator,
        "floor": corpus.floor(tokens[: corpus.cfg.n_repeated]) if corpus.floor else None,  # canaries have none
        "losses": {version: found[arm][which] for version, (arm, which) in VERSIONS.items()},
        "sinks": [layer.index.tolist() if isinstance(layer, Rows) else [] for layer in chosen],  # layer, sequence
    }


def shared(sinks: list[list[int]], i: int) -> dict[int, list[int]]:
    """The other sequences that own some of sequence i's sinks, and which: those that share most first."""
    mine = set(sinks[i])
    common = {j: sorted(mine & set(theirs)) for j, theirs in enumerate(sinks) if j != i and mine & set(theirs)}
    return dict(sorted(common.items(), key=lambda item: (-len(item[1]), item[0])))
