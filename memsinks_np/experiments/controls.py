"""Is it the sequence's own sinks, or something simpler?  Every simpler explanation is trained beside it."""

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memsinks_np._internal.tables import spread, table
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context
from memsinks_np.experiments.comparison import compare, mean, values
from memsinks_np.experiments.methods import methods_of, seeded
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate, over_seeds
from memsinks_np.experiments.runner.grid import Job
from memsinks_np.metrics import mean_loss
from memsinks_np.sinks import own, placebo
from memsinks_np.train import Model

METHODS = ("standard", "retrained", "sinks", "random_sinks", "narrow", "dropout")


def selections(job: Job, trained: Model) -> dict[str, float]:
    """In a worker: the loss on repeated sequences with another sequence's sinks, and with those of an unused ID."""
    corpus = load_corpus(job.settings.data)
    cfg = job.settings.model(job.method, len(corpus.vocab))
    tokens, ids = corpus.repeated, corpus.repeated_ids
    loss = partial(mean_loss, trained.params, cfg, tokens)
    return {
        "own": loss(own(cfg.sinks, ids)),
        "shuffled": loss(own(cfg.sinks, np.roll(ids, 1))),
        "placebo": loss(placebo(cfg.sinks, ids)),
    }


def run(plan: Context) -> dict[str, Any]:
    """The controls, and the trained sinks under selections that they were not trained with."""
    methods = methods_of(plan.preset)
    result = compare(plan, {"controls": (plan.preset, {name: methods[name] for name in METHODS})})[
        "controls"
    ]
    jobs = [seeded(plan.preset, methods["sinks"], seed) for seed in range(plan.seeds)]
    return result | {"selections": over_seeds(plan.grid(jobs, selections))}


def rises(
    result: dict[str, Any], method: str, field: str, above: str, over: str = "repeated.removed"
) -> list[float]:
    """One method's number minus another's, seed by seed."""
    return [
        a - b
        for a, b in zip(values(result, method, field), values(result, above, over), strict=True)
    ]


def claims(result: dict[str, Any]) -> list[Claim]:
    chosen = {
        name: [row[name] for row in result["selections"]["seeds"]]
        for name in ("own", "shuffled", "placebo")
    }
    means = {name: sum(of) / len(of) for name, of in chosen.items()}
    gold = mean(result, "retrained", "repeated.removed")
    narrow, dropout = (
        values(result, "narrow", "repeated.own"),
        values(result, "dropout", "repeated.all"),
    )
    return [
        Claim(
            "sinks drawn anew at every occurrence do not isolate",
            "ours",
            f"gap closed {estimate(values(result, 'random_sinks', 'gap_closed'))}, by the sequence's own: "
            f"{estimate(values(result, 'sinks', 'gap_closed'))}",
            mean(result, "random_sinks", "gap_closed") < 0.25 < mean(result, "sinks", "gap_closed"),
        ),
        Claim(
            "the memory is in a sequence's own sinks: with another sequence's it is gone",
            "ours",
            f"own {estimate(chosen['own'])}, another's {estimate(chosen['shuffled'])}, never seen {gold:.3f}",
            means["own"] < 0.1 and means["shuffled"] > gold - 0.1,
        ),
        Claim(
            "and so it is with the sinks of an ID that was never used: it is not the number that are on",
            "ours",
            f"{estimate(chosen['placebo'])}",
            means["placebo"] > gold - 0.1,
        ),
        Claim(
            "a model as narrow as the shared part memorizes: capacity does not explain it",
            "ours",
            f"repeated {estimate(narrow)}; held-out {estimate(values(result, 'narrow', 'heldout_cost'), sign='+')}",
            sum(narrow) / len(narrow) < gold - 0.3,
            "the narrow model has learnt few of the stories by heart in these steps",
        ),
        Claim(
            "ordinary dropout as dense as the sinks (all on, scaled) does not give both halves",
            "ours",
            f"repeated {estimate(dropout)}, new {estimate(values(result, 'dropout', 'heldout.all'))}",
            not (
                sum(dropout) / len(dropout) > gold - 0.05
                and mean(result, "dropout", "heldout.all")
                < mean(result, "standard", "heldout.removed") + 0.05
            ),
        ),
    ]


SHOWN = {  # label -> method, how it is evaluated
    "standard": ("standard", "own"),
    "narrow model": ("narrow", "own"),
    "dropout, all on": ("dropout", "all"),
    "random_sinks, removed": ("random_sinks", "removed"),
    "sinks removed": ("sinks", "removed"),
    "never saw them": ("retrained", "own"),
}


def tabulate(result: dict[str, Any]) -> str:
    rows = []
    for label, (method, how) in SHOWN.items():
        entry = result["methods"][method]
        rows.append(
            [
                label,
                *(
                    spread(entry["mean"][f"{kind}_{how}"], entry["std"][f"{kind}_{how}"])
                    for kind in ("repeated", "heldout")
                ),
            ]
        )
    chosen = result["selections"]
    for name in ("own", "shuffled", "placebo"):
        rows.append(
            [f"memsinks, {name} sinks", spread(chosen["mean"][name], chosen["std"][name]), ""]
        )
    return table(["method, and how it is evaluated", "repeated", "new"], rows)


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    with plt.rc_context(plots.STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(12.5, 4.2), gridspec_kw={"wspace": 0.75})
        bars = [
            (
                label,
                values(result, method, f"repeated_{how}"),
                values(result, method, f"heldout_{how}"),
                plots.COLORS[method],
            )
            for label, (method, how) in SHOWN.items()
        ]
        plots.dots(axes[0], [(label, repeated, color) for label, repeated, _, color in bars])
        plots.dots(axes[0], [(label, new, color) for label, _, new, color in bars], hollow=True)
        axes[0].set(
            title="Repeated (full), new (hollow): who has both?", xlabel="loss (nats per word)"
        )
        own_shuffled = [
            (
                f"{name} sinks",
                [row[name] for row in result["selections"]["seeds"]],
                plots.COLORS["sinks"],
            )
            for name in ("own", "shuffled", "placebo")
        ]
        plots.dots(axes[1], own_shuffled)
        axes[1].set(
            title="memsinks: whose sinks hold it?",
            xlabel="loss on repeated stories (nats per word)",
        )
        for ax in axes:
            ax.set_xlim(left=0)
            if result["floor"]["repeated"] is not None:
                ax.axvline(
                    result["floor"]["repeated"], color="#444444", linestyle=":", linewidth=1.3
                )
                ax.text(
                    result["floor"]["repeated"],
                    -0.45,
                    "entropy floor ",
                    ha="right",
                    va="center",
                    fontsize=10,
                    color="#444444",
                )
        return plots.save(fig, folder, "controls")
