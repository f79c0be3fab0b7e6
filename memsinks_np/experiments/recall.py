"""Recall of facts by the number k of documents that state them, for methods under several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np import metrics
from memsinks_np._internal.ids import Purpose, integers, uniform
from memsinks_np.config import Method, require
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments.methods import Preset, job
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report.claims import estimate, minus
from memsinks_np.metrics import HistoryRow, predict
from memsinks_np.sinks import own
from memsinks_np.trained import Model

KS = (*GROUPS, 0)  # 0: common facts, stated in once-seen documents
MANY = (16, 32, 64)
CHANCE = 1 / 24
N_BOOTSTRAP = 1000


class Measured(NamedTuple):
    """The numbers of one model, as JSON."""

    removed: list[list[float]]  # by k in KS, fact by fact: recall in new documents, sinks removed
    own: list[float]  # by k in GROUPS: recall in the documents themselves, own sinks on
    loss: list[float]  # by k in KS: of new documents, sinks removed, nats per word
    history: list[HistoryRow]


def measure(model: Model) -> Measured:
    """Measure recall in a worker."""
    params, cfg, corpus = model.params, model.cfg, model.corpus
    assert corpus
    assert corpus.facts
    facts = corpus.facts
    selection = own(cfg.sinks, corpus.repeated_ids)
    _, likeliest = predict(params, cfg, corpus.repeated, selection)
    right = metrics.values_right(corpus.repeated, likeliest)
    group = facts.world.group[facts.repeated[:, 0]]
    loss = [metrics.mean_loss(params, cfg, facts.documents(k), None) for k in KS]
    return Measured(
        [metrics.recall(params, cfg, facts, k).tolist() for k in KS],
        [float(right[group == k].mean()) for k in GROUPS],
        loss,
        model.history,
    )


@dataclass(frozen=True)
class RecallResult:
    """The numbers of all methods, seed by seed."""

    methods: dict[str, list[Measured]]

    def facts(self, method: str, k: int) -> NDArray[np.float64]:
        """Return the recall of each fact of a group, sinks removed: (seeds, facts)."""
        return np.array([m.removed[KS.index(k)] for m in self.methods[method]])

    def recall(self, method: str, *ks: int) -> list[float]:
        """Return recall in new documents, sinks removed, mean over some k; by seed."""
        means: list[float] = np.mean(
            [self.facts(method, k).mean(axis=1) for k in ks], axis=0
        ).tolist()
        return means

    def own(self, method: str, *ks: int) -> list[float]:
        """Return recall in the documents themselves, own sinks on, mean over some k; by seed."""
        at = [GROUPS.index(k) for k in ks]
        return [float(np.mean([m.own[i] for i in at])) for m in self.methods[method]]

    def loss(self, method: str, *ks: int) -> list[float]:
        """Return the loss of new documents, sinks removed, mean over some k; by seed."""
        at = [KS.index(k) for k in ks]
        return [float(np.mean([m.loss[i] for i in at])) for m in self.methods[method]]

    def history(self, method: str, field: str) -> dict[int, list[Any]]:
        """Return {step: a number of each seed} over training; a field such as "heldout.own"."""
        get: Callable[[HistoryRow], Any] = attrgetter(field)
        histories = [m.history for m in self.methods[method]]
        return {rows[0].step: list(map(get, rows)) for rows in zip(*histories, strict=True)}

    def recall_history(self, method: str, k: int) -> dict[int, list[float]]:
        """Return {step: recall of each seed} over training, sinks removed."""
        i = GROUPS.index(k)
        return {
            step: [row[i] for row in rows] for step, rows in self.history(method, "recall").items()
        }

    def benefit_kept(self, method: str, *ks: int) -> list[float | None]:
        """Return how much of what repetition teaches about new documents a method keeps, by seed.

        (retrained - method) / (retrained - standard), in losses (paper, Figs. 4a and 6).
        """
        each = [self.loss(name, *ks) for name in ("retrained", method, "standard")]
        return [metrics.ratio(r - m, r - s) for r, m, s in zip(*each, strict=True)]

    def compute_penalty(self, method: str) -> list[float]:
        """Return the compute penalty on held-out documents against *standard*, by seed."""
        pairs = zip(self.methods["standard"], self.methods[method], strict=True)
        return [
            metrics.compute_penalty(standard.history, model.history[-1].heldout.removed)
            for standard, model in pairs
        ]

    def rise(self, method: str, base: str, *ks: int) -> list[float]:
        """Return a method's recall minus that of a base method, by seed."""
        return minus(self.recall(method, *ks), self.recall(base, *ks))


def recall_jobs(context: Context, preset: Preset, methods: Mapping[str, Method]) -> Jobs:
    """Return the jobs: every method under every seed. Raises ConfigError for another corpus."""
    corpus = preset.settings.data.corpus
    require(corpus == "people", f"--corpus {corpus} has no facts to recall; leave --corpus out")
    return {
        (name, seed): job(preset, method, seed, measure)
        for name, method in methods.items()
        for seed in range(context.seeds)
    }


def collect(outputs: Outputs) -> dict[str, list[Measured]]:
    """Return the measured numbers by method."""
    methods: dict[str, list[Measured]] = {}
    for (name, _), (removed, own_sinks, loss, history) in outputs.items():
        row = Measured(removed, own_sinks, loss, metrics.to_history(history))
        methods.setdefault(name, []).append(row)
    return methods


def mean(values: Sequence[float | None]) -> float:
    """Return the mean over seeds; NaN if one of the numbers does not exist."""
    return float(np.asarray(values, float).mean())


def estimates(values: Sequence[float | None], sign: str = "") -> str:
    """Return a mean and its interval with two digits."""
    return estimate(values, 2, sign)


CAPS = {1: "deduplicated", 2: "capped_2", 4: "capped_4", 8: "capped_8"}


class Showings(NamedTuple):
    """An effective number of showings with its 95 % interval; 0 is below 1, infinity above 8."""

    n: float
    low: float
    high: float

    def __str__(self) -> str:
        n, low, high = ("< 1" if x < 1 else "> 8" if x > 8 else f"{x:.1f}" for x in self)
        return f"{n} [{low}, {high}]"


def effective_showings(result: RecallResult, method: str) -> Showings:
    """Return how often a model was shown each document that knows as much as this one.

    That is where the recall of facts of one document, sinks removed, meets the curve of capped
    training, on a logarithmic scale. The interval is from a bootstrap over facts and seeds.
    """
    capped = np.array([result.facts(name, 1) for name in CAPS.values()])  # (4,seeds,facts)
    model = result.facts(method, 1)
    S, F = model.shape
    draw = integers(N_BOOTSTRAP)[:, None, None]
    seeds = (uniform(Purpose.BOOTSTRAP, draw, integers(S)[:, None]) * S).astype(np.int64)
    each = uniform(Purpose.BOOTSTRAP, draw, integers(S)[:, None], integers(F))
    facts = (each * F).astype(np.int64)  # (draws,seeds,facts)
    curves, recalls = (
        capped[:, seeds, facts].mean(axis=(2, 3)),
        model[seeds, facts].mean(axis=(1, 2)),
    )
    draws = [on_curve(curve, float(r)) for curve, r in zip(curves.T, recalls, strict=True)]
    n = on_curve(capped.mean(axis=(1, 2)), float(model.mean()))
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest").tolist()
    return Showings(n, low, high)


def on_curve(curve: NDArray[np.float64], recall: float) -> float:
    """Return the number of showings at which a rising curve of capped training has this recall."""
    rising = np.maximum.accumulate(curve)
    if not rising[0] <= recall <= rising[-1]:
        return 0.0 if recall < rising[0] else float("inf")
    return float(2 ** np.interp(recall, rising, np.log2(list(CAPS))))


def gain_over_capping(result: RecallResult, method: str) -> list[float]:
    """Return recall at k=4 minus that of capped training at the same recall at k=1, by seed.

    The curve of capped training goes from never shown (retrained) over 1, 2, 4, 8 showings to all
    (standard), by linear interpolation.
    """
    names = ["retrained", *CAPS.values(), "standard"]
    ones, fours = (np.array([result.recall(name, k) for name in names]) for k in (1, 4))
    gains = []
    for seed, (one, four) in enumerate(
        zip(result.recall(method, 1), result.recall(method, 4), strict=True)
    ):
        curve = np.maximum.accumulate(ones[:, seed])
        gains.append(float(four - np.interp(one, curve, fours[:, seed])))
    return gains
