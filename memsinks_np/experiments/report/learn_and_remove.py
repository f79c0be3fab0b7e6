"""A story that three models learn, and that one of them forgets: a figure that plays by itself."""

from collections.abc import Mapping, Sequence

from memsinks_np.experiments.report.moments import Row
from memsinks_np.experiments.report.svg import (
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

SIZE = (420, 488)
LEFT, END = 12, 408
FONT = 14  # size of the words
N_LINES = 2  # of words of a story
TOP, HEIGHT = 96, 90  # of the first row, and of each row
# percent of a round: how long the first moment and each of the next last, when sinks are removed
FIRST, NEXT, REMOVED = 15, 2.5, 65
SECONDS, ROUNDS = 13, 2
LABELS = {
    "standard": "Standard training",
    "sinks": "With sinks",
    "retrained": "Never saw the story",
    "new": "With sinks, a new story",
}
TITLE = "A story is learned, then removed"


class Animations:
    """CSS animations, each written once: what a property is at each moment."""

    def __init__(self, n_moments: int) -> None:
        learning = [FIRST + NEXT * k for k in range(n_moments - 2)]
        self.starts = [0, *learning, REMOVED]
        self.names: dict[tuple[str, ...], str] = {}

    def name(self, states: Sequence[str]) -> str:
        """Return the class that plays these states and ends with the last."""
        key = tuple(states)
        if len(set(key)) == 1:
            return ""
        return self.names.setdefault(key, f"a{len(self.names)}")

    def css(self) -> str:
        """Return all rules. A state lasts until the next that differs."""
        rules = []
        for states, name in self.names.items():
            frames = ""
            for k, (start, state) in enumerate(zip(self.starts, states, strict=True)):
                if k == 0 or state != states[k - 1]:
                    frames += f"{start:g}%{{{state}}}"
            rules.append(f"@keyframes {name}{{{frames}}}.{name}{{animation-name:{name}}}")
        return "".join(rules)


def learn_and_remove(rows: Mapping[str, Row], steps: Sequence[int]) -> str:
    """Return the figure as SVG: it needs no script, and stops after two rounds."""
    moments = Animations(len(steps) + 1)
    body = caption(steps, moments)
    for k, name in enumerate(LABELS):
        body += story(name, rows[name], TOP + HEIGHT * k, moments)
    means = f"Nats per word: mean of {rows['sinks'].n} stories (new: {rows['new'].n})"
    body.append(text(LEFT, SIZE[1] - 14, means, "soft"))
    light, dark = colors(dark=False), colors(dark=True)
    style = (
        f"text{{font:14px {SANS}}}.b{{font-weight:700}}.h{{font-weight:700;font-size:19px}}"
        f".n{{font-size:15px}}.e{{text-anchor:end}}"
        f"g text{{font:{FONT}px {MONO};text-anchor:middle}}"
        "g rect{fill:currentColor}.hide{opacity:0}"
        f"{light}@media(prefers-color-scheme:dark){{{dark}}}"
        + "".join(f".l{k}{{{both}}}" for k, both in enumerate(LOSSES))
        + f"g,text{{animation:{SECONDS}s step-end {ROUNDS}}}"
        + moments.css()
        + "@media(prefers-reduced-motion:reduce){g,text{animation:none!important}}"
    )
    return document(SIZE, TITLE, about(rows, steps), style, body)


def about(rows: Mapping[str, Row], steps: Sequence[int]) -> str:
    """Return the figure in words."""
    standard, sinks, retrained, new = (rows[name].means for name in LABELS)
    return (
        f"Words of a repeated story in the color of their loss, at {len(steps)} moments of "
        f"{steps[-1]:,} training steps. Mean over all repeated stories in nats per word at the "
        f"end: standard training {standard[-1]:.2f}; with sinks {sinks[-2]:.2f}, then "
        f"{sinks[-1]:.2f} when the sinks are removed; a model that never saw them "
        f"{retrained[-1]:.2f}. New stories: {new[-2]:.2f}, then {new[-1]:.2f}."
    )


def one_of(texts: Sequence[str], x: float, y: float, classes: str, moments: Animations) -> str:
    """Return texts of which each is visible while it is the current one."""
    parts = []
    for each in dict.fromkeys(texts):
        states = [f"opacity:{int(each == current)}" for current in texts]
        visible = "" if each == texts[-1] else " hide"
        parts.append(text(x, y, each, f"{classes}{visible} {moments.name(states)}".strip()))
    return "".join(parts)


def caption(steps: Sequence[int], moments: Animations) -> list[str]:
    """Return the title, what happens now, and what the colors mean."""
    now = [f"Training step {step:,}: dark words are known" for step in steps]
    now[0] = f"Training step {steps[0]}: every word is a surprise"
    now[-1] = f"Training step {steps[-1]:,}: two know the story"
    return [
        text(LEFT, 28, TITLE, "h ink"),
        one_of([*now, "Sinks removed: story gone, skill kept"], LEFT, 52, "b ink n", moments),
        text(LEFT, 76, "expected", "soft"),
        scale(LEFT + 72, 64, 14),
        text(LEFT + 192, 76, "a surprise (3 nats or more)", "soft"),
    ]


def story(name: str, row: Row, y: float, moments: Animations) -> list[str]:
    """Return a row: its label, the mean loss, and the words in the colors of their losses."""
    parts = [
        text(LEFT, y + 15, LABELS[name], "b ink"),
        one_of([f"{mean:.2f}" for mean in row.means], END, y + 15, "b ink e", moments),
    ]
    if name == "sinks":
        states = ["sinks on"] * (len(row.means) - 1) + ["sinks removed"]
        parts.append(one_of(states, LEFT + 100, y + 15, "b second", moments))
    places = flow(row.words[1:], LEFT, y + 22, END - LEFT, FONT)
    lines = sorted({top for _, top, _ in places})[:N_LINES]
    for k, place in enumerate(places):
        if place[1] in lines:
            bins = [bin_of(losses[k]) for losses in row.losses]
            classes = f"l{bins[-1]} {moments.name([LOSSES[b] for b in bins])}".strip()
            parts.append(f'<g class="{classes}">{chip(row.words[k + 1], place, FONT)}</g>')
    return parts
