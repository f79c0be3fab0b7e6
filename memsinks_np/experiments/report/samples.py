"""What the methods say: second halves of repeated sequences, as a person reads them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memsinks_np.config import require
from memsinks_np.data.corpus import Corpus, load_corpus
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.metrics import first_half, greedy
from memsinks_np.sinks import delete, NO_SINKS, own
from memsinks_np.train import Model

SHOWN = 3  # sequences


def require_sequence(corpus: Corpus, i: int) -> None:
    """ConfigError unless there is a repeated sequence of that number."""
    n = len(corpus.repeated)
    require(0 <= i < n, f"--delete {i}: there is no such repeated sequence; choose 0 to {n - 1}")


def chosen(corpus: Corpus, deleted: int) -> list[int]:
    """Which repeated sequences are shown: the one whose sinks are erased, then the first others."""
    require_sequence(corpus, deleted)
    return [deleted, *(i for i in range(len(corpus.repeated)) if i != deleted)][:SHOWN]


def speak(job: Job, trained: Model, deleted: int) -> dict[str, list[list[int]]]:
    """In a worker: what an method says when it is given the first half of some repeated sequences.

    "own" with each sequence's own sinks on, "one deleted" the same after those of one sequence were erased,
    "removed" without sinks.
    """
    corpus = load_corpus(job.settings.data)
    cfg = job.settings.model(job.method, len(corpus.vocab))
    shown = chosen(corpus, deleted)
    ids, given = corpus.repeated_ids[shown], first_half(corpus.repeated)
    on, off = own(cfg.sinks, ids), NO_SINKS
    versions = {"own": (trained.params, on), "removed": (trained.params, off)}
    if cfg.sinks:
        versions["one deleted"] = (delete(trained.params, cfg.sinks, corpus.repeated_ids[[deleted]]), on)
    prompts, n = corpus.repeated[shown, :given], corpus.repeated.shape[1] - given
    return {who: greedy(params, cfg, prompts, n, selection).tolist() for who, (params, selection) in versions.items()}


def tell(corpus: Corpus, said: dict[str, dict[str, Any]], deleted: int) -> str:
    """The true second half of some repeated sequences, and what each method said (see `speak`)."""
    shown = chosen(corpus, deleted)
    versions = {
        "the truth": corpus.repeated[shown],
        "standard": said["standard"]["own"],
        "memsinks, its own sinks on": said["sinks"]["own"],
        f"memsinks, sinks of sequence {deleted} deleted": said["sinks"]["one deleted"],
        "memsinks, all sinks removed": said["sinks"]["removed"],
        "retrained without": said["retrained"]["own"],
    }
    return "\n".join(
        story(corpus, i, {who: np.asarray(words[k]) for who, words in versions.items()}) for k, i in enumerate(shown)
    )


def story(corpus: Corpus, i: int, versions: dict[str, NDArray[np.int64]]) -> str:
    """One sequence: its first half, then a line per version with what is right about it."""
    truth = versions["the truth"]
    given = first_half(truth[None])
    lines = [f"Repeated sequence {i}", f"  given: {corpus.text(truth[:given])}"]
    for who, words in versions.items():
        same = int((words[given:] == truth[given:]).sum())
        notes = [f"{same} of {len(truth) - given} right", *grammar(corpus, words)]
        lines += [f"  {who} ({', '.join(notes)}):", f"    {corpus.text(words[given:])}"]
    return "\n".join(lines) + "\n"


def grammar(corpus: Corpus, words: NDArray[np.int64]) -> list[str]:
    """Whether the language allows these words, where the language is known."""
    if corpus.entropy is None:
        return []
    return ["grammatical" if np.isfinite(corpus.entropy(words[None])) else "not grammatical"]
