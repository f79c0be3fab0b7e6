"""The memory map: what every word of every repeated sequence costs a model, and whose sinks a sequence shares."""

from typing import Any

import numpy as np

from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.metrics import predict
from memsinks_np.sinks import Rows, NO_SINKS, own
from memsinks_np.train import Model

VERSIONS = {  # what the reader can switch between: the method, and which sinks are on
    "standard": ("standard", "removed"),
    "memsinks, own sinks on": ("sinks", "own"),
    "memsinks, sinks removed": ("sinks", "removed"),
    "retrained without": ("retrained", "removed"),
}
MOST = 64  # sequences on the map


def word_losses(job: Job, trained: Model) -> dict[str, list[list[float]]]:
    """In a worker: the loss of every word of the repeated sequences in nats, own sinks on and sinks removed."""
    corpus = load_corpus(job.settings.data)
    cfg = job.settings.model(job.method, len(corpus.vocab))
    tokens, ids = corpus.repeated[:MOST], corpus.repeated_ids[:MOST]
    selections = {"own": own(cfg.sinks, ids), "removed": NO_SINKS}
    return {
        name: np.round(predict(trained.params, cfg, tokens, selection)[0], 2).tolist()
        for name, selection in selections.items()
    }


def memory_map(job: Job, corpus: Corpus, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All that the page shows, as plain data; `job` is that of the method with sinks, `found` each method's `word_losses`."""
    tokens, ids = corpus.repeated[:MOST], corpus.repeated_ids[:MOST]
    chosen = own(job.method.sinks, ids)
    return {
        "words": [[corpus.vocab[i] for i in row] for row in tokens.tolist()],
        "separator": corpus.separator,
        "floor": corpus.entropy(tokens[: corpus.cfg.n_repeated]) if corpus.entropy else None,  # canaries have none
        "losses": {version: found[method][which] for version, (method, which) in VERSIONS.items()},
        "sinks": [layer.index.tolist() if isinstance(layer, Rows) else [] for layer in chosen],  # layer, sequence
    }


def shared(sinks: list[list[int]], i: int) -> dict[int, list[int]]:
    """The other sequences that own some of sequence i's sinks, and which: those that share most first."""
    mine = set(sinks[i])
    common = {j: sorted(mine & set(theirs)) for j, theirs in enumerate(sinks) if j != i and mine & set(theirs)}
    return dict(sorted(common.items(), key=lambda item: (-len(item[1]), item[0])))
