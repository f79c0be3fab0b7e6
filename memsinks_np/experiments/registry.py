"""The list of experiments, and the types of their interface."""

import importlib
from typing import Any, NamedTuple

from memsinks_np.experiments.methods import Preset
from memsinks_np.experiments.runner.cache import Job

Jobs = dict[Any, Job]
Outputs = dict[Any, Any]


class Context(NamedTuple):
    """What an experiment is run with."""

    preset: Preset
    seeds: int = 1  # seeds 0 to seeds-1
    quick: bool = False  # small and short: its numbers mean nothing
    delete_id: int = 0  # isolation: the repeated sequence whose sinks are deleted in samples.txt


class Info(NamedTuple):
    """One line of --list."""

    what: str
    source: str
    minutes: float  # one seed on two cores, not counting models shared with other experiments
    corpus: str | None = None  # where it differs from the preset's


EXPERIMENTS = {
    "headline": Info(
        "what is removed, what stays, what breaks?", "paper, sections 4, 5", 2, "people"
    ),
    "knowledge": Info(
        "recall of facts by the number of documents that state them", "ours", 10, "people"
    ),
    "isolation": Info("six methods on stories: memory, skill, mirage", "paper, sections 4, 5", 1.2),
    "fig2": Info("can a memory be cut out of a finished model?", "paper, section 3", 1),
    "fig3": Info("gradient masking, with and without its neurons", "paper, section 4", 0.1),
    "fig4": Info("sinks over training; forgetting against cost", "paper, section 5", 0.6),
    "fig5": Info("how many sinks are active, model size, wrong IDs", "paper, section 5.3", 2.5),
    "fig6": Info("a second domain, seen only through repeats", "paper, section 5.2", 2, "domains"),
    "fig7": Info("one sequence shown every 40 steps: the saw-tooth", "paper, section 5.4", 0.5),
    "controls": Info("simpler explanations: random, placebo, narrow, dropout", "ours", 0.4),
    "delete": Info("delete one sequence, five, half: what do others lose?", "ours", 0.8),
    "overlap": Info("pool size, active sinks, shared width", "NULLs; ours", 1.1),
    "duplicates": Info("near-duplicates: who assigns IDs, what is then forgotten?", "ours", 0.4),
    "relearn": Info("is what was removed gone, or only hidden?", "NULLs; section 1", 1.5),
    "attacks": Info("rounded weights, and the model from before", "Wu et al.; DurableUn", 0.3),
    "sgtm": Info("sinks beside SGTM, its variants, and filtering", "SGTM, appendix A", 1.5),
    "hash": Info("from IDs to masks: the released hash and ours", "App. I; ours", 1.0),
    "optimizer": Info("momentum and weight decay of inactive sinks", "ours", 0.8),
    "theory": Info("three theorems, simulated", "paper, App. D, F, H", 0.1),
    "text": Info("the methods of `isolation` on real text, by characters", "ours", 7, "pydoc"),
}


def module_of(name: str) -> Any:
    """Return an experiment's module."""
    return importlib.import_module(f"memsinks_np.experiments.{name}")
