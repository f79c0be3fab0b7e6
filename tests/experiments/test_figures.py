"""Figures 3 to 7 and the controls: every claim holds on made-up numbers, and fails by the number that breaks it."""

import numpy as np
import pytest

from memsinks_np.experiments import (
    Context,
    comparison,
    controls,
    fig2_run,
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    relearn_run,
)
from memsinks_np.experiments.methods import PRESETS, methods_of, quick, seeded
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.runner.grid import train_cached
from memsinks_np.train import Model

PRESET = PRESETS["stories"]
WORLDS = fig5.with_data(PRESET, corpus="domains")
SINKS = {"repeated_removed": 0.85, "heldout_removed": 0.99}
NUMBERS = {  # method -> what differs from standard training
    "retrained": {
        "repeated_own": 1.0,
        "repeated_removed": 1.0,
        "heldout_removed": 1.05,
        "heldout_own": 1.05,
    },
    "gradient_masking": {"repeated_removed": 1.3, "heldout_removed": 1.5, "heldout_own": 1.1},
    "sinks": SINKS,
    "paper_sinks": SINKS,
    "random_sinks": {"repeated_removed": 0.1},
    "narrow": {"repeated_own": 0.3, "repeated_removed": 0.3},
    "dropout": {"repeated_all": 0.3},
}
RARE = {  # showings -> losses in the rare world: standard training, sinks removed
    1: (2.0, 2.0),
    10: (1.5, 1.52),
    40: (1.7, 1.6),
}
TEETH = {
    "standard": (0.1, 0.3),
    "sinks": (0.05, 0.1),
    "paper_sinks": (0.05, 0.1),
}  # lowest loss, rise


def showings(job):
    data, train = job.settings.data, job.settings.train
    return train.steps * data.n_repeated_per_batch // data.n_repeated // data.show_every_n_passes


def tags(job):
    """What a change may be told to apply to: the method, or one setting of it."""
    data = job.settings.data
    size, noise = f"C={job.settings.d_model}", f"noise {data.id_noise}"
    return {
        job.method.name,
        f"{job.method.name} {size}",
        f"{job.method.name} {noise}",
        f"{job.method.name} x {showings(job)}",
        f"{job.method.name} {data.n_repeated} x {showings(job)}",
    }


def measured(job, then, changes):
    """What a worker might return, with some numbers changed: (tag, field) -> value."""
    method, changes = (
        job.method.name.split()[0],
        {f: v for (tag, f), v in changes.items() if tag in tags(job)},
    )
    if then is fig7.watched:
        low, rise = TEETH[method]
        tooth = changes.get("low", low) + np.linspace(0, changes.get("rise", rise), fig7.PERIOD)
        return tooth.tolist() * 4
    if then is controls.selections:
        return {"own": 0.02, "shuffled": 0.95, "placebo": 0.95} | changes
    row = dict.fromkeys(("repeated_own", "repeated_removed", "repeated_all"), 0.02)
    row |= dict.fromkeys(("heldout_own", "heldout_removed", "heldout_all"), 1.0) | NUMBERS.get(
        method, {}
    )
    if job.settings.data.corpus == "domains":
        new = RARE[showings(job)][method != "standard"]
        row |= {
            "heldout_removed": new,
            "repeated_removed": 0.1 if method == "standard" else new - 0.3,
        }
    row["repeated_removed"] -= {"paper_sinks 0.7": 0.4}.get(job.method.name, 0)
    row["repeated_removed"] -= changes.get(
        "noise", {0.1: 0.05, 0.5: 0.4}.get(job.settings.data.id_noise, 0)
    )
    row["heldout_removed"] += 0.02 * (job.settings.d_model == 32 and method in fig5.SINKS)
    row |= {field: value for field, value in changes.items() if field in row}
    dips = {
        "repeated_removed": changes.get("dip", 0.25),
        "heldout_removed": changes.get("dip", 0.3),
    }
    points = [dict.fromkeys(row, 4.0), {f: v - dips.get(f, 0) for f, v in row.items()}, row]
    history = [{"step": 10 * i, "train": 1.0, **point} for i, point in enumerate(points)]
    return {
        "row": row,
        "history": history,
        "floor": {"repeated": 0.9, "heldout": 0.9},
        "said": None,
        "words": None,
    }


def posthoc_cut(plan, forgets=0.5):
    rows = [
        {"share": 0.0, "heldout": 1.0, "repeated": 0.0},
        {"share": 0.1, "heldout": 1.0, "repeated": forgets},
    ]
    cuts = {method: {"one setting": rows} for method in (*fig4.CUTS, "random")}
    return {"seeds": [{"stories": {"cuts": cuts}}] * plan.seeds}


def updates(plan):
    way = [{"heldout_removed": 1.0 + x, "repeated_removed": 3 * x} for x in (0.0, 0.1, 0.2)]
    return {"methods": {name: [{"unlearning": way}] * plan.seeds for name in fig4.UPDATES}}


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(fig2_run, "run", posthoc_cut)
    monkeypatch.setattr(relearn_run, "run", updates)

    def run(experiment, seeds=1, **changes):
        changes = {tuple(key.split(", ")): value for key, value in changes.items()}
        grid = lambda jobs, then: [measured(job, then, changes) for job in jobs]
        return experiment.run(Context(WORLDS if experiment is fig6 else PRESET, seeds, False, grid))

    return run


EXPERIMENTS = {fig3: 3, fig4: 10, fig5: 6, fig6: 10, fig7: 5, controls: 5}  # how many claims


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.__name__.split(".")[-1])
def test_every_claim_holds_where_the_numbers_say_so_and_all_is_told_and_drawn(
    experiment, made_up, tmp_path
):
    result = made_up(experiment, seeds=2)
    found = experiment.claims(result)
    assert [claim for claim in found if not claim.holds] == []
    assert len(found) == EXPERIMENTS[experiment]
    lines = experiment.tabulate(result).splitlines()
    assert len(lines) > 4
    assert len(set(map(len, lines))) == 1
    name = experiment.__name__.split(".")[-1]
    assert [p.name for p in experiment.draw(result, tmp_path)] == [f"{name}.png", f"{name}.svg"]


@pytest.mark.parametrize(
    ("experiment", "changes", "fail"),
    [
        (fig3, {"gradient_masking, heldout_own": 0.99}, [0]),
        (fig3, {"gradient_masking, heldout_own": 1.6}, [1]),  # dropping them helps
        (fig3, {"gradient_masking, dip": 0.0}, [2]),
        (fig4, {"paper_sinks, heldout_removed": 1.01}, [0]),
        (fig4, {"paper_sinks, heldout_removed": 1.06}, [0, 1]),
        (fig4, {"retrained, heldout_removed": 0.98}, [1, 6]),
        (fig4, {"paper_sinks, repeated_removed": 0.55}, [2]),
        (fig4, {"paper_sinks, dip": 0.0}, [3]),
        (fig4, {"memsinks, repeated_removed": 0.5}, [7, 9]),  # a cut forgets 0.5
        (fig5, {"paper_sinks 0.5, repeated_removed": 0.5}, [0]),
        (fig5, {"paper_sinks 0.7, repeated_removed": 0.8}, [0]),
        (fig5, {"memsinks, repeated_removed": 0.7}, [1, 5]),  # the same at every share of wrong IDs
        (fig5, {"memsinks C=64, repeated_removed": 0.7}, [1, 5]),
        (fig5, {"memsinks C=96, repeated_removed": 0.7}, [1]),
        (fig5, {"paper_sinks C=32, heldout_removed": 0.98}, [2]),
        (fig5, {"memsinks C=32, heldout_removed": 0.98}, [3]),
        (fig5, {"memsinks noise 0.1, noise": 0.2}, [4]),
        (fig5, {"paper_sinks noise 0.5, noise": 0.1}, [5]),
        (fig6, {"standard x 10, heldout_removed": 2.1}, [0, 1, 3, 4, 7, 8]),
        (fig6, {"standard 300 x 40, heldout_removed": 0.5}, [1, 2, 6]),
        (fig6, {"memsinks x 40, repeated_removed": 0.3}, [6]),
        (fig6, {"paper_sinks x 10, heldout_removed": 1.8}, [4]),
        (fig6, {"paper_sinks x 10, heldout_removed": 2.1}, [3, 4]),
        (fig7, {"standard, rise": 0.01}, [0, 1, 3]),
        (fig7, {"memsinks, rise": 0.4}, [3, 4]),
        (fig7, {"paper_sinks, low": 0.5}, [2]),
        (controls, {"random_sinks, repeated_removed": 0.4}, [0]),
        (controls, {"memsinks, own": 0.2}, [1]),
        (controls, {"memsinks, shuffled": 0.1}, [1]),
        (controls, {"memsinks, placebo": 0.1}, [2]),
        (controls, {"narrow, repeated_own": 0.8}, [3]),
        (controls, {"dropout, repeated_all": 1.0}, [4]),
    ],
    ids=lambda value: value.__name__.split(".")[-1] if hasattr(value, "__name__") else str(value),
)
def test_a_claim_fails_by_the_number_that_breaks_it(experiment, changes, fail, made_up):
    found = experiment.claims(made_up(experiment, **changes))
    assert [i for i, claim in enumerate(found) if not claim.holds] == fail


def test_a_worker_measures_what_the_controls_compare(tmp_path):
    preset = quick(PRESET, steps=5)
    job = seeded(preset, methods_of(preset)["sinks"], 0)
    trained = train_cached(job, tmp_path)
    one, chosen = comparison.measure(job, trained, delete=0), controls.selections(job, trained)
    assert chosen["own"] == pytest.approx(one["row"]["repeated_own"], rel=1e-5)
    assert len({round(loss, 7) for loss in (*chosen.values(), one["row"]["repeated_removed"])}) == 4
    assert set(one["said"]) > set()
    assert one["history"] == trained.history
    gold = seeded(preset, methods_of(preset)["gradient_masking"], 0)
    assert (
        comparison.measure(gold, train_cached(gold, tmp_path), delete=0)["row"]["deleted_loss"]
        is None
    )


def test_labels_at_lines_stay_beside_the_axes_and_an_arm_without_a_colour_is_grey():
    fig, ax = plots.plt.subplots()
    ax.set_ylim(0, 2)
    plots.label_ends(
        ax,
        [
            (2.6, "far above", "sinks"),
            (2.1, "above", "mine"),
            (1.9, "a", "standard"),
            (-1, "below", "npo"),
        ],
    )
    heights = [text.get_position()[1] for text in ax.texts]
    assert 0 < min(heights) < max(heights) < 1
    assert min(b - a for a, b in zip(sorted(heights), sorted(heights)[1:], strict=False)) > 0.03
    assert {text.get_text(): text.get_color() for text in ax.texts}["above"] == "#444444"
    plots.plt.close(fig)


@pytest.fixture
def ax():
    fig, ax = plots.plt.subplots()
    yield ax
    plots.plt.close(fig)


def test_a_curve_is_the_mean_over_seeds_in_a_band_from_the_lowest_to_the_highest(ax):
    losses = {0: (2.5, 3.75, 2.75), 7: (1.5, 0.5, 0.75), 30: (0.25, 0.375, 1.25)}
    mine = [
        {"method": "sinks", "step": step, "loss": y} for step in (30, 0, 7) for y in losses[step]
    ]
    others = [{"method": "standard", "step": step, "loss": 9.0} for step in losses]
    end = plots.curve(ax, others + mine, "sinks", "loss", ":")
    (line,), (band,) = ax.lines, ax.collections
    assert line.get_xydata().tolist() == [[step, sum(ys) / 3] for step, ys in losses.items()]
    assert (line.get_linestyle(), line.get_color()) == (":", "#0072B2")
    edges = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert edges == {(step, edge(ys)) for step, ys in losses.items() for edge in (min, max)}
    assert end == sum(losses[30]) / 3


def test_the_floor_is_drawn_where_it_is_and_not_where_none_is_known(ax):
    plots.draw_floor(ax, None, 0.5)
    assert not ax.lines
    assert not ax.texts
    plots.draw_floor(ax, 0.875, 0.25)
    (line,), (name,) = ax.lines, ax.texts
    assert list(line.get_ydata()) == [0.875, 0.875]
    assert (name.get_text(), name.xy) == ("entropy floor", (0.25, 0.875))


def test_forgetting_is_the_rise_after_the_lowest_point_of_a_cycle_in_the_second_half_of_training():
    early = [[5.0, 1.0, 2.0, 3.0, 4.0, 9.0], [4.0, 1.0, 2.0, 3.0, 3.5, 8.0]]
    late = [
        [0.9, 0.5, 0.625, 0.75, 0.25, 0.7],
        [0.8, 0.7, 0.5, 0.75, 1.0, 0.9],
    ]  # 0.5 to 0.75, 0.5 to 1
    losses = [loss for cycle in early + late for loss in cycle] + [
        7.0,
        7.0,
    ]  # two steps of a cycle that never ended
    assert fig7.forgotten(losses, 6) == (0.25 + 0.5) / 2
    assert fig7.teeth(losses, 6).tolist() == early + late
    history = [
        {"step": 0},
        {"step": 3, "watched": [0.5, 0.25, 0.75]},
        {"step": 5, "watched": [0.125, 0.625]},
    ]
    assert fig7.watched(None, Model({}, history)) == [0.5, 0.25, 0.75, 0.125, 0.625]
