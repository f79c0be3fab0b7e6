"""Train methods under several seeds, evaluate each, and compare it with its references."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from memsinks_np import metrics
from memsinks_np._internal.tables import spread
from memsinks_np.config import Method
from memsinks_np.experiments.methods import Preset, job
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report.claims import estimate, minus
from memsinks_np.metrics import BySinks, Deletion, HistoryRow
from memsinks_np.trained import Model

MAX_DELETIONS = 100  # sequences; deleting each of more takes too long
SETTINGS = {"paper_sinks": "the paper's setting", "sinks": "ours"}  # of sinks, in claims


class Entropy(NamedTuple):
    """Exact loss of a perfect model on the same samples; None where it is not known."""

    repeated: float | None
    heldout: float | None


@dataclass(frozen=True)
class SeedResult:
    """The numbers of one method under one seed. Comparisons are None without both references."""

    seed: int
    repeated: BySinks
    heldout: BySinks
    extraction: BySinks
    deleted_loss: float | None
    deleted_others_up: float | None
    gap_closed: float | None
    gold_gap_closed: float | None
    heldout_cost: float | None
    compute_penalty: float | None  # of the held-out loss; None without a history
    history: list[HistoryRow]


@dataclass(frozen=True)
class Result:
    """The numbers of all methods. A field is an attribute: "heldout.removed", "gap_closed"."""

    entropy: Entropy
    methods: dict[str, list[SeedResult]]

    def values(self, method: str, field: str) -> list[Any]:
        """Return a method's number, seed by seed."""
        return list(map(attrgetter(field), self.methods[method]))

    def mean(self, method: str, field: str) -> float:
        """Return a method's number, mean over seeds; NaN, which fails every claim, for None."""
        return float(np.asarray(self.values(method, field), float).mean())

    def spread(self, method: str, field: str) -> str:
        """Return "mean ± standard deviation" over seeds, or "-"."""
        return spread(self.values(method, field))

    def estimate(self, method: str, field: str, sign: str = "") -> str:
        """Return the mean with its 95 % interval."""
        return estimate(self.values(method, field), sign=sign)

    def rise(self, method: str, field: str, base: str, base_field: str) -> list[float]:
        """Return a method's number minus that of a base method, seed by seed."""
        return minus(self.values(method, field), self.values(base, base_field))

    def curve(self, method: str, field: str) -> dict[int, list[float]]:
        """Return {step: values over seeds} from the training history."""
        get: Callable[[HistoryRow], Any] = attrgetter(field)
        histories = [r.history for r in self.methods[method]]
        return {rows[0].step: list(map(get, rows)) for rows in zip(*histories, strict=True)}

    def mean_curve(self, method: str, field: str) -> dict[int, float]:
        """Return {step: mean over seeds} from the training history."""
        curve = self.curve(method, field)
        return {step: float(np.mean(values)) for step, values in curve.items()}


def measure(model: Model, deletions: bool) -> tuple[Any, ...]:
    """Evaluate a model in a worker: evaluation, deletion, history, entropy."""
    params, cfg, corpus = model.params, model.cfg, model.corpus
    assert corpus
    few = len(corpus.repeated) <= MAX_DELETIONS
    deletion = metrics.deletion(params, cfg, corpus) if deletions and few else Deletion()
    entropy = Entropy(None, None)
    if corpus.entropy:
        natural = corpus.repeated[: corpus.n_evaluated]
        entropy = Entropy(corpus.entropy(natural), corpus.entropy(corpus.heldout))
    return metrics.evaluate(params, cfg, corpus), deletion, model.history, entropy


def compare_jobs(context: Context, preset: Preset, methods: Mapping[str, Method]) -> Jobs:
    """Return the jobs of a comparison: every method under every seed."""
    return {
        (name, seed): job(preset, m, seed, partial(measure, deletions=m.has_own_sinks))
        for name, m in methods.items()
        for seed in range(context.seeds)
    }


def compare(outputs: Outputs) -> Result:
    """Compare each method with *standard* and *retrained*, where both are among the jobs."""
    evaluations = {key: metrics.to_evaluation(output[0]) for key, output in outputs.items()}
    methods: dict[str, list[SeedResult]] = {}
    entropy = []
    for (name, seed), (_, deletion, history, known) in outputs.items():
        model = evaluations[name, seed]
        standard, retrained = (evaluations.get((r, seed)) for r in ("standard", "retrained"))
        comparison: Any = (None, None, None)
        if standard and retrained:
            comparison = metrics.compare(model, standard, retrained)
        rows, penalty = metrics.to_history(history), None
        if standard and rows:
            baseline = metrics.to_history(outputs["standard", seed][2])
            penalty = metrics.compute_penalty(baseline, model.heldout.removed)
        numbers = (*model, *Deletion(*deletion), *comparison, penalty, rows)
        row = SeedResult(seed, *numbers)
        methods.setdefault(name, []).append(row)
        entropy.append(known)
    known_entropy = None not in entropy[0]
    mean = Entropy(*np.mean(entropy, axis=0).tolist()) if known_entropy else Entropy(None, None)
    return Result(mean, methods)


def history_record(method: str, seed: int, row: HistoryRow) -> dict[str, Any]:
    """Return a row of history.csv."""
    return (
        {"method": method, "seed": seed, "step": row.step, "train": row.train}
        | {f"repeated_{k}": v for k, v in row.repeated._asdict().items() if k != "all"}
        | {f"heldout_{k}": v for k, v in row.heldout._asdict().items() if k != "all"}
    )


def group_jobs(context: Context, groups: Mapping[Any, tuple[Preset, Mapping[str, Method]]]) -> Jobs:
    """Return the jobs of several comparisons, each a preset and its methods."""
    return {
        (group, key): job
        for group, (preset, methods) in groups.items()
        for key, job in compare_jobs(context, preset, methods).items()
    }


def compare_groups(outputs: Outputs) -> dict[Any, Result]:
    """Compare within each group of `group_jobs`. Histories are left out."""
    groups: dict[Any, Outputs] = {}
    for (group, key), (*row, _, entropy) in outputs.items():
        groups.setdefault(group, {})[key] = (*row, [], entropy)
    return {group: compare(group_outputs) for group, group_outputs in groups.items()}
