"""The method in one figure: IDs, active sinks, learning and forgetting, removal."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.typing import Floats
from memsinks_np.config import SinkConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import simulations
from memsinks_np.experiments.methods import Preset
from memsinks_np.experiments.report.moments import Row
from memsinks_np.experiments.report.svg import (
    COLORS,
    LOSSES,
    MONO,
    SANS,
    bin_of,
    chip,
    colors,
    document,
    flow,
    scale,
    text,
)
from memsinks_np.sinks import active

SIZE = (686, 586)
LEFT, RIGHT, END = 14, 362, 672  # of the panels
COLUMNS, CELL, SQUARE = 64, 4.5, 3.2  # of the drawn pool: sinks per line, their distance, size
LIT, LIFT = 6.4, 1.6  # size of an active sink, and what it is larger at each side
PERIOD, N_STEPS = 40, 400  # of the simulated layer
WORDS = slice(8, 14)  # of the story in panel 4: its second sentence
VERSIONS = {  # label -> row, moment
    "its sinks on": ("sinks", -2),
    "sinks removed": ("sinks", -1),
    "never saw it": ("retrained", -1),
}
TITLE = "How memorization sinks work"


class Pair(NamedTuple):
    """The first sequence, the one that shares most sinks with it, and what each activates."""

    other: int
    texts: tuple[str, str]
    sinks: tuple[NDArray[np.int64], NDArray[np.int64]]
    both: NDArray[np.int64]


def pair(preset: Preset) -> Pair:
    """Return the first sequence and the one that shares most sinks with it."""
    corpus = load_corpus(preset.settings.data)
    index = active(preset.sinks, corpus.repeated_ids)
    shared = [len(np.intersect1d(index[0], row)) for row in index[1:]]
    other = 1 + int(np.argmax(shared))
    texts = corpus.text(corpus.repeated[0]), corpus.text(corpus.repeated[other])
    both = np.intersect1d(index[0], index[other])
    return Pair(other, texts, (index[0], index[other]), both)


def accumulation() -> simulations.Accumulation:
    """Return the run of panel 3: one layer, of which 10 % of the others activate the sinks."""
    return simulations.accumulation(
        0.1, steps=N_STEPS, period=PERIOD, lr=0.3, width=16, n_words=50, seed=0
    )


def mechanism(preset: Preset, rows: Mapping[str, Row], dark: bool) -> str:
    """Return the figure as SVG."""
    two = pair(preset)
    style = (
        f"text{{font:17px {SANS};fill:{COLORS['ink'][dark]}}}.b{{font-weight:700}}"
        f".h{{font-weight:700;font-size:20px}}.s{{font-size:16px}}.m{{text-anchor:middle}}"
        f".e{{text-anchor:end}}g text{{font:15px {MONO};text-anchor:middle;fill:inherit}}"
        "g rect{fill:currentColor}path,polyline{fill:none}.on{font-weight:700;text-anchor:middle}"
        + colors(dark)
        + "".join(f".l{k}{{{both}}}" for k, both in enumerate(LOSSES))
    )
    body = [
        *heading(LEFT, 20, 1, "A sequence has an ID."),
        *heading(RIGHT, 20, 2, "The ID turns on its sinks."),
        *heading(LEFT, 290, 3, "Its sinks memorize it."),
        *heading(RIGHT, 290, 4, "No sinks, no memory."),
        *identities(two, dark),
        *pool(preset.sinks, preset.n_shared, two, dark),
        *memory(dark),
        *removal(rows),
    ]
    return document(SIZE, TITLE, about(preset, two, rows), style, body)


def about(preset: Preset, two: Pair, rows: Mapping[str, Row]) -> str:
    """Return the figure in words."""
    S, A = preset.sinks.n_sink, preset.sinks.n_active
    on, removed, never = (rows[row].means[moment] for row, moment in VERSIONS.values())
    return (
        f"1. Every sequence has an ID. 2. The ID turns on {A} of {S:,} sinks; sequences 0 and "
        f"{two.other} share {len(two.both)} of them. All sequences use {preset.n_shared} shared "
        "neurons. 3. In a simulated layer, each showing of a sequence raises what shared neurons "
        "and sinks know of it; other sequences lower it in the shared neurons, and rarely in the "
        f"sinks. 4. Mean loss of all repeated stories in nats per word: {on:.2f} with sinks on, "
        f"{removed:.2f} with the sinks removed, {never:.2f} in a model that never saw them."
    )


def heading(x: float, y: float, n: int, title: str) -> list[str]:
    """Return a numbered title."""
    disc = f'<circle cx="{x + 13}" cy="{y + 13}" r="13" class="ink"/>'
    return [disc, text(x + 13, y + 19, str(n), "b m page"), text(x + 34, y + 20, title, "h")]


def identities(two: Pair, dark: bool) -> list[str]:
    """Return two sequences, and lines from their IDs to the pool."""
    parts = []
    numbers = zip((0, two.other), two.texts, ("first", "second"), (60, 146), (84, 186), strict=True)
    for i, words, name, y, end in numbers:
        line, x, mid = split(words, 20), LEFT + 284, y + 32
        parts += [
            f'<rect x="{LEFT}" y="{y}" width="220" height="64" rx="7" class="card"/>',
            text(LEFT + 11, y + 27, line[0], ""),
            text(LEFT + 11, y + 50, f"{line[1]} …", ""),
            f'<path d="M{x} {mid}c30 0 26 {end - mid} 56 {end - mid}" stroke-width="2.5" '
            f'stroke="{COLORS[name][dark]}"/>',
            f'<rect x="{x - 66}" y="{y + 16}" width="66" height="32" rx="16" class="{name}"/>',
            text(x - 33, y + 38, f"ID {i}", "b m page"),
        ]
    return parts


def split(words: str, width: int) -> list[str]:
    """Return the first two lines of a text."""
    words = words.replace(" .", ".")
    first = words.rfind(" ", 0, width + 1)
    second = words.rfind(" ", 0, first + width)
    return [words[:first], words[first + 1 : second]]


def pool(cfg: SinkConfig, n_shared: int, two: Pair, dark: bool) -> list[str]:
    """Return the pool with the active sinks of two sequences, and the shared neurons."""
    x, y, lines = RIGHT, 60, cfg.n_sink // COLUMNS
    width = n_shared // lines * CELL
    blocks = (("pool", x, COLUMNS * CELL, "off"), ("shared", END - width, width, "shared"))
    parts = [
        f'<pattern id="{name}" x="{left:g}" y="{y}" width="{CELL}" height="{CELL}" '
        f'patternUnits="userSpaceOnUse"><rect width="{SQUARE}" height="{SQUARE}" class="{color}"/>'
        f'</pattern><rect x="{left:g}" y="{y}" width="{w:g}" height="{lines * CELL:g}" '
        f'fill="url(#{name})"/>'
        for name, left, w, color in blocks
    ]
    only = [np.setdiff1d(sinks, two.both) for sinks in two.sinks]
    for sinks, name in ((only[0], "first"), (only[1], "second"), (two.both, "ink")):
        squares = "".join(
            f"M{x + n % COLUMNS * CELL - LIFT:.1f} {y + n // COLUMNS * CELL - LIFT:.1f}"
            f"h{LIT}v{LIT}h-{LIT}z"
            for n in sinks.tolist()
        )
        parts.append(f'<path id="{name}" d="{squares}" style="fill:{COLORS[name][dark]}"/>')
    return [
        *parts,
        text(x, 226, f"a pool of {cfg.n_sink:,} sinks", "s soft"),
        text(x, 249, f"{cfg.n_active} for each ID, {len(two.both)} in both", "s soft"),
        text(END, 226, f"{n_shared} shared", "s soft e"),
        text(END, 249, "by all", "s soft e"),
    ]


def memory(dark: bool) -> list[str]:
    """Return what shared neurons and sinks know of a sequence, in a simulated layer."""
    x, y, w, h = LEFT, 328, 304, 150
    run = accumulation()
    top = 1.05 * max(run.sink.max(), run.shared.max())
    ticks = "".join(f"M{x + w * k / N_STEPS:g} {y + h}v7" for k in range(0, N_STEPS, PERIOD))
    lines = [
        f'<polyline id="{name}" points="{points(values / top, x, y, w, h)}" stroke-width="2.5" '
        f'stroke="{COLORS[color][dark]}"/>'
        for name, values, color in (("tooth", run.shared, "shared"), ("stair", run.sink, "first"))
    ]
    return [
        f'<path d="M{x} {y + h}h{w}{ticks}" stroke="{COLORS["soft"][dark]}" stroke-width="1.5"/>',
        *lines,
        text(x + 2, y + 18, "its sinks: used by few", "b s first"),
        text(x + w, y + h - 8, "shared neurons: by all", "b s e soft"),
        text(x, y + h + 30, "memory of a sequence that", "s soft"),
        text(x, y + h + 52, "is shown at each tick (simulated)", "s soft"),
    ]


def points(values: Floats, x: float, y: float, w: float, h: float) -> str:
    """Return the points of a line whose values are from 0 to 1."""
    return " ".join(
        f"{x + w * i / len(values):.1f},{y + h * (1 - v):.1f}"
        for i, v in enumerate(np.maximum(values, 0).tolist())
    )


def removal(rows: Mapping[str, Row]) -> list[str]:
    """Return the same words in three models, and the means over all stories."""
    parts, y = [], 328
    for label, (name, moment) in VERSIONS.items():
        row = rows[name]
        mean = f"{row.means[moment]:.2f} nats per word"
        parts += [text(RIGHT, y + 15, label, "b s"), text(END, y + 15, mean, "s soft e")]
        parts += words_in_color(row.words[1:][WORDS], row.losses[moment][WORDS], RIGHT, y + 23)
        y += 58
    on, off = rows["new"].means[-2:]
    return [
        *parts,
        text(RIGHT, y + 14, "known", "s soft"),
        scale(RIGHT + 57, y + 3, 12),
        text(RIGHT + 160, y + 14, "surprising", "s soft"),
        text(RIGHT, y + 39, f"numbers: means of {rows['sinks'].n} stories", "s soft"),
        text(RIGHT, y + 65, f"New stories stay: {on:.2f} → {off:.2f}", "b s"),
    ]


def words_in_color(words: Sequence[str], losses: Sequence[float], x: float, y: float) -> list[str]:
    """Return words in the colors of their losses."""
    return [
        f'<g class="l{bin_of(loss)}">{chip(word, place, 15)}</g>'
        for word, loss, place in zip(words, losses, flow(words, x, y, END - x, 15), strict=True)
    ]
