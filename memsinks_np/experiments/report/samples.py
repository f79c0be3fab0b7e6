"""Text that models generate: second halves of repeated sequences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.tables import visible
from memsinks_np._internal.terminal import BOLD, styled
from memsinks_np.config import require
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import first_half, greedy, predict
from memsinks_np.sinks import NO_SINKS, delete, own
from memsinks_np.trained import Model

N_SHOWN = 3  # sequences
SAMPLED_METHODS = ("standard", "sinks", "retrained")
VERSIONS = {  # label -> method, sinks
    "standard": ("standard", "own"),
    "sinks, own sinks on": ("sinks", "own"),
    "sinks, sinks of sequence {} deleted": ("sinks", "one deleted"),
    "sinks, all removed": ("sinks", "removed"),
    "retrained": ("retrained", "own"),
}


def check_delete_id(corpus: Corpus, i: int) -> None:
    """Raise ConfigError unless a repeated sequence has this number."""
    n = len(corpus.repeated)
    require(0 <= i < n, f"--delete-id {i}: there is no such repeated sequence; use 0 to {n - 1}")


def shown(corpus: Corpus, delete_id: int) -> list[int]:
    """Return the sequences to show: the one whose sinks are deleted, then the first others."""
    check_delete_id(corpus, delete_id)
    return [delete_id, *(i for i in range(len(corpus.repeated)) if i != delete_id)][:N_SHOWN]


def sample(model: Model, delete_id: int) -> dict[str, list[list[int]]]:
    """Continue the first half of some repeated sequences, in a worker.

    "own" with each sequence's own sinks, "one deleted" the same after the sinks of one sequence
    were deleted, "removed" without sinks.
    """
    params, cfg, corpus = model.params, model.cfg, model.corpus
    assert corpus
    chosen = shown(corpus, delete_id)
    ids, half = corpus.repeated_ids[chosen], first_half(corpus.repeated)
    active = own(cfg.sinks, ids)
    versions: dict[str, Any] = {"own": (params, active), "removed": (params, NO_SINKS)}
    if cfg.sinks:
        deleted = delete(params, cfg.sinks, corpus.repeated_ids[[delete_id]])
        versions["one deleted"] = (deleted, active)
    prompts, n = corpus.repeated[chosen, :half], corpus.repeated.shape[1] - half
    return {
        name: greedy(weights, cfg, prompts, n, selection).tolist()
        for name, (weights, selection) in versions.items()
    }


def format_samples(corpus: Corpus, samples: dict[str, dict[str, Any]], delete_id: int) -> str:
    """Return some repeated sequences, and how each version continues them."""
    blocks = []
    for k, i in enumerate(shown(corpus, delete_id)):
        truth, half = corpus.repeated[i], first_half(corpus.repeated)
        lines = [f"Repeated sequence {i}", f"  prompt: {visible(corpus.text(truth[:half]))}"]
        versions = {"the original": truth}
        for text, (method, sinks) in VERSIONS.items():
            versions[text.format(delete_id)] = np.asarray(samples[method][sinks][k])
        for text, tokens in versions.items():
            right = int((tokens[half:] == truth[half:]).sum())
            notes = [f"{right} of {len(truth) - half} right", *grammar(corpus, tokens)]
            lines += [
                f"  {text} ({', '.join(notes)}):",
                f"    {visible(corpus.text(tokens[half:]))}",
            ]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def grammar(corpus: Corpus, tokens: NDArray[np.int64]) -> list[str]:
    """Return whether the language allows these tokens, where the language is known."""
    if corpus.entropy is None:
        return []
    return ["grammatical" if np.isfinite(corpus.entropy(tokens[None])) else "not grammatical"]


# Facts about people

FACTS_SHOWN = {1: 3, 4: 1, 64: 2}  # k -> facts
FACT_VERSIONS = {  # label -> method, sinks
    "standard": ("standard", "own"),
    "sinks on": ("sinks", "own"),
    "sinks removed": ("sinks", "removed"),
    "never saw it": ("retrained", "own"),
}


class Completion(NamedTuple):
    """How a model completes a fact, with the sinks of a document that states it, and without."""

    k: int  # documents that state the fact
    prompt: str
    truth: str
    own: tuple[str, float]  # likeliest word; probability of the true one
    removed: tuple[str, float]


def complete(model: Model) -> list[Completion]:
    """Complete some facts, each at the start of a document, in a worker."""
    params, cfg, corpus = model.params, model.cfg, model.corpus
    assert corpus
    assert corpus.facts
    stated, completions = corpus.facts.repeated, []
    for k, n in FACTS_SHOWN.items():
        documents, facts = corpus.facts.documents(k), corpus.facts.new[k]
        for tokens, fact in zip(documents[:n], facts[:n, 0], strict=True):
            source = int((stated == fact).any(axis=1).argmax())
            says = []
            for selection in (own(cfg.sinks, corpus.repeated_ids[[source]]), NO_SINKS):
                nll, likeliest = predict(params, cfg, tokens[None, :5], selection)
                word = corpus.vocab[likeliest[0, -1]]
                says.append((word, round(float(np.exp(-nll[0, -1])), 3)))
            truth = corpus.vocab[tokens[4]]
            completions.append(Completion(k, corpus.text(tokens[:4]), truth, *says))
    return completions


def format_completions(
    samples: dict[str, list[Any]],
    versions: dict[str, tuple[str, str]] = FACT_VERSIONS,
    mark_right: Callable[[str], str] = str,
) -> str:
    """Return some facts, and how each version completes them; mark the words that are right."""
    blocks = []
    for i, (k, prompt, truth, *_) in enumerate(samples["standard"]):
        stated = "1 document states" if k == 1 else f"{k} documents state"
        lines = [f"{stated}: {prompt} {truth}"]
        for version, (method, sinks) in versions.items():
            word, p = getattr(Completion(*samples[method][i]), sinks)
            said = mark_right(f"{word:10}") if word == truth else f"{word:10}"
            lines.append(f"  {version:14} {prompt} {said} {p:4.0%} for {truth}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def short_completions(samples: dict[str, list[Any]]) -> str:
    """Return a fact of one document and one of many, with sinks and without, for a terminal."""
    ks = [row[0] for row in samples["standard"]]
    two = {name: [rows[ks.index(k)] for k in (min(ks), max(ks))] for name, rows in samples.items()}
    versions = {name: FACT_VERSIONS[name] for name in ("sinks on", "sinks removed")}
    return format_completions(two, versions, lambda word: styled(word, BOLD))
