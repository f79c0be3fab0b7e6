"""The figures of the README hold the package's numbers, and play without a script."""

import re
from pathlib import Path

import numpy as np
import pytest

from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import simulations
from memsinks_np.experiments.methods import PRESETS, quick
from memsinks_np.experiments.report import learn_and_remove, mechanism, moments, svg
from memsinks_np.experiments.report.pictures import PRESET, pictures
from memsinks_np.metrics import predict
from memsinks_np.sinks import NO_SINKS, active, own
from tutorials.toy import trained

ROOT = Path(__file__).parents[2]
FIGURES = {
    name: (ROOT / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    for name in ("mechanism", "mechanism-dark", "learn-and-remove")
}
MECHANISMS = ("mechanism", "mechanism-dark")
PLAYED = FIGURES["learn-and-remove"]
CORPUS = load_corpus(PRESET.settings.data)
CHIP = re.compile(r'<g class="l(\d) ?(a\d+)?"><rect[^>]*/><text[^>]*>([^<]+)</text></g>')


@pytest.fixture(scope="module")
def made_up():
    """Losses that fall from 4 to 0, and rise to 1 when the sinks are removed."""
    words = ["anna", "found", "a", "red", "ball", ".", "she", "kicked", "it"]
    falling = [[x] * 8 for x in np.linspace(4, 0, len(moments.STEPS))]
    row = moments.Row(words, [*falling, [1.0] * 8], [x[0] for x in falling] + [1.0], 64)
    return dict.fromkeys(moments.ROWS, row)


def squares(figure, name):
    """Return the neurons whose squares a path draws."""
    path = re.search(rf'id="{name}" d="([^"]+)"', figure)[1]
    corners = np.array([c.split() for c in re.findall(r"M([\d. ]+)h", path)], float)
    column, line = (corners + mechanism.LIFT - (mechanism.RIGHT, 60)).T / mechanism.CELL
    return sorted((np.round(line) * mechanism.COLUMNS + np.round(column)).astype(int).tolist())


@pytest.mark.parametrize("name", MECHANISMS)
def test_squares_are_the_sinks_of_the_ids_beside_them(name):
    figure = FIGURES[name]
    ids = [int(i) for i in re.findall(r">ID (\d+)<", figure)]
    one, other = (set(row) for row in active(PRESET.sinks, ids).tolist())
    assert len(one) == PRESET.sinks.n_active
    assert squares(figure, "ink") == sorted(one & other)
    assert squares(figure, "first") == sorted(one - other)
    assert squares(figure, "second") == sorted(other - one)
    assert f"{len(one)} for each ID, {len(one & other)} in both" in figure
    texts = [CORPUS.text(CORPUS.repeated[i]).replace(" .", ".") for i in ids]
    lines = iter(re.findall(r'class="">([^<]+)</text>', figure))
    assert all(t.startswith(f"{next(lines)} {next(lines).removesuffix(' …')}") for t in texts)


@pytest.mark.parametrize("name", MECHANISMS)
def test_saw_tooth_and_staircase_are_the_simulation(name):
    run = simulations.accumulation(0.1, 400, 40, lr=0.3, width=16, n_words=50, seed=0)
    drawn = {}
    for line in ("tooth", "stair"):
        points = re.search(rf'id="{line}" points="([^"]+)"', FIGURES[name])[1]
        drawn[line] = 478 - np.array([p.split(",")[1] for p in points.split()], float)
    unit = drawn["stair"].max() / run.sink.max()
    np.testing.assert_allclose(drawn["tooth"], np.maximum(run.shared, 0) * unit, atol=0.1)
    np.testing.assert_allclose(drawn["stair"], np.maximum(run.sink, 0) * unit, atol=0.1)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_small_and_load_nothing(name):
    figure = FIGURES[name]
    assert len(figure.encode()) < (40_000 if figure is PLAYED else 30_000)
    assert re.findall(r"<script|href|@import|https?://(?!www\.w3\.org/2000/svg)", figure) == []
    assert re.findall(r"url\((?!#)", figure) == []
    words = re.findall(r'textLength="([\d.]+)">([^<]+)<', figure)
    assert [w for length, w in words if float(length) < 8 * len(w)] == []  # no narrower font


def state(figure, name, percent):
    """Return what an animation shows at a time, in percent of a round."""
    frames = re.search(rf"@keyframes {name}{{(.+?)}}\.{name}{{", figure)[1]
    shown = [(float(at), css) for at, css in re.findall(r"([\d.]+)%{([^}]+)}", frames)]
    return [css for at, css in shown if at <= percent][-1]


def test_every_moment_has_the_color_of_its_loss(made_up):
    figure = learn_and_remove.learn_and_remove(made_up, moments.STEPS)
    _, name, _ = CHIP.search(figure).groups()
    times = [0, *np.arange(15, 50, 2.5), 65]  # percent of a round
    for at, losses in zip(times, made_up["sinks"].losses, strict=True):
        assert state(figure, name, at + 1) == svg.LOSSES[svg.bin_of(losses[0])]
    assert state(figure, name, 64) == svg.LOSSES[0]


def test_playing_stops_and_respects_reduced_motion():
    assert re.findall(r"{animation:(\d.*?)}", PLAYED) == ["13s step-end 2"]
    assert "@media(prefers-reduced-motion:reduce){g,text{animation:none!important}}" in PLAYED
    assert "infinite" not in PLAYED
    names = set(re.findall(r"@keyframes (a\d+)", PLAYED))
    for last, name, _ in CHIP.findall(PLAYED):  # without animation: the last state
        assert not name or state(PLAYED, name, 100) == svg.LOSSES[int(last)]
        assert not name or name in names


def test_colors_are_those_of_the_heat_map():
    css = (Path(svg.__file__).parent / "page.css").read_text(encoding="utf-8")
    rules = re.findall(r"i\.l\d { background: (#\w+); color: (#\w+); }", css)
    assert rules == list(zip(svg.FILLS, svg.INKS, strict=True))


def test_rows_hold_losses_before_and_after_removal():
    preset = quick(PRESETS["stories"], steps=4)
    rows = moments.measure(preset, (0, 2, 4))
    assert list(rows) == list(moments.ROWS)
    for row in rows.values():
        assert [len(losses) for losses in row.losses] == [len(row.words) - 1] * 4
        assert len(row.means) == 4
        assert row.means[0] > row.means[2]  # it has learned
    before, after = rows["standard"].losses[-2:]
    assert before == pytest.approx(after, abs=1e-4)  # no pool
    before, after = rows["sinks"].losses[-2:]
    assert before != pytest.approx(after, abs=1e-4)
    assert rows["new"].words != rows["sinks"].words


def last_moments(row):
    """Return a row whose moments of training are all the last one."""
    method, kind = moments.ROWS[row]
    model = trained(method, PRESET.settings.train.steps)
    tokens, ids = moments.stories(model.corpus, kind)
    on, off = (
        predict(model.params, model.cfg, tokens, selection)[0]
        for selection in (own(model.cfg.sinks, ids), NO_SINKS)
    )
    losses = [on[0]] * len(moments.STEPS) + [off[0]]
    means = [on.mean()] * len(moments.STEPS) + [off.mean()]
    return moments.Row(model.corpus.text(tokens[0]).split(), losses, means, len(tokens))


@pytest.mark.slow
@pytest.mark.usefixtures("models")
def test_committed_figures_show_the_trained_models():
    again = pictures({row: last_moments(row) for row in moments.ROWS})
    for name, figure in FIGURES.items():
        new = again[f"{name}.svg"]
        words = [[w for *_, w in CHIP.findall(f)] for f in (figure, new)]
        assert words[0] == words[1]
        colors = [np.array([c for c, *_ in CHIP.findall(f)], int) for f in (figure, new)]
        assert (abs(colors[0] - colors[1]) <= 1).all()
        assert (colors[0] != colors[1]).mean() < 0.2  # other processors round differently
        numbers = [
            re.findall(r"\d\.\d\d", "".join(re.findall(r"<desc.*?/desc>|>\d\.\d\d nats", f)))
            for f in (figure, new)
        ]
        np.testing.assert_allclose(*(np.array(m, float) for m in numbers), atol=0.05)
