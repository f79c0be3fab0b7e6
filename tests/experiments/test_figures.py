"""Figures 3, 5, 6, 7 and the controls, on made-up numbers; and the parts of figures."""

from functools import partial
from itertools import combinations
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from memsinks_np.experiments import (
    comparison,
    controls,
    delete,
    fig3,
    fig5,
    fig6,
    fig7,
    headline,
    isolation,
    knowledge,
)
from memsinks_np.experiments.methods import PRESETS, job, methods_of, quick, with_settings
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.runner.cache import train_cached
from memsinks_np.metrics import BySinks, HistoryRow

PRESET = PRESETS["stories"]
STANDARD = dict.fromkeys(("repeated.own", "repeated.removed", "repeated.all"), 0.02)
STANDARD |= dict.fromkeys(("heldout.own", "heldout.removed", "heldout.all"), 1.0)
SINKS = {"repeated.removed": 0.85, "heldout.removed": 0.99}
NEVER_SEEN = {"repeated.own": 1.0, "repeated.removed": 1.0}
NUMBERS = {  # method -> what differs from standard training
    "retrained": NEVER_SEEN | {"heldout.own": 1.05, "heldout.removed": 1.05},
    "gradient_masking": {"repeated.removed": 1.3, "heldout.removed": 1.5, "heldout.own": 1.1},
    "sinks": SINKS,
    "paper_sinks": SINKS,
    "random_sinks": {"repeated.removed": 0.1},
    "narrow": {"repeated.own": 0.3, "repeated.removed": 0.3},
    "dropout": {"repeated.all": 0.3},
}
# showings -> loss on new stories of the rare domain: standard training, sinks removed
RARE = {1: (2.0, 2.0), 10: (1.5, 1.52), 40: (1.7, 1.6)}
TEETH = {"standard": (0.1, 0.3), "sinks": (0.05, 0.1), "paper_sinks": (0.05, 0.1)}  # lowest, rise


def showings(job):
    data, steps = job.settings.data, job.settings.train.steps
    return steps * data.n_repeated_per_batch // data.n_repeated // data.show_every_n_passes


def tags(job):
    """What a change may apply to: a method, or a method in one setting."""
    name, data = job.method.name, job.settings.data
    settings = [f"C={job.settings.d_model}", f"noise={data.id_noise}", f"x {showings(job)}"]
    settings.append(f"{data.n_repeated} x {showings(job)}")
    if job.method.sinks:
        settings.append(f"p={job.method.sinks.p}")
    return {name, *(f"{name} {setting}" for setting in settings)}


def by_sinks(numbers):
    return [[numbers[f"{s}.{k}"] for k in BySinks._fields] for s in ("repeated", "heldout")]


def output(*points):
    """What `comparison.measure` returns for numbers at steps 0, 10, ..., as JSON data."""
    history = [[10 * i, 1.0, *by_sinks(numbers), [], []] for i, numbers in enumerate(points)]
    evaluation = [*by_sinks(points[-1]), [0.0] * 3]
    return [evaluation, [None, None], history, [0.9, 0.9]]


def made_up(job, changes):
    """Return what a worker might return, with some numbers changed: (tag, field) -> value."""
    name, data = job.method.name, job.settings.data
    changes = {field: v for (tag, field), v in changes.items() if tag in tags(job)}
    if job.measure is fig7.first_sequence:
        low, rise = TEETH[name]
        rises = np.linspace(0, changes.get("rise", rise), fig7.PERIOD)
        return (changes.get("low", low) + rises).tolist() * 4
    if job.measure is controls.select:
        return list(({"own": 0.02, "shuffled": 0.95, "placebo": 0.95} | changes).values())
    numbers = STANDARD | NUMBERS.get(name, {})
    if data.corpus == "domains":
        new = RARE[showings(job)][name != "standard"]
        repeated = 0.1 if name == "standard" else new - 0.3
        numbers |= {"heldout.removed": new, "repeated.removed": repeated}
    forgets = {0.1: 0.05, 0.5: 0.4}.get(data.id_noise, 0)
    numbers["repeated.removed"] -= changes.get("noise", forgets)
    numbers["repeated.removed"] -= 0.4 * ("paper_sinks p=0.7" in tags(job))
    numbers["heldout.removed"] += 0.02 * (job.settings.d_model == 32 and name in fig5.SINKS)
    numbers |= {field: value for field, value in changes.items() if field in numbers}
    dip = numbers | {"heldout.removed": numbers["heldout.removed"] - changes.get("dip", 0.3)}
    return output(dict.fromkeys(numbers, 4.0), dip, numbers)


def run(experiment, changes, seeds=1):
    corpus = "domains" if experiment is fig6 else "stories"
    context = Context(with_settings(PRESET, data={"corpus": corpus}), seeds)
    jobs = experiment.jobs(context)
    return experiment.result(context, {key: made_up(job, changes) for key, job in jobs.items()})


N_CLAIMS = {fig3: 3, fig5: 6, fig6: 10, fig7: 5, controls: 5}


@pytest.mark.parametrize("experiment", N_CLAIMS)
def test_claims_hold_and_figure_is_drawn(experiment, tmp_path):
    result = run(experiment, {}, seeds=2)
    claims = experiment.claims(result)
    assert [claim for claim in claims if not claim.holds] == []
    assert len(claims) == N_CLAIMS[experiment]
    lines = experiment.tabulate(result).splitlines()
    assert len(lines) > 4
    assert len(set(map(len, lines))) == 1
    name = experiment.__name__.split(".")[-1]
    assert [p.name for p in experiment.draw(result, tmp_path)] == [f"{name}.png", f"{name}.svg"]


FAILURES = [
    (fig3, "gradient_masking", "heldout.own", 0.99, [0]),
    (fig3, "gradient_masking", "heldout.own", 1.6, [1]),  # removal lowers the loss
    (fig3, "gradient_masking", "dip", 0.0, [2]),
    (fig5, "paper_sinks p=0.5", "repeated.removed", 0.5, [0]),
    (fig5, "paper_sinks p=0.7", "repeated.removed", 0.8, [0]),
    (fig5, "sinks", "repeated.removed", 0.7, [1, 5]),  # the same with any wrong IDs
    (fig5, "sinks C=64", "repeated.removed", 0.7, [1, 5]),
    (fig5, "sinks C=96", "repeated.removed", 0.7, [1]),
    (fig5, "paper_sinks C=32", "heldout.removed", 0.98, [2]),
    (fig5, "sinks C=32", "heldout.removed", 0.98, [3]),
    (fig5, "sinks noise=0.1", "noise", 0.2, [4]),
    (fig5, "paper_sinks noise=0.5", "noise", 0.1, [5]),
    (fig6, "standard x 10", "heldout.removed", 2.1, [0, 1, 3, 4, 7, 8]),
    (fig6, "standard 300 x 40", "heldout.removed", 0.5, [1, 2, 6]),
    (fig6, "sinks x 40", "repeated.removed", 0.3, [6]),
    (fig6, "paper_sinks x 10", "heldout.removed", 1.8, [4]),
    (fig6, "paper_sinks x 10", "heldout.removed", 2.1, [3, 4]),
    (fig7, "standard", "rise", 0.01, [0, 1, 3]),
    (fig7, "sinks", "rise", 0.4, [3, 4]),
    (fig7, "paper_sinks", "low", 0.5, [2]),
    (controls, "random_sinks", "repeated.removed", 0.4, [0]),
    (controls, "sinks", "own", 0.2, [1]),
    (controls, "sinks", "shuffled", 0.1, [1]),
    (controls, "sinks", "placebo", 0.1, [2]),
    (controls, "narrow", "repeated.own", 0.8, [3]),
    (controls, "dropout", "repeated.all", 1.0, [4]),
]


@pytest.mark.parametrize(("experiment", "tag", "field", "value", "fail"), FAILURES)
def test_claim_fails_by_its_number(experiment, tag, field, value, fail):
    claims = experiment.claims(run(experiment, {(tag, field): value}))
    assert [i for i, claim in enumerate(claims) if not claim.holds] == fail


def test_only_own_sinks_are_deleted():
    jobs = comparison.compare_jobs(Context(PRESET), PRESET, methods_of(PRESET))
    deleting = {name for (name, _), job in jobs.items() if job.measure.keywords["deletions"]}
    assert deleting == {"sinks", "large_pool", "paper_sinks", "disjoint_sinks"}


@pytest.mark.slow
def test_selections_differ_and_own_is_that_of_evaluation(tmp_path):
    preset = quick(PRESET, steps=5)
    model = train_cached(job(preset, methods_of(preset)["sinks"], 0, controls.select), tmp_path)
    selections = controls.select(model)
    repeated = comparison.measure(model, deletions=False)[0].repeated
    assert selections.own == pytest.approx(repeated.own, rel=1e-5)
    assert len({round(loss, 7) for loss in (*selections, repeated.removed)}) == 4


@pytest.fixture
def ax():
    fig, ax = plots.subplots()
    yield ax
    plots.plt.close(fig)


def test_line_labels_do_not_overlap_or_leave_the_axes(ax):
    ax.set_ylim(0, 2)
    ends = [(2.6, "far above", "sinks"), (2.1, "above", "mine")]
    plots.label_ends(ax, [*ends, (1.9, "a", "standard"), (-1, "below", "npo")])
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert 0 < heights[0] < heights[-1] < 1
    assert np.diff(heights).min() > 0.03
    colors = {text.get_text(): text.get_color() for text in ax.texts}
    assert colors["above"] == "#444444"  # a method without a color


def test_leaders_join_moved_labels_to_their_lines(ax):
    ax.set_ylim(0, 2)
    plots.label_ends(ax, [(1, "low", "sinks"), (1, "high", "npo"), (1.9, "alone", "standard")])
    joined = {text.get_text(): text.xy[1] for text in ax.texts if text.arrow_patch}
    assert joined == {"low": 0.5, "high": 0.5}


def contrast_with_white(color):
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(color)]
    return 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)


@pytest.mark.parametrize("method", plots.COLORS)
def test_label_can_be_read_and_its_line_keeps_its_color(ax, method):
    plots.labelled_lines(ax, [([0, 1], [0, 1], "text", method, "-")])
    (line,), (text,) = ax.lines, ax.texts
    assert line.get_color() == plots.COLORS[method]
    assert contrast_with_white(text.get_color()) >= 4.5
    if contrast_with_white(line.get_color()) >= 4.5:
        assert text.get_color() == line.get_color()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Figures on made-up numbers, with their layout done."""
    figures, patch = {}, pytest.MonkeyPatch()
    patch.setattr(plots, "save", lambda fig, *_: figures.setdefault(experiment, fig))
    for experiment in N_CLAIMS:
        experiment.draw(run(experiment, {}), tmp_path_factory.mktemp("figures"))
        figures[experiment].draw_without_rendering()
    patch.undo()
    yield figures
    plots.plt.close("all")


@pytest.mark.parametrize("experiment", N_CLAIMS)
def test_every_text_of_a_figure_can_be_read(drawn, experiment):
    texts = drawn[experiment].findobj(Text)
    assert len(texts) > 10
    assert [t.get_text() for t in texts if contrast_with_white(t.get_color()) < 4.5] == []


@pytest.mark.parametrize("experiment", N_CLAIMS)
def test_panels_fill_most_of_the_width(drawn, experiment):
    axes = drawn[experiment].axes
    assert sum(ax.get_position().width for ax in axes) >= 0.6


@pytest.mark.parametrize("experiment", N_CLAIMS)
def test_titles_and_labels_do_not_collide(drawn, experiment):
    titles = [text for ax in drawn[experiment].axes for text in (ax._left_title, *ax.texts)]
    titles += [ax.yaxis.label for ax in drawn[experiment].axes]
    titles = [t for t in titles if t.get_text()]
    boxes = {t.get_text(): Text.get_window_extent(t).padded(-1) for t in titles}  # no leaders
    assert [ab for ab in combinations(boxes, 2) if boxes[ab[0]].overlaps(boxes[ab[1]])] == []


def in_the_dark(color):
    """Return what the filter of plots.INVERT makes of a color (W3C, Filter Effects)."""
    assert "invert(.9) hue-rotate(180deg)" in plots.INVERT
    luma = np.outer(np.ones(3), (0.213, 0.715, 0.072))
    return np.clip((2 * luma - np.eye(3)) @ (0.9 - 0.8 * np.array(to_rgb(color))), 0, 1)


@pytest.mark.parametrize("method", [*plots.COLORS, "no color"])
def test_labels_can_be_read_in_the_dark(method):
    on_black = 1.05 / contrast_with_white(in_the_dark(plots.ink_of(method)))
    assert on_black / (1.05 / contrast_with_white(in_the_dark("white"))) >= 4.5


def test_svg_keeps_text_as_text_and_the_dark_as_a_choice(tmp_path):
    with plots.style():
        fig, ax = plots.subplots()
        ax.set_title("Can it be found?")
        _, svg = plots.save(fig, tmp_path, "one")
    text = svg.read_text()
    assert ">Can it be found?</text>" in text
    assert text.count("prefers-color-scheme:dark") == 1
    root = ElementTree.fromstring(text)
    assert plots.INVERT in [style.text for style in root.iter("{http://www.w3.org/2000/svg}style")]


def test_point_labels_avoid_lines_and_each_other(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.plot([0.5, 1], [0.5, 0.5])  # to the right
    ax.plot([0.5, 0.5], [0.5, 1])  # up
    plots.label_points(ax, [(0.5, 0.5, text, "sinks") for text in ("one", "two", "three")])
    plots.label_points(ax, [(1, 1, "at the corner", "npo")])
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    lines = [line.get_transform().transform(plots.dense(line.get_xydata())) for line in ax.lines]
    assert [box.count_contains(line) for box in boxes for line in lines] == [0] * 8
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    frame = ax.get_window_extent()
    assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in boxes)


def test_only_caps_share_a_color_with_another_method():
    methods = {}
    for method, color in plots.COLORS.items():
        methods.setdefault(color, []).append(method)
    shared = [names for names in methods.values() if len(names) > 1]
    # drawn as one dashed line with a label for each cap; lazy AdamW is the optimizer of sinks
    caps = ["deduplicated", "capped_2", "capped_4", "capped_8"]
    assert shared == [["sinks", "lazy_adamw"], caps]


TABLES = {
    "headline, memory": headline.MEMORY,
    "headline, mirage": [(m, *rest) for m, _, *rest in headline.MIRAGE],
    "knowledge": knowledge.LINES,
    "isolation, memory": [(m, *rest) for m, _, *rest in isolation.MEMORY],
    "isolation, skill": [(m, *rest) for m, _, *rest in isolation.SKILL],
    "isolation, mirage": [(m, *rest) for m, _, *rest in isolation.MIRAGE],
    "fig3": [(m, *rest) for m, _, *rest in fig3.LINES],
    "delete": [(m, line, name) for name, (m, line, _) in delete.POOLS.items()],
}


@pytest.mark.parametrize("table", TABLES)
def test_no_two_lines_share_color_and_style(table):
    looks = [(plots.color_of(method), line) for method, line, _ in TABLES[table]]
    assert len(set(looks)) == len(looks)


def test_curve_is_the_mean_in_a_band_of_all_seeds(ax):
    losses = {0: (2.5, 3.75, 2.75), 10: (1.5, 0.5, 0.75), 20: (0.25, 0.375, 1.25)}
    point = partial(dict.fromkeys, STANDARD)
    outputs = {("sinks", i): output(*(point(y[i]) for y in losses.values())) for i in range(3)}
    outputs["standard", 0] = output(point(9.0))
    end = plots.curve(ax, comparison.compare(outputs), "sinks", "heldout.removed", ":")
    (line,), (band,) = ax.lines, ax.collections
    assert line.get_xydata().tolist() == [[step, sum(ys) / 3] for step, ys in losses.items()]
    assert (line.get_linestyle(), line.get_color()) == (":", "#0072B2")
    edges = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert edges == {(step, edge(ys)) for step, ys in losses.items() for edge in (min, max)}
    assert end == sum(losses[20]) / 3


def test_entropy_is_drawn_only_where_it_is_known(ax):
    plots.draw_entropy(ax, None, 0.5)
    assert not ax.lines
    assert not ax.texts
    plots.draw_entropy(ax, 0.875, 0.25)
    (line,), (name,) = ax.lines, ax.texts
    assert list(line.get_ydata()) == [0.875, 0.875]
    assert (name.get_text(), name.xy) == ("entropy floor", (0.25, 0.875))


def test_forgetting_is_the_rise_after_the_lowest_point():
    early = [[5.0, 1.0, 2.0, 3.0, 4.0, 9.0], [4.0, 1.0, 2.0, 3.0, 3.5, 8.0]]
    late = [[0.9, 0.5, 0.625, 0.75, 0.25, 0.7], [0.8, 0.7, 0.5, 0.75, 1.0, 0.9]]
    losses = [*np.ravel(early + late), 7.0, 7.0]  # the last cycle is incomplete
    assert fig7.mean_rise(losses, 6) == (0.25 + 0.5) / 2
    assert fig7.cycles(losses, 6).tolist() == early + late


def test_first_sequence_losses_are_joined():
    none = BySinks(None, None)
    parts = ([], [0.5, 0.25, 0.75], [0.125, 0.625])
    history = [HistoryRow(step, None, none, none, part) for step, part in enumerate(parts)]
    assert fig7.first_sequence(SimpleNamespace(history=history)) == [*parts[1], *parts[2]]
