"""Learning and forgetting: the loss of one sequence that is shown every 40 steps, noted after every step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np import plots
from memsinks_np.arms import rivals, seeded
from memsinks_np.config import require
from memsinks_np.experiments import Plan
from memsinks_np.grid import Job
from memsinks_np.report import Claim, estimate, table
from memsinks_np.train import Trained

ARMS = ("standard", "memsinks_paper", "memsinks")
PERIOD = 40  # steps between two occurrences, as in the paper


def watched(job: Job, trained: Trained) -> list[float]:
    """In a worker: the loss of the first repeated sequence after every step, its own sinks on."""
    return [loss for row in trained.history[1:] for loss in row["watched"]]


def run(plan: Plan) -> dict[str, Any]:
    """Three arms, every repeated sequence in the same place of every pass, a pass of PERIOD steps."""
    s = plan.preset.settings
    period = 5 if plan.quick else PERIOD
    require(s.train.steps >= 2 * period, f"--steps {s.train.steps} is less than two passes; use {2 * period} or more")
    data = replace(s.data, n_repeated=period * s.data.n_in_batch, shuffled=False)
    preset = plan.preset._replace(settings=replace(s, data=data, train=replace(s.train, watch=True)))
    arms = rivals(preset)
    jobs = [seeded(preset, arms[name], seed) for name in ARMS for seed in range(plan.seeds)]
    losses = plan.grid(jobs, watched)
    return {
        "period": period,
        "losses": {name: losses[i * plan.seeds : (i + 1) * plan.seeds] for i, name in enumerate(ARMS)},
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
    rises = [cycle[cycle[: period // 2].argmin() :].max() - cycle[: period // 2].min() for cycle in cycles]
    return float(np.mean(rises[len(rises) // 2 :]))


def claims(result: dict[str, Any]) -> list[Claim]:
    period = result["period"]
    rise = {arm: [forgotten(of, period) for of in seeds] for arm, seeds in result["losses"].items()}
    last = {arm: [float(teeth(of, period)[-1].mean()) for of in seeds] for arm, seeds in result["losses"].items()}
    return [
        Claim(
            "a sequence is learnt when it is shown and forgotten until it is shown again",
            "Fig. 7: teeth of period 40",
            f"standard: the loss rises by {estimate(rise['standard'], sign='+')} before the next occurrence",
            min(rise["standard"]) > 0.02,
        ),
        *(
            claim
            for arm, who in (("memsinks_paper", "the paper's setting"), ("memsinks", "ours"))
            for claim in (
                Claim(
                    f"with sinks ({who}) it forgets less between two occurrences",
                    "Fig. 7: lower amplitude",
                    f"{estimate(rise[arm], sign='+')} against {estimate(rise['standard'], sign='+')}",
                    sum(rise[arm]) < sum(rise["standard"]),
                ),
                Claim(
                    f"and its loss ends lower ({who})",
                    "Fig. 7: 0.04 against 0.10",
                    f"{estimate(last[arm])} against {estimate(last['standard'])} over the last cycle",
                    sum(last[arm]) < sum(last["standard"]),
                ),
            )
        ),
    ]


def tabulate(result: dict[str, Any]) -> str:
    period = result["period"]
    rows = [
        [
            arm.replace("_", " "),
            estimate([forgotten(of, period) for of in seeds], sign="+"),
            estimate([float(teeth(of, period)[-1].mean()) for of in seeds]),
        ]
        for arm, seeds in result["losses"].items()
    ]
    return table(["arm", "rise before the next occurrence", "loss over the last cycle"], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    period = result["period"]
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(8.2, 4.4))
        first, ends = 0, []
        for arm, label in (
            ("standard", "standard"),
            ("memsinks_paper", "paper's sinks on"),
            ("memsinks", "own sinks on"),
        ):
            losses = result["losses"][arm][0]
            first = len(losses) * 2 // 3 // period * period
            ax.plot(range(first, len(losses)), losses[first:], color=plots.COLORS[arm], linewidth=1.6)
            ends.append((losses[-1], label, arm))
        plots.frame(
            ax, "One story, shown every few steps: what stays?", "its loss (nats per word), seed 0", "training step"
        )
        ax.set_ylim(bottom=0)
        ax.set_xticks(range(first, len(losses) + 1, period * max(1, (len(losses) - first) // period // 6)))
        plots.label_ends(ax, ends)
        return plots.save(fig, folder, "fig7")
