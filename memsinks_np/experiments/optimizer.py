"""Inactive sinks: what momentum and weight decay do to them, and what that costs."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np import optim
from memsinks_np._internal.tables import table
from memsinks_np._internal.typing import Floats, Params
from memsinks_np.config import TrainConfig, require_sinks
from memsinks_np.experiments import comparison
from memsinks_np.experiments.comparison import Result
from memsinks_np.experiments.methods import job, methods_of, with_settings
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.experiments.simulations import anywhere
from memsinks_np.metrics import mean_loss
from memsinks_np.sinks import RowGrad, active, is_sink, own
from memsinks_np.trained import Model

WIDTH, ACTIVE, INACTIVE = 64, 50, 400  # one sink of 64 weights: steps active, then inactive
UNUSED = (0, 100, 300, 1000, 3000, 10_000, 30_000)  # steps of decay at the peak learning rate
LONG = UNUSED.index(3000)  # for the claim
OPTIMIZERS = {"lazy_adamw": "lazy AdamW", "adamw": "AdamW"}
FREQUENCIES = {"often": 1, "rarely": 5}  # times as many repeated sequences: each returns later
STYLES = {"often": "-", "rarely": "--"}


@dataclass(frozen=True)
class Group(Result):
    """Both optimizers on the same data. The "methods" of the comparison are the optimizers."""

    every: float  # steps from one showing of a repeated sequence to the next
    inactive: list[float]  # seed by seed: fraction of the steps in which a sink is inactive
    unused: list[list[float]]  # for each of UNUSED, seed by seed: loss of lazy AdamW, own sinks


@dataclass(frozen=True)
class OptimizerResult:
    """One sink followed step by step, and both optimizers for two frequencies of repetition."""

    traces: dict[str, list[float]]  # distance moved while inactive, in learning rates
    half_life: float  # steps of decay at the peak learning rate that halve a weight
    paper_inactive: float  # probability that the paper's setting leaves a sink inactive in a step
    groups: dict[str, Group]


def jobs(context: Context) -> Jobs:
    """Train the sinks with both optimizers, sequences repeated often or rarely, every seed."""
    data, train = context.preset.settings.data, context.preset.settings.train
    unused = partial(measure, decay=train.lr * train.weight_decay)
    jobs: Jobs = {}
    for name, times in FREQUENCIES.items():
        for optimizer in OPTIMIZERS:
            changes = {"n_repeated": times * data.n_repeated}
            preset = with_settings(context.preset, changes, {"optimizer": optimizer})
            sinks = methods_of(preset)["sinks"]
            for seed in range(context.seeds):
                jobs[name, optimizer, seed] = job(preset, sinks, seed, unused)
    return jobs


def measure(model: Model, decay: float) -> tuple[Any, float, list[float]]:
    """Evaluate a model in a worker; measure inactive sinks, and the loss after long decay."""
    corpus, pool = model.corpus, require_sinks(model.cfg)
    assert corpus
    own_sinks = own(pool, corpus.repeated_ids)
    n_active = [len(np.unique(active(pool, corpus.batch(step).ids))) for step in range(20)]
    losses = [
        mean_loss(shrunk(model.params, decay, steps), model.cfg, corpus.repeated, own_sinks)
        for steps in UNUSED
    ]
    inactive = 1 - float(np.mean(n_active)) / pool.n_sink
    return comparison.measure(model, deletions=False), inactive, losses


def shrunk(params: Params, decay: float, steps: int) -> Params:
    """Return the parameters after AdamW's decay in a number of steps with inactive sinks.

    Each step multiplies their matrices by 1 - lr * weight_decay.
    """
    factor = (1 - decay) ** steps
    return {
        name: factor * w if is_sink(name) and optim.has_weight_decay(w) else w
        for name, w in params.items()
    }


def traces(train: TrainConfig) -> dict[str, list[float]]:
    """Return the trace of one sink under each optimizer."""
    adamw = replace(train, optimizer="adamw")
    kinds = {
        "AdamW": adamw,
        "AdamW, no decay": replace(adamw, weight_decay=0.0),
        "AdamW, no momentum": replace(adamw, betas=(0.0, train.betas[1])),
        "lazy AdamW": replace(train, optimizer="lazy_adamw"),
        "SGD": replace(train, optimizer="sgd"),
    }
    return {name: trace(cfg).tolist() for name, cfg in kinds.items()}


def trace(cfg: TrainConfig, n_active: int = ACTIVE, n_inactive: int = INACTIVE) -> Floats:
    """Return how far a sink's weights move once it is inactive, (n_inactive+1,).

    This is the mean distance in learning rates. Sink 0 is active for `n_active` steps, with
    gradients of one direction plus as much noise; sink 1 is active in all steps.
    """
    gradients = anywhere(1, WIDTH, 0) + anywhere(n_active + n_inactive, WIDTH, 1)
    W_out = np.sqrt(WIDTH) * 0.05 * anywhere(2, WIDTH, 2)
    params = {"h0.sink.b_in": np.zeros(2), "h0.sink.W_out": W_out}
    state = optim.init_state(np, params)
    weights = []
    for step, g in enumerate(gradients):
        rows = np.array([0, 1] if step < n_active else [1])
        grads = {"h0.sink.W_out": RowGrad(rows, np.stack([g] * len(rows)))}
        optim.update(np, params, grads, state, cfg, cfg.lr)
        weights.append(W_out[0].copy())
    moved = np.array(weights[n_active - 1 :]) - weights[n_active - 1]
    distance: Floats = np.abs(moved).mean(axis=1) / cfg.lr
    return distance


def result(context: Context, outputs: Outputs) -> OptimizerResult:
    """Follow one sink, and compare the optimizers."""
    data, train = context.preset.settings.data, context.preset.settings.train
    paper, seeds = require_sinks(methods_of(context.preset)["paper_sinks"]), range(context.seeds)
    groups = {}
    for name, times in FREQUENCIES.items():
        rows = {(o, seed): outputs[name, o, seed] for o in OPTIMIZERS for seed in seeds}
        compared = comparison.compare({key: row[0] for key, row in rows.items()})
        _, inactive, unused = zip(*(rows["lazy_adamw", seed] for seed in seeds), strict=True)
        every = times * data.n_repeated / data.n_repeated_per_batch
        by_steps = [list(losses) for losses in zip(*unused, strict=True)]
        groups[name] = Group(compared.entropy, compared.methods, every, list(inactive), by_steps)
    half_life = float(np.log(0.5) / np.log(1 - train.lr * train.weight_decay))
    return OptimizerResult(traces(train), half_life, (1 - paper.density) ** data.batch_size, groups)


def claims(result: OptimizerResult) -> list[Claim]:
    """Return what moves an inactive sink, then what that does to memories."""
    lazy, sgd = (max(result.traces[name]) for name in ("lazy AdamW", "SGD"))
    moved = result.traces["AdamW, no decay"][-1]
    shielded = "section 5: sinks are shielded while they are off"
    often, rarely = result.groups.values()
    fresh, unused = often.unused[0], often.unused[LONG]

    def both(group: Group, field: str) -> str:
        return " against ".join(group.estimate(o, field) for o in ("adamw", "lazy_adamw"))

    def difference(group: Group, field: str) -> float:
        return group.mean("adamw", field) - group.mean("lazy_adamw", field)

    return [
        Claim(
            "lazy AdamW, and SGD on the active rows, leave an inactive sink exactly as it is",
            shielded,
            f"moved by {lazy} and {sgd} in {INACTIVE} steps",
            lazy == sgd == 0,
        ),
        Claim(
            "ordinary AdamW leaves an inactive sink as it is, too",
            shielded,
            f"momentum moves each weight by another {moved:.1f} learning rates; decay halves it in "
            f"{result.half_life:,.0f} steps at the peak rate",
            moved == 0,
            "a gradient of zero is not an update of zero",
        ),
        Claim(
            "in the paper's setting it hardly matters: few sinks are inactive for a whole batch",
            "ours",
            f"(1 - p)^B = {result.paper_inactive:.0e}; in our sparse pool a sink is inactive in "
            f"{np.mean(often.inactive):.0%} of the steps",
            result.paper_inactive < 0.01,
        ),
        Claim(
            "momentum in inactive sinks disturbs memories",
            "ours, as we expected",
            f"repeated, own sinks: {both(often, 'repeated.own')} if shown every "
            f"{often.every:.0f} steps; {both(rarely, 'repeated.own')} every {rarely.every:.0f}",
            difference(rarely, "repeated.own") > 0,
            "momentum continues in the direction just learned: one activation is worth several "
            "steps",
        ),
        Claim(
            "with either optimizer the memory is in the sinks",
            "ours",
            "sinks removed: " + "; ".join(both(g, "repeated.removed") for g in (often, rarely)),
            max(abs(difference(g, "repeated.removed")) for g in (often, rarely)) < 0.02,
        ),
        Claim(
            "decay erases a memory whose sinks are no longer used",
            "ours",
            f"own sinks: {estimate(fresh)}, after {UNUSED[LONG]:,} inactive steps at the peak rate "
            f"{estimate(unused)}",
            float(np.mean(unused)) > float(np.mean(fresh)) + 0.1,
            "the sinks' effect is large enough to survive so much shrinking",
        ),
    ]


COLUMNS = {"repeated.own": "repeated, own sinks", "repeated.removed": "sinks removed"}


def tabulate(result: OptimizerResult) -> str:
    """Return the traces in learning rates, the methods in nats per token, and the long decay."""
    steps, groups = (1, 10, 50, 100, 400), result.groups.values()
    moved = [[name, *(f"{trace[i]:.2f}" for i in steps)] for name, trace in result.traces.items()]
    methods = [
        [f"every {g.every:.0f} steps, {label}", *(g.estimate(o, field) for field in COLUMNS)]
        for g in groups
        for o, label in OPTIMIZERS.items()
    ]
    unused = [[f"{n:,}", *(estimate(g.unused[i]) for g in groups)] for i, n in enumerate(UNUSED)]
    tables = [
        (["moved (learning rates) after inactive steps", *map(str, steps)], moved),
        (["method", *COLUMNS.values()], methods),
        (["inactive steps with decay", "own sinks, shown often", "rarely"], unused),
    ]
    return "\n\n".join(table(header, rows) for header, rows in tables)


def draw(result: OptimizerResult, folder: Path) -> list[Path]:
    """Draw one inactive sink, two optimizers in training, and a long decay (seed 0)."""
    with plots.style():
        fig, axes = plots.subplots(1, 3, figsize=(16.5, 4.2))
        draw_traces(axes[0], result.traces)
        draw_history(axes[1], result.groups)
        draw_unused(axes[2], result.groups)
        return plots.save(fig, folder, "optimizer")


def draw_traces(ax: Any, traces: dict[str, list[float]]) -> None:
    """Draw how far a sink moves once it is inactive."""
    ylabel, steps = "distance moved (learning rates)", range(INACTIVE + 1)
    plots.frame(ax, "Does an inactive sink move?", ylabel, "steps since it was active")
    lines = [
        (steps, traces["AdamW, no decay"], "its momentum", "adamw", "--"),
        (steps, traces["AdamW, no momentum"], "its decay", "adamw", ":"),
        (steps, traces["AdamW"], "AdamW, both", "adamw", "-"),
        (steps, traces["lazy AdamW"], "lazy AdamW,\nSGD", "lazy_adamw", "-"),
    ]
    plots.labelled_lines(ax, lines)


def draw_history(ax: Any, groups: dict[str, Group]) -> None:
    """Draw how fast both optimizers learn the repeated sequences."""
    title, ylabel = "Which optimizer learns faster?", "repeated, own sinks (nats per token)"
    often, rarely = (group.every for group in groups.values())
    note = f"solid: shown every {often:.0f} steps, dashed: every {rarely:.0f}"
    plots.frame(ax, title, ylabel, f"training step\n({note})")
    for name, group in groups.items():
        lines = [(o, "repeated.own", STYLES[name], label) for o, label in OPTIMIZERS.items()]
        ends = plots.curves(ax, group, lines)
    ax.set_ylim(0, max(1, 1.3 * max(y for y, *_ in ends)))
    plots.label_ends(ax, ends)  # only for the last group: "rarely"


def draw_unused(ax: Any, groups: dict[str, Group]) -> None:
    """Draw the loss after many steps of decay without an update."""
    ylabel, xlabel = "own sinks (nats per token)", "inactive steps with AdamW's decay"
    plots.frame(ax, "How long does an unused memory last?", ylabel, xlabel)
    lines = [
        (UNUSED[1:], [losses[0] for losses in g.unused[1:]], f"shown {name}", "adamw", STYLES[name])
        for name, g in groups.items()
    ]
    ax.set(xscale="log", ylim=(0, 1.05 * max(losses[-1] for _, losses, *_ in lines)))
    plots.labelled_lines(ax, lines)
