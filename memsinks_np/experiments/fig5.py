"""How robust are sinks to the number of active sinks, the model's size, and wrong IDs?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np._internal.tables import table
from memsinks_np.config import Method, require, require_sinks
from memsinks_np.experiments.comparison import SETTINGS, Result, compare_groups, group_jobs
from memsinks_np.experiments.methods import label, methods_of, with_settings
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim

PROBABILITIES = (0.1, 0.3, 0.5, 0.7)  # p of the paper's pool
N_ACTIVE = (8, 32, 128, 512)  # A of 2,048 sinks in ours
WIDTHS = (32, 64, 96)  # d_model
NOISE = (0.0, 0.01, 0.05, 0.1, 0.5)  # id_noise
SINKS = ("sinks", "paper_sinks")
REFERENCES = ("standard", "retrained")
# isolation is robust above this fraction of the retrained model's loss: in the paper's figure it
# is at least 0.62, but 0.42 at p=0.7
ROBUST = 0.6


@dataclass(frozen=True)
class Robustness:
    """One comparison for each value of each setting; its histories are left out."""

    n_sink: int
    references: Result
    p: dict[float, Result]
    n_active: dict[int, Result]
    d_model: dict[int, Result]
    id_noise: dict[float, Result]


def jobs(context: Context) -> Jobs:
    """Train the paper's setting and ours; one setting differs at a time."""
    preset, methods = context.preset, methods_of(context.preset)

    def with_sinks(name: str, **changes: Any) -> dict[str, Method]:
        method = methods[name]
        return {name: replace(method, sinks=replace(require_sinks(method), **changes))}

    n_sink, fewest = preset.sinks.n_sink, min(N_ACTIVE)
    n_active = [n for n in N_ACTIVE if n_sink % n == 0 and n <= n_sink]
    require(bool(n_active), f"--n-sink {n_sink} is not a multiple of {fewest}; try 64")
    references = {name: methods[name] for name in REFERENCES}
    sinks = {name: methods[name] for name in SINKS}
    groups: dict[Any, Any] = {("references", 0): (preset, references)}
    groups |= {("p", p): (preset, with_sinks("paper_sinks", p=p)) for p in PROBABILITIES}
    groups |= {("n_active", n): (preset, with_sinks("sinks", n_active=n)) for n in n_active}
    for C in WIDTHS:
        groups["d_model", C] = (with_settings(preset, d_model=C), references | sinks)
    for d in NOISE:
        groups["id_noise", d] = (with_settings(preset, data={"id_noise": d}), sinks)
    return group_jobs(context, groups)


def result(context: Context, outputs: Outputs) -> Robustness:
    """Compare the methods at each value of each setting."""
    results: dict[str, dict[Any, Result]] = {}
    for (setting, value), comparison in compare_groups(outputs).items():
        results.setdefault(setting, {})[value] = comparison
    (references,) = results.pop("references").values()
    return Robustness(context.preset.sinks.n_sink, references, **results)


def means(results: Mapping[Any, Result], method: str) -> dict[float, float]:
    """Return a method's loss on repeated sequences without sinks, for each value of a setting."""
    return {value: r.mean(method, "repeated.removed") for value, r in results.items()}


def show(losses: Mapping[float, float]) -> str:
    """Return "value: loss" for each value of a setting."""
    return ", ".join(f"{value:g}: {loss:.2f}" for value, loss in losses.items())


def estimates(results: Mapping[int, Result], method: str, field: str, sign: str = "") -> str:
    """Return a method's number at each width of the model."""
    return ", ".join(f"C={C}: {r.estimate(method, field, sign)}" for C, r in results.items())


def claims(result: Robustness) -> list[Claim]:
    """Return what the paper says about robustness, of its setting and of ours."""
    retrained = result.references.mean("retrained", "repeated.removed")
    p, (ours, paper) = means(result.p, "paper_sinks"), (means(result.id_noise, m) for m in SINKS)
    few = [d for d in NOISE if d <= 0.1]
    sizes = result.d_model.values()
    closed = np.array([r.values("sinks", "gold_gap_closed") for r in sizes], float)
    cost = {
        method: [r.mean(method, "heldout_cost") for r in result.d_model.values()]
        for method in SETTINGS
    }
    return [
        Claim(
            "isolation is robust to the fraction of active sinks, and breaks when most are active",
            "Fig. 5a: p=0.1: 1.85, 0.3: 1.97, 0.5: 1.93, 0.7: 1.24",
            f"repeated, sinks removed, for p {show(p)} (retrained: {retrained:.2f})",
            min(p[0.1], p[0.3], p[0.5]) > ROBUST * retrained > p[0.7],
            "the loss falls steadily with p: a toy has few neurons, so the shared ones see less "
            "interference",
        ),
        Claim(
            "sinks isolate at every model size",
            "Fig. 5b: forgetting 1.49 to 1.95",
            f"gold-gap closed {estimates(result.d_model, 'sinks', 'gold_gap_closed')}",
            bool(closed.min() > 0.8),
        ),
        *(
            Claim(
                f"removing the sinks costs smaller models more ({setting})",
                "Fig. 5b: 0.057 for 32M, -0.010 for 344M",
                f"held-out {estimates(result.d_model, method, 'heldout_cost', '+')}",
                cost[method][0] > max(0, cost[method][-1]),
                "on new text, repeats cost standard training more than removal costs, so no model "
                "loses",
            )
            for method, setting in SETTINGS.items()
        ),
        Claim(
            "up to 10 % of wrong IDs do little harm",
            "Fig. 5c: 1.84, 1.87, 1.78",
            f"the paper's setting {show({d: paper[d] for d in few})}; "
            f"ours {show({d: ours[d] for d in few})}",
            all(losses[0.1] > losses[0.0] - 0.1 for losses in (ours, paper)),
            "what is learned under a wrong ID goes to sinks that other sequences use, and to the "
            "shared neurons",
        ),
        Claim(
            "isolation breaks when half of the IDs are wrong",
            "Fig. 5c: 0.73",
            f"the paper's setting {paper[0.5]:.2f}; ours {ours[0.5]:.2f}",
            all(losses[0.5] < losses[0.0] - 0.2 for losses in (ours, paper)),
        ),
    ]


COLUMNS = {
    "repeated.own": "repeated, own sinks",
    "repeated.removed": "sinks removed",
    "heldout.removed": "new, removed",
}


def tabulate(result: Robustness) -> str:
    """Return one row per setting and method: mean ± standard deviation, in nats per token."""
    results = {"reference": result.references}
    results |= {f"p={p:g}": r for p, r in result.p.items()}
    results |= {f"A={A}": r for A, r in result.n_active.items()}
    results |= {f"C={C}": r for C, r in result.d_model.items()}
    results |= {f"d={d:g}": r for d, r in result.id_noise.items()}
    rows = [
        [f"{name}: {label(method)}", *(r.spread(method, c) for c in COLUMNS)]
        for name, r in results.items()
        for method in r.methods
    ]
    return table(["setting: method", *COLUMNS.values()], rows)


def draw(result: Robustness, folder: Path) -> list[Path]:
    """Draw one panel per setting."""
    fractions = {n / result.n_sink: r for n, r in result.n_active.items()}
    noise, repeated = result.id_noise, result.references.entropy.repeated
    with plots.style():
        fig, (a, b, c) = plots.subplots(1, 3, figsize=(14.5, 4.2))
        ends = lines(a, {"paper_sinks": result.p, "sinks": fractions}, "repeated.removed")
        ylabel = "repeated, sinks removed\n(nats per word)"
        plots.frame(a, "How many active sinks?", ylabel, "active fraction of the pool")
        a.set_xscale("log")
        plots.entropy_and_ends(a, repeated, ends)
        ends = lines(b, dict.fromkeys((*REFERENCES, *SINKS), result.d_model), "heldout.removed")
        new = "new stories, sinks removed\n(nats per word)"
        plots.frame(b, "How large a model?", new, "model width C")
        plots.label_ends(b, ends)
        ends = lines(c, dict.fromkeys(SINKS, noise), "repeated.removed")
        plots.frame(c, "How many wrong IDs?", ylabel, "fraction of wrong IDs")
        plots.entropy_and_ends(c, repeated, ends)
        return plots.save(fig, folder, "fig5")


def lines(
    ax: Any, results: Mapping[str, Mapping[Any, Result]], field: str
) -> list[tuple[float, str, str]]:
    """Draw each method's number against a setting; return the ends of the lines."""
    ends = []
    for method, by_value in results.items():
        seeds = [r.values(method, field) for r in by_value.values()]
        y = plots.band(ax, list(by_value), seeds, plots.color_of(method))
        ends.append((y, plots.name(method), method))
    return ends
