"""Learning and forgetting: the loss of one sequence that is shown every 40 steps, at every step."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memsinks_np._internal.tables import table
from memsinks_np._internal.typing import Floats
from memsinks_np.config import require
from memsinks_np.experiments.comparison import SETTINGS
from memsinks_np.experiments.methods import job, label, methods_of, with_settings
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, below, estimate, minus
from memsinks_np.trained import Model

METHODS = ("standard", "paper_sinks", "sinks")
PERIOD = 40  # steps between two showings, as in the paper


@dataclass(frozen=True)
class Forgetting:
    """The loss of the first repeated sequence after every step, by method and seed."""

    period: int
    losses: dict[str, list[list[float]]]

    def rise(self, method: str) -> list[float]:
        """Return how far the loss rises before the next showing, seed by seed."""
        return [mean_rise(losses, self.period) for losses in self.losses[method]]

    def last(self, method: str) -> list[float]:
        """Return the mean loss over the last cycle, seed by seed."""
        return [float(cycles(losses, self.period)[-1].mean()) for losses in self.losses[method]]


def first_sequence(model: Model) -> list[float]:
    """Return the loss of the first repeated sequence after every step, own sinks active."""
    return [loss for row in model.history for loss in row.first_sequence]


def period_of(context: Context) -> int:
    """Return the number of steps between two showings."""
    return 5 if context.quick else PERIOD


def jobs(context: Context) -> Jobs:
    """Train three methods that see the repeated sequences in a fixed order."""
    s, period = context.preset.settings, period_of(context)
    steps, least = s.train.steps, 2 * period
    require(steps >= least, f"--steps {steps} is less than two passes; use {least} or more")
    data = {"n_repeated": period * s.data.n_repeated_per_batch, "shuffled": False}
    preset = with_settings(context.preset, data=data, train={"log_first_sequence": True})
    methods = methods_of(preset)
    return {
        (name, seed): job(preset, methods[name], seed, first_sequence)
        for name in METHODS
        for seed in range(context.seeds)
    }


def result(context: Context, outputs: Outputs) -> Forgetting:
    """Return all losses."""
    losses = {name: [outputs[name, seed] for seed in range(context.seeds)] for name in METHODS}
    return Forgetting(period_of(context), losses)


def cycles(losses: list[float], period: int) -> Floats:
    """Return losses as (cycles, period). Each cycle begins right after a showing."""
    n = len(losses) // period
    return np.array(losses[: n * period]).reshape(n, period)


def mean_rise(losses: list[float], period: int) -> float:
    """Return the rise after the lowest point of a cycle, mean over the second half of training.

    That point is some steps after the showing: Adam's momentum continues to learn it.
    """
    rises = []
    for cycle in cycles(losses, period):
        lowest = cycle[: period // 2].argmin()
        rises.append(cycle[lowest:].max() - cycle[lowest])
    return float(np.mean(rises[len(rises) // 2 :]))


def claims(result: Forgetting) -> list[Claim]:
    """Return what the paper says about learning and forgetting."""
    rise = result.rise("standard")
    return [
        Claim(
            "a sequence is learned when it is shown and forgotten until it is shown again",
            "Fig. 7: teeth of period 40",
            f"standard: the loss rises by {estimate(rise, sign='+')} before the next showing",
            min(rise) > 0.02,
        ),
        *(claim for setting in SETTINGS.items() for claim in claims_of(result, *setting)),
    ]


def claims_of(result: Forgetting, method: str, setting: str) -> list[Claim]:
    """Return the claims about one setting of sinks."""
    rise, standard_rise = (result.rise(m) for m in (method, "standard"))
    last, standard_last = (result.last(m) for m in (method, "standard"))
    return [
        Claim(
            f"sinks forget less between two showings than standard training ({setting})",
            "Fig. 7: lower amplitude",
            f"{estimate(rise, sign='+')} against {estimate(standard_rise, sign='+')}",
            below(minus(rise, standard_rise)),
        ),
        Claim(
            f"with sinks, the loss ends lower than in standard training ({setting})",
            "Fig. 7: 0.04 against 0.10",
            f"{estimate(last)} against {estimate(standard_last)} over the last cycle",
            below(minus(last, standard_last)),
        ),
    ]


def tabulate(result: Forgetting) -> str:
    """Return one row per method: the mean with its 95 % interval, in nats per token."""
    rows = [
        [label(name), estimate(result.rise(name), sign="+"), estimate(result.last(name))]
        for name in result.losses
    ]
    return table(["method", "rise before the next showing", "loss over the last cycle"], rows)


def draw(result: Forgetting, folder: Path) -> list[Path]:
    """Draw the last third of training, of seed 0."""
    period = result.period
    with plots.style():
        fig, ax = plots.subplots(figsize=(8.2, 4.4))
        n = len(result.losses["standard"][0])
        first, ends = n * 2 // 3 // period * period, []
        for method in METHODS:
            losses = result.losses[method][0]
            ax.plot(range(first, n), losses[first:], color=plots.color_of(method), linewidth=1.6)
            ends.append((losses[-1], plots.name(method), method))
        title = "One story, shown every few steps: what stays?"
        plots.frame(ax, title, "its loss, own sinks on (nats per word)", "training step")
        ax.set_ylim(bottom=0)
        ax.set_xticks(range(first, n + 1, period * max(1, (n - first) // period // 6)))
        plots.label_ends(ax, ends)
        return plots.save(fig, folder, "fig7")
