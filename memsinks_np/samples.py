"""What the arms say: second halves of repeated sequences, as a person reads them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np.config import ModelConfig, require
from memsinks_np.data import Corpus
from memsinks_np.metrics import first_half, greedy
from memsinks_np.sinks import Params, delete, none, own


class Speaker(NamedTuple):
    """A trained arm that continues sequences."""

    params: Params
    cfg: ModelConfig


def require_sequence(corpus: Corpus, i: int) -> None:
    """ConfigError unless there is a repeated sequence of that number."""
    n = len(corpus.repeated)
    require(0 <= i < n, f"--delete {i}: there is no such repeated sequence; choose 0 to {n - 1}")


def tell(corpus: Corpus, speakers: dict[str, Speaker], deleted: int, n: int = 3) -> str:
    """The true second half of `n` repeated sequences, and what each arm says when it is given the first half.

    `deleted` is the repeated sequence whose sinks alone are erased in one of the versions; it is shown first.
    """
    require_sequence(corpus, deleted)
    chosen = [deleted, *(i for i in range(len(corpus.repeated)) if i != deleted)][:n]
    ids = corpus.repeated_ids[chosen]
    given = first_half(corpus.repeated)
    prompts = corpus.repeated[chosen, :given]
    sinks = speakers["memsinks"]
    one_gone = Speaker(delete(sinks.params, sinks.cfg.sinks, corpus.repeated_ids[[deleted]]), sinks.cfg)

    def say(who: Speaker, with_sinks: bool) -> NDArray[np.int64]:
        selection = own(who.cfg.sinks, ids, who.cfg.n_layers) if with_sinks else none(who.cfg.n_layers)
        return greedy(who.params, who.cfg, prompts, corpus.repeated.shape[1] - given, selection)

    versions = {
        "the truth": corpus.repeated[chosen],
        "standard": say(speakers["standard"], True),
        "memsinks, its own sinks on": say(sinks, True),
        f"memsinks, sinks of sequence {deleted} deleted": say(one_gone, True),
        "memsinks, all sinks removed": say(sinks, False),
        "retrained without": say(speakers["retrained_without"], True),
    }
    return "\n".join(story(corpus, i, {who: said[k] for who, said in versions.items()}) for k, i in enumerate(chosen))


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
    if corpus.floor is None:
        return []
    return ["grammatical" if np.isfinite(corpus.floor(words[None])) else "not grammatical"]
