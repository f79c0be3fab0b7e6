"""Do a sequence's own sinks hold its memory, or is there a simpler explanation?"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.tables import spread, table
from memsinks_np.experiments.comparison import Result, compare, compare_jobs
from memsinks_np.experiments.methods import job, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.metrics import mean_loss
from memsinks_np.sinks import own, placebo
from memsinks_np.trained import Model

METHODS = ("standard", "retrained", "sinks", "random_sinks", "narrow", "dropout")


class Selections(NamedTuple):
    """Loss on repeated sequences with other sinks than their own."""

    own: float
    shuffled: float  # those of another sequence
    placebo: float  # those of an unused ID


@dataclass(frozen=True)
class Controls(Result):
    """The comparison, and the sinks under selections that they were not trained with."""

    selections: list[Selections]  # seed by seed

    def losses(self, selection: str) -> list[float]:
        """Return the loss under a selection, seed by seed."""
        return [getattr(row, selection) for row in self.selections]


def select(model: Model) -> Selections:
    """Evaluate a model with sinks under each selection, in a worker."""
    corpus, pool = model.corpus, model.cfg.sinks
    assert corpus
    ids = corpus.repeated_ids
    loss = partial(mean_loss, model.params, model.cfg, corpus.repeated)
    shuffled = own(pool, np.roll(ids, 1))
    return Selections(loss(own(pool, ids)), loss(shuffled), loss(placebo(pool, ids)))


def jobs(context: Context) -> Jobs:
    """Train the controls, and evaluate the sinks under other selections."""
    methods, preset = methods_of(context.preset), context.preset
    jobs = compare_jobs(context, preset, {name: methods[name] for name in METHODS})
    for seed in range(context.seeds):
        jobs["selections", seed] = job(preset, methods["sinks"], seed, select)
    return jobs


def result(context: Context, outputs: Outputs) -> Controls:
    """Compare the methods, and collect the selections."""
    selections = [Selections(*outputs.pop(("selections", seed))) for seed in range(context.seeds)]
    comparison = compare(outputs)
    return Controls(comparison.entropy, comparison.methods, selections)


def claims(result: Controls) -> list[Claim]:
    """Return why simpler explanations fail."""
    own, shuffled, placebo = map(result.losses, Selections._fields)
    here, mean = result.estimate, result.mean
    retrained = mean("retrained", "repeated.removed")
    return [
        Claim(
            "random sinks, drawn anew for each showing, do not isolate",
            "ours",
            f"gap closed {here('random_sinks', 'gap_closed')}, with a sequence's own sinks "
            f"{here('sinks', 'gap_closed')}",
            mean("random_sinks", "gap_closed") < 0.25 < mean("sinks", "gap_closed"),
        ),
        Claim(
            "a sequence's own sinks hold its memory: with another sequence's sinks it is gone",
            "ours",
            f"own {estimate(own)}, another's {estimate(shuffled)}, never seen {retrained:.3f}",
            fmean(own) < 0.1 and fmean(shuffled) > retrained - 0.1,
        ),
        Claim(
            "with the sinks of an unused ID it is gone too: as many active sinks are not enough",
            "ours",
            estimate(placebo),
            fmean(placebo) > retrained - 0.1,
        ),
        Claim(
            "a model as narrow as the shared part memorizes: capacity does not explain it",
            "ours",
            f"repeated {here('narrow', 'repeated.own')}; "
            f"held-out {here('narrow', 'heldout_cost', '+')}",
            mean("narrow", "repeated.own") < retrained - 0.3,
            "the narrow model has memorized few of the stories in these steps",
        ),
        Claim(
            "dropout as dense as the sinks (all on, scaled) does not both forget and learn",
            "ours",
            f"repeated {here('dropout', 'repeated.all')}, new {here('dropout', 'heldout.all')}",
            mean("dropout", "repeated.all") <= retrained - 0.05
            or mean("dropout", "heldout.all") >= mean("standard", "heldout.removed") + 0.05,
        ),
    ]


SHOWN = {  # label -> method, selection of sinks
    "standard": ("standard", "own"),
    "narrow": ("narrow", "own"),
    "dropout, all on": ("dropout", "all"),
    "random sinks, removed": ("random_sinks", "removed"),
    "sinks, removed": ("sinks", "removed"),
    "retrained": ("retrained", "own"),
}


def tabulate(result: Controls) -> str:
    """Return one row per evaluation: mean ± standard deviation, in nats per token."""
    rows = [
        [text, *(result.spread(method, f"{split}.{sinks}") for split in ("repeated", "heldout"))]
        for text, (method, sinks) in SHOWN.items()
    ]
    rows += [[f"sinks, {name}", spread(result.losses(name)), ""] for name in Selections._fields]
    return table(["method, and how it is evaluated", "repeated", "new"], rows)


def draw(result: Controls, folder: Path) -> list[Path]:
    """Draw the methods on repeated and new stories, and the sinks under each selection."""
    entropy, color = result.entropy.repeated, plots.color_of("sinks")
    with plots.style():
        fig, (a, b) = plots.subplots(1, 2, figsize=(12.5, 4.2))
        for split, hollow in (("repeated", False), ("heldout", True)):
            rows: list[Any] = [
                (text, result.values(method, f"{split}.{sinks}"), plots.color_of(method))
                for text, (method, sinks) in SHOWN.items()
            ]
            plots.dots(a, rows, hollow)
        title = "Repeated ●, new ○: which has both?"
        a.set(title=title, xlabel="loss (nats per word)")
        rows = [(f"{name} sinks", result.losses(name), color) for name in Selections._fields]
        plots.dots(b, rows)
        title = "Which sinks hold the memory?"
        b.set(title=title, xlabel="loss on repeated stories (nats per word)")
        for ax in (a, b):
            ax.set_xlim(0, 1.05 * ax.get_xlim()[1])  # room for whole dots
            if entropy is not None:
                ax.axvline(entropy, color="#444444", linestyle=":", linewidth=1.3)
                style = {"ha": "right", "va": "center", "fontsize": 10, "color": "#444444"}
                ax.text(entropy, -0.45, "entropy floor ", **style)
        return plots.save(fig, folder, "controls")
