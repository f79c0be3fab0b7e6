"""Is what was removed gone or only hidden? Every removal under the relearning attack, and its cost.

Removals: sinks pruned; neurons cut out of the standard model; gradient ascent and NPO applied to
it. Every update is shown under its two best settings: the one with the best utility and the one
that is hardest to relearn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.tables import number, spread, table
from memsinks_np.baselines import relearning
from memsinks_np.baselines.localize import ablate_until_forgotten
from memsinks_np.baselines.relearning import Attack, Trajectory, evaluate_attack, to_attack
from memsinks_np.baselines.unlearn import Unlearning, UnlearningStep, unlearn
from memsinks_np.experiments import methods
from memsinks_np.experiments.methods import job, methods_of
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate
from memsinks_np.metrics import Evaluation, compare, mean_loss
from memsinks_np.sinks import own
from memsinks_np.trained import Model, prune

TRAINED = ("standard", "retrained", "sinks", "paper_sinks")
CUT = "integrated_gradients"
UPDATES = {
    "gradient_ascent": [
        Unlearning(retain=1, lr=1e-3),
        Unlearning(retain=5, lr=3e-4),
        Unlearning(retain=5, lr=1e-3),
        Unlearning(retain=5, lr=3e-3),
        Unlearning(retain=10, lr=3e-3),
    ],
    "npo": [
        Unlearning(beta=0.1, retain=1, lr=3e-4),
        Unlearning(beta=0.1, retain=1, lr=1e-3),
        Unlearning(beta=0.1, retain=2, lr=1e-3),
        Unlearning(beta=0.1, retain=1, lr=3e-3),
        Unlearning(beta=0.1, retain=2, lr=3e-3),
    ],
}
STEPS = 200  # of the attack
MAX_COST = 0.05  # nats per token: what unlearning may cost on held-out sequences


class Measured(NamedTuple):
    """What a worker measures of one removal."""

    attack: Attack
    loss_with_sinks: float | None = None  # for an attacker with the sinks' arrays
    unlearning: Sequence[UnlearningStep] = ()


class Removal(NamedTuple):
    """One removal under one seed. Losses are in nats per token, on sequences without sinks."""

    update: Unlearning | None
    repeated: float
    heldout: float
    gold_gap_closed: float | None
    heldout_cost: float
    steps: int  # to relearn the shown half
    steps_new: int  # to learn new sequences
    savings: float  # 1 - steps / steps_new (Ebbinghaus)
    recovered: float | None  # of the other half; None for *standard*: nothing was removed
    loss_with_sinks: float | None
    attack: Trajectory
    unlearning: Sequence[UnlearningStep]


@dataclass(frozen=True)
class Relearn:
    """Every removal, seed by seed."""

    corpus: str
    removals: dict[str, list[Removal]]  # updates under the setting with the best utility
    hardest: dict[str, list[Removal]]  # updates under the setting that is hardest to relearn
    tried: dict[str, list[Removal]]  # every setting of every update, seed 0


def attack_pruned(model: Model, lr: float, steps: int) -> Measured:
    """Remove the sinks, if there are any, and attack."""
    corpus, pruned = model.corpus, prune(model)
    assert corpus
    with_sinks = None
    if model.cfg.sinks:
        n = corpus.n_evaluated
        selection = own(model.cfg.sinks, corpus.repeated_ids[:n])
        with_sinks = mean_loss(model.params, model.cfg, corpus.repeated[:n], selection)
    return Measured(evaluate_attack(pruned.params, pruned.cfg, corpus, lr, steps), with_sinks)


def attack_cut(model: Model, lr: float, steps: int) -> Measured:
    """Cut out neurons until the repeated sequences are forgotten, and attack."""
    assert model.corpus
    params = ablate_until_forgotten(model.params, model.cfg, model.corpus)
    return Measured(evaluate_attack(params, model.cfg, model.corpus, lr, steps))


def attack_updated(model: Model, lr: float, steps: int, update: Unlearning) -> Measured:
    """Unlearn by an update, and attack."""
    assert model.corpus
    params, trajectory = unlearn(model.params, model.cfg, model.corpus, update)
    attack = evaluate_attack(params, model.cfg, model.corpus, lr, steps)
    return Measured(attack, unlearning=trajectory)


def updates(context: Context) -> dict[str, list[Unlearning]]:
    """Return the settings of every update that are tried."""
    return {name: all_[1:2] for name, all_ in UPDATES.items()} if context.quick else UPDATES


def jobs(context: Context) -> Jobs:
    """Attack every removal under every seed; an update has one job for each setting."""
    preset, trained = context.preset, methods_of(context.preset)
    attack: dict[str, Any] = {
        "lr": preset.settings.train.lr / 10,
        "steps": 4 if context.quick else STEPS,
    }
    measures: dict[tuple[str, int], tuple[str, Any]] = {
        (name, 0): (name, partial(attack_pruned, **attack)) for name in TRAINED
    }
    measures[CUT, 0] = ("standard", partial(attack_cut, **attack))
    for name, settings in updates(context).items():
        for i, update in enumerate(settings):
            measures[name, i] = ("standard", partial(attack_updated, update=update, **attack))
    return {
        (name, i, seed): job(preset, trained[method], seed, measure)
        for (name, i), (method, measure) in measures.items()
        for seed in range(context.seeds)
    }


def result(context: Context, outputs: Outputs) -> Relearn:
    """Compare every removal with *standard* and *retrained*, and choose the updates' settings."""
    result = Relearn(context.preset.settings.data.corpus, {}, {}, {})
    for seed in range(context.seeds):
        measured = {key[:2]: to_measured(row) for key, row in outputs.items() if key[2] == seed}
        standard, retrained = (measured[name, 0].attack.evaluation for name in TRAINED[:2])
        removal = partial(compare_removal, standard=standard, retrained=retrained)
        for name in (*TRAINED, CUT):
            result.removals.setdefault(name, []).append(removal(None, measured[name, 0]))
        for name, settings in updates(context).items():
            each = [removal(update, measured[name, i]) for i, update in enumerate(settings)]
            result.removals.setdefault(name, []).append(best_utility(each))
            result.hardest.setdefault(name, []).append(hardest_to_relearn(each))
            result.tried.setdefault(name, each)
    return result


def to_measured(row: list[Any]) -> Measured:
    """Return what a worker measured, from JSON."""
    attack, loss, steps = row
    return Measured(to_attack(attack), loss, [UnlearningStep(*step) for step in steps])


def compare_removal(
    update: Unlearning | None, measured: Measured, standard: Evaluation, retrained: Evaluation
) -> Removal:
    """Return what a removal costs, and how much of the memory the attack brings back."""
    (evaluation, old, new), loss_with_sinks, unlearning = measured
    _, gold_gap_closed, heldout_cost = compare(evaluation, standard, retrained)
    level = standard.repeated.removed
    steps, steps_new = (relearning.steps_to_relearn(t, level) for t in (old, new))
    return Removal(
        update,
        evaluation.repeated.removed,
        evaluation.heldout.removed,
        gold_gap_closed,
        heldout_cost,
        steps,
        steps_new,
        1 - steps / max(1, steps_new),
        relearning.recovered(old, level) if evaluation != standard else None,
        loss_with_sinks,
        old,
        unlearning,
    )


def best_utility(rows: list[Removal]) -> Removal:
    """Return the setting with the lowest held-out loss, of those that forgot: repeated >= new."""
    forgotten = [row for row in rows if row.repeated >= row.heldout]
    return min(forgotten or rows, key=lambda row: row.heldout)


def hardest_to_relearn(rows: list[Removal]) -> Removal:
    """Return the setting that recovered least, of those that forgot at an allowed cost."""
    allowed = [r for r in rows if r.repeated >= r.heldout and r.heldout_cost <= MAX_COST]
    return min(allowed or rows, key=lambda row: row.recovered or 0)


def mean(rows: list[Removal], field: str) -> float:
    """Return a number, mean over seeds; NaN for None."""
    return float(np.asarray([getattr(row, field) for row in rows], float).mean())


def claims(result: Relearn) -> list[Claim]:
    """Return what relearning says about each removal; means over seeds decide."""
    removals = result.removals
    sinks, retrained, paper = (removals[name] for name in ("sinks", "retrained", "paper_sinks"))
    cut, npo = removals[CUT], removals["npo"]
    updated = {label(name): removals[name] for name in UPDATES}
    untuned_ascent = result.tried["gradient_ascent"][0]
    robust = min(result.hardest.values(), key=lambda rows: mean(rows, "recovered"))

    def here(rows: list[Removal], field: str, digits: int = 0, sign: str = "") -> str:
        return estimate([getattr(row, field) for row in rows], digits, sign)

    def counts(rows: list[Removal]) -> str:
        return f"{here(rows, 'steps')} steps, {here(rows, 'steps_new')} for new sequences"

    def returned(rows: list[Removal]) -> str:
        return f"other half recovers {here(rows, 'recovered', 2)}"

    def only_hidden(rows: list[Removal]) -> bool:
        return mean(rows, "savings") >= 0.2 and mean(rows, "recovered") >= 0.2

    return [
        Claim(
            "updates that forget as well as retraining cost skill on new sequences",
            "section 1; NULLs: shared and specific knowledge fall together",
            "; ".join(
                f"{name}: gold-gap closed {here(rows, 'gold_gap_closed', 3)} "
                f"at {here(rows, 'heldout_cost', 3, '+')}"
                for name, rows in updated.items()
            ),
            all(mean(rows, "heldout_cost") > 0 for rows in updated.values()),
            "the retain term continues training, here on new sequences without end; with a weight "
            f"of 1, ascent cost {untuned_ascent.heldout_cost:+.3f} (seed 0)",
        ),
        Claim(
            "updates only hide: relearning one half brings back the other, which is never shown",
            "NULLs: NPO is undone",
            "; ".join(
                f"{name}: {counts(rows)}, {returned(rows)}" for name, rows in updated.items()
            ),
            all(map(only_hidden, updated.values())),
        ),
        Claim(
            "cutting neurons out of the finished model only hides the memory as well",
            "ours",
            f"{counts(cut)}, {returned(cut)}; held-out {here(cut, 'heldout_cost', 3, '+')}",
            only_hidden(cut),
        ),
        Claim(
            "NPO is undone in fewer than ten steps",
            "NULLs: <10",
            f"{here(npo, 'steps')} steps",
            mean(npo, "steps") < 10,
            "the attacker learns slowly here, at a tenth of the largest learning rate, where even "
            f"new sequences take {mean(npo, 'steps_new'):.0f} steps",
        ),
        Claim(
            "what sinks held does not return: steps within 10 % of those of new sequences, and no "
            "other half",
            "NULLs: Sink-Off follows the retrained curve",
            f"{counts(sinks)}; {returned(sinks)}",
            abs(mean(sinks, "savings")) <= 0.1 and mean(sinks, "recovered") <= 0.02,
        ),
        Claim(
            "a model with its sinks removed takes as many steps as the retrained one",
            "NULLs: the retrained curve",
            f"{counts(sinks)}; retrained {counts(retrained)}",
            abs(mean(sinks, "steps") - mean(retrained, "steps")) <= 0.1 * mean(retrained, "steps"),
            "the model learns all sequences faster, new ones too, so only steps of the same model "
            "compare",
        ),
        Claim(
            "even under the setting that is hardest to relearn, an update returns more than sinks",
            "ours",
            f"recovers {mean(robust, 'recovered'):.2f} "
            f"(at held-out {mean(robust, 'heldout_cost'):+.3f}), "
            f"sinks {here(sinks, 'recovered', 2)}",
            mean(robust, "recovered") > mean(sinks, "recovered") + 0.05,
        ),
        Claim(
            "what the sinks of the paper's setting held does not return either",
            "ours",
            f"{counts(paper)}; {returned(paper)}",
            abs(mean(paper, "savings")) <= 0.1 and mean(paper, "recovered") <= 0.02,
            "it has few sinks, each used by many sequences, so the shared neurons memorize as well",
        ),
        Claim(
            "inactive is not erased: an attacker with the sinks' arrays and the ID needs no steps",
            "ours",
            f"loss {here(sinks, 'loss_with_sinks', 3)} on both halves after 0 steps",
            mean(sinks, "loss_with_sinks") <= mean(removals["standard"], "repeated"),
        ),
    ]


COLUMNS = {  # field -> header, digits
    "gold_gap_closed": ("gold gap closed", 3),
    "heldout_cost": ("cost on new", 3),
    "steps": ("to relearn", 0),
    "steps_new": ("new ones", 0),
    "recovered": ("recovered", 2),
}
LABELS = {
    "sinks": "sinks, removed",
    "paper_sinks": "paper's setting, removed",
    CUT: "neurons cut out",
}
HARDEST = {"gradient_ascent": "ascent, robust", "npo": "NPO, robust"}


def label(name: str) -> str:
    """Return how tables and the figure name a removal."""
    return LABELS.get(name, methods.label(name))


def lines(result: Relearn) -> list[tuple[str, str, str, list[Removal]]]:
    """Return (label, method, line style, rows) of all removals; an update has two settings."""
    lines = []
    for name, rows in result.removals.items():
        lines.append((label(name), name, "-", rows))
        if name in result.hardest:
            lines.append((HARDEST[name], name, "--", result.hardest[name]))
    return lines


def tabulate(result: Relearn) -> str:
    """Return every removal (mean ± standard deviation), then every setting tried on seed 0."""
    rows = [
        [text, *(spread([getattr(r, f) for r in each], n) for f, (_, n) in COLUMNS.items())]
        for text, _, _, each in lines(result)
    ]
    tried = []
    for name, each in result.tried.items():
        for row in each:
            assert row.update
            beta = f"beta {row.update.beta:g}, " if row.update.beta else ""
            setting = f"{label(name)}, {beta}retain {row.update.retain:g}, lr {row.update.lr:g}"
            losses = number(row.repeated), number(row.heldout)
            tried.append([setting, *losses, str(row.steps), number(row.recovered, 2)])
    header = ["removal (steps)", *(text for text, _ in COLUMNS.values())]
    tried_header = ["tried (seed 0)", "repeated", "new", "to relearn", "way back"]
    return f"{table(header, rows)}\n\n{table(tried_header, tried)}"


def draw(result: Relearn, folder: Path) -> list[Path]:
    """Draw what unlearning costs, the steps to relearn, and the half that is not shown."""
    unit = "word" if result.corpus == "stories" else "character"
    with plots.style():
        fig, axes = plots.subplots(1, 3, figsize=(16.5, 4.8))
        draw_steps(axes[1], result)
        draw_return(axes[2], result, unit)
        draw_cost(axes[0], result, unit)
        return plots.save(fig, folder, "relearn")


def draw_cost(ax: Any, result: Relearn, unit: str) -> None:
    """Draw seed 0: every update's trajectory of both losses, and the trained models."""
    limit, named = result.removals["standard"][0].heldout + MAX_COST, {}
    for name, each in result.tried.items():
        for row in each:
            repeated, new, _ = zip(*row.unlearning, strict=True)
            ax.plot(new, repeated, color=plots.color_of(name), linewidth=1.2, alpha=0.8)
            ax.plot(new[-1], repeated[-1], "o", color=plots.color_of(name), markersize=4)
        best = max(each, key=lambda row: row.repeated)
        named[name] = best.heldout, best.repeated, label(name)
    for name, size in (("standard", 8), ("retrained", 13), ("sinks", 8)):
        row = result.removals[name][0]
        color = plots.color_of(name)
        ax.plot(row.heldout, row.repeated, "D", color=color, markersize=size, zorder=3)
        named[name] = row.heldout, row.repeated, label(name)
    title = "What does unlearning cost?"
    xlabel = f"new (nats per {unit}), shaded: cost over {MAX_COST}"
    plots.frame(ax, title, f"repeated (nats per {unit})", xlabel)
    ax.margins(x=0.08)
    ax.autoscale_view()
    low, high = ax.get_xlim()
    ax.axvspan(limit, high, color="#F0F0F0", zorder=0)
    ax.set_xlim(low, high)
    points = [(new, repeated, text, name) for name, (new, repeated, text) in named.items()]
    plots.label_points(ax, points)


def draw_steps(ax: Any, result: Relearn) -> None:
    """Draw a line from the steps to relearn (full) to those for new sequences (open)."""
    labels, names, _, removals = zip(*reversed(lines(result)), strict=True)
    colors = list(map(plots.color_of, names))
    for y, (rows, color) in enumerate(zip(removals, colors, strict=True)):
        steps, steps_new = mean(rows, "steps"), mean(rows, "steps_new")
        style = {"color": color, "markersize": 9, "clip_on": False}
        ax.plot([steps, steps_new], [y, y], color=color)
        ax.plot(steps_new, y, "o", markerfacecolor="white", markeredgewidth=2, **style)
        ax.plot(steps, y, "o", **style)
    ax.set_yticks(range(len(labels)), [text.replace(", ", ",\n") for text in labels])
    ax.tick_params(axis="y", length=0)
    for tick, name in zip(ax.get_yticklabels(), names, strict=True):
        tick.set_color(plots.ink_of(name))
    ax.set(title="Is it relearned faster?", xlabel="steps: ● forgotten, ○ new sequences")
    ax.set_xlim(-0.05 * ax.get_xlim()[1])


def draw_return(ax: Any, result: Relearn, unit: str) -> None:
    """Draw the loss of the half that is never shown, while the other is relearned."""
    ends = []
    for text, name, style, rows in lines(result):
        other = np.array([[halves.other for halves in row.attack] for row in rows]).T
        end = plots.band(ax, range(len(other)), other, plots.color_of(name), style)
        ends.append((end, text.replace(", ", ",\n"), name))
    ax.set_ylim(0, 2)
    plots.frame(ax, "Does the other half return?", f"loss (nats per {unit})", "step of the attack")
    plots.label_ends(ax, ends)
