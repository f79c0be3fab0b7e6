"""Learning and forgetting: the loss of one sequence that is shown every 40 steps, noted after every step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.tables import table
from memsinks_np.config import require
from memsinks_np.experiments import Context
from memsinks_np.experiments.methods import methods_of, seeded
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.train import Model

METHODS = ("standard", "paper_sinks", "sinks")
PERIOD = 40  # steps between two occurrences, as in the paper


def watched(job: Job, trained: Model) -> list[float]:
    """In a worker: the loss of the first repeated sequence after every step, its own sinks on."""
    return [loss for row in trained.history[1:] for loss in row["watched"]]


def run(plan: Context) -> dict[str, Any]:
    """Three methods, every repeated sequence in the same place of every pass, a pass of PERIOD steps."""
    s = plan.preset.settings
    period = 5 if plan.quick else PERIOD
    require(
        s.train.steps >= 2 * period,
        f"--steps {s.train.steps} is less than two passes; use {2 * period} or more",
    )
    data = replace(s.data, n_repeated=period * s.data.n_repeated_per_batch, shuffled=False)
    preset = plan.preset._replace(
        settings=replace(s, data=data, train=replace(s.train, log_first_sequence=True))
    )
    methods = methods_of(preset)
    jobs = [seeded(preset, methods[name], seed) for name in METHODS for seed in range(plan.seeds)]
    losses = plan.grid(jobs, watched)
    return {
        "period": period,
        "losses": {
            name: losses[i * plan.seeds : (i + 1) * plan.seeds] for i, name in enumerate(METHODS)
        },
    }


def teeth(losses: list[float], period: int) -> np.ndarray:
    """(cycles, period) losses; each cycle begins right after the sequence was shown."""
    whole = len(losses) // period * period
    return np.array(losses[:whole]).reshape(-1, period)


def forgotten(losses: list[float], period: int) -> float:
    """How far the loss rises again after its lowest point in a cycle, mean over the second half of training.

    That point lies some steps after the occurrence: Adam's momentum goes on learning it for a while.
    """
    cycles = teeth(losses, period)
    rises = [
        cycle[cycle[: period // 2].argmin() :].max() - cycle[: period // 2].min()
        for cycle in cycles
    ]
    return float(np.mean(rises[len(rises) // 2 :]))


def claims(result: dict[str, Any]) -> list[Claim]:
    period = result["period"]
    rise = {
        method: [forgotten(of, period) for of in seeds]
        for method, seeds in result["losses"].items()
    }
    last = {
        method: [float(teeth(of, period)[-1].mean()) for of in seeds]
        for method, seeds in result["losses"].items()
    }
    return [
        Claim(
            "a sequence is learnt when it is shown and forgotten until it is shown again",
            "Fig. 7: teeth of period 40",
            f"standard: the loss rises by {estimate(rise['standard'], sign='+')} before the next occurrence",
            min(rise["standard"]) > 0.02,
        ),
        *(
            claim
            for method, who in (("paper_sinks", "the paper's setting"), ("sinks", "ours"))
            for claim in (
                Claim(
                    f"with sinks ({who}) it forgets less between two occurrences",
                    "Fig. 7: lower amplitude",
                    f"{estimate(rise[method], sign='+')} against {estimate(rise['standard'], sign='+')}",
                    sum(rise[method]) < sum(rise["standard"]),
                ),
                Claim(
                    f"and its loss ends lower ({who})",
                    "Fig. 7: 0.04 against 0.10",
                    f"{estimate(last[method])} against {estimate(last['standard'])} over the last cycle",
                    sum(last[method]) < sum(last["standard"]),
                ),
            )
        ),
    ]


def tabulate(result: dict[str, Any]) -> str:
    period = result["period"]
    rows = [
        [
            method.replace("_", " "),
            estimate([forgotten(of, period) for of in seeds], sign="+"),
            estimate([float(teeth(of, period)[-1].mean()) for of in seeds]),
        ]
        for method, seeds in result["losses"].items()
    ]
    return table(["method", "rise before the next occurrence", "loss over the last cycle"], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    period = result["period"]
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(8.2, 4.4))
        first, ends = 0, []
        for method, label in (
            ("standard", "standard"),
            ("paper_sinks", "paper's sinks on"),
            ("sinks", "own sinks on"),
        ):
            losses = result["losses"][method][0]
            first = len(losses) * 2 // 3 // period * period
            ax.plot(
                range(first, len(losses)), losses[first:], color=plots.COLORS[method], linewidth=1.6
            )
            ends.append((losses[-1], label, method))
        plots.frame(
            ax,
            "One story, shown every few steps: what stays?",
            "its loss (nats per word), seed 0",
            "training step",
        )
        ax.set_ylim(bottom=0)
        ax.set_xticks(
            range(first, len(losses) + 1, period * max(1, (len(losses) - first) // period // 6))
        )
        plots.label_ends(ax, ends)
        return plots.save(fig, folder, "fig7")
