"""A heat map of losses as HTML: each token of the repeated sequences in the color of its loss.

There is no script: radio buttons and page.css choose which version is visible.
"""

from bisect import bisect
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from memsinks_np._internal.tables import html_table, number, visible
from memsinks_np.config import SinkConfig
from memsinks_np.data.corpus import Corpus
from memsinks_np.metrics import predict
from memsinks_np.sinks import NO_SINKS, Rows, own
from memsinks_np.trained import Model

VERSIONS = {  # label -> method, sinks
    "standard": ("standard", "removed"),
    "own sinks on": ("sinks", "own"),
    "sinks removed": ("sinks", "removed"),
    "retrained": ("retrained", "removed"),
}
MAX_SEQUENCES = 64
TOGETHER = 3  # sequences that the page shows in all versions, one under the other
EDGES = (0.05, 0.2, 0.5, 1, 1.5, 2, 3)  # nats, between the colors
HEART_EDGES = (0.2, 0.5, 1, 2)


def token_losses(model: Model) -> dict[str, list[list[float]]]:
    """Return the loss of each token of the repeated sequences in nats, in a worker."""
    params, cfg, corpus = model.params, model.cfg, model.corpus
    assert corpus
    tokens, ids = corpus.repeated[:MAX_SEQUENCES], corpus.repeated_ids[:MAX_SEQUENCES]
    return {
        name: np.round(predict(params, cfg, tokens, selection)[0], 2).tolist()
        for name, selection in (("own", own(cfg.sinks, ids)), ("removed", NO_SINKS))
    }


def make_map(
    pool: SinkConfig | None, corpus: Corpus, losses: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return everything that the page shows, as JSON; `losses` are each method's token losses."""
    tokens, ids = corpus.repeated[:MAX_SEQUENCES], corpus.repeated_ids[:MAX_SEQUENCES]
    selection, natural = own(pool, ids), tokens[: corpus.n_evaluated]
    return {
        "words": [[corpus.vocab[i] for i in row] for row in tokens.tolist()],
        "separator": corpus.separator,
        "entropy": corpus.entropy(natural) if corpus.entropy else None,
        "losses": {text: losses[method][sinks] for text, (method, sinks) in VERSIONS.items()},
        "sinks": selection.index.tolist() if isinstance(selection, Rows) else [],
    }


def map_section(m: dict[str, Any], name: str) -> str:
    """Return an experiment's heat map: the first sequences in all versions, then the others."""
    n, unit = len(m["words"]), "word" if m["separator"] else "character"
    items = [f"<li>{sequence(m, i)}</li>" for i in range(n)]
    first, others = "\n".join(items[:TOGETHER]), "\n".join(items[TOGETHER:])
    choices = "".join(
        f'<label><input type="radio" name="{name}-version" value="{k}"'
        f"{'' if k else ' checked'}> {escape(version.text)}</label>"
        for k, version in enumerate(versions_of(m))
    )
    more = f"""<details class="others"><summary>The other {n - TOGETHER} sequences</summary>
<fieldset><legend>Show</legend>{choices}</fieldset>
<ol start="{TOGETHER}">
{others}
</ol>
</details>"""
    return f"""<section id="{name}-map" class="map{"" if m["separator"] else " characters"}">
<h3>Loss heat map: which model knows which {unit}?</h3>
<p>The repeated sequences of seed 0. The darker a {unit}, the lower its loss. Where the retrained
model is dark too, the {unit} can be guessed; where only the others are dark, they learned it from
the repeated sequences. The lines "by heart" show this as a difference, the redder the larger: the
loss of the retrained model minus that of a version. The first {unit} is given and has no loss; the
mean of the others follows each line.</p>
<p class="legend">nats per {unit}: {legend(EDGES, "l", m["entropy"])}</p>
<p class="legend">by heart: {legend(HEART_EDGES, "h")}</p>
<ol start="0" class="together">
{first}
</ol>
{more if others else ""}
</section>"""


class Version(NamedTuple):
    """One way to color every token: by its loss, or by the loss that is learned by heart."""

    text: str
    values: list[list[float]]
    edges: tuple[float, ...]
    kind: str  # of the colors in page.css


def versions_of(m: dict[str, Any]) -> list[Version]:
    """Return all losses, then what each version but the last (retrained) has learned by heart."""
    *others, (_, last) = m["losses"].items()
    losses = [Version(text, values, EDGES, "l") for text, values in m["losses"].items()]
    for text, values in others:
        saved = [
            [b - a for a, b in zip(*rows, strict=True)] for rows in zip(values, last, strict=True)
        ]
        losses.append(Version(f"by heart: {text}", saved, HEART_EDGES, "h"))
    return losses


def legend(edges: tuple[float, ...], kind: str, entropy: float | None = None) -> str:
    """Return the colors and their ranges; the range of the entropy is marked."""
    texts = [f"under {edges[0]}", *(f"{a} to {b}" for a, b in pairwise(edges))]
    texts.append(f"{edges[-1]} and more")
    if entropy is not None:
        texts[bisect(edges, entropy)] += f" (entropy floor: {entropy:.2f} on average)"
    return " ".join(f'<i class="{kind}{k}">{text}</i>' for k, text in enumerate(texts))


def sequence(m: dict[str, Any], i: int) -> str:
    """Return one sequence in every version, its sinks, and the numbers behind the colors."""
    first, *words = (escape(visible(word)) for word in m["words"][i])
    between, lines = escape(visible(m["separator"])), []
    for k, (text, values, edges, kind) in enumerate(versions_of(m)):
        row = values[i]
        spans = between.join(
            f'<i class="{kind}{bisect(edges, x)}" title="{x:.2f}">{w}</i>'
            for w, x in zip(words, row, strict=True)
        )
        mean = f'<span class="note">({sum(row) / len(row):.2f})</span>'
        data = f'class="version v{k}" data-version="{escape(text)}"'
        lines.append(f"<span {data}>{first}{between}{spans} {mean}</span>")
    title = f"<summary>sinks and numbers of sequence {i}</summary>"
    details = f"<details>{title}{sinks_of(m['sinks'], i)}{numbers(m, i)}</details>"
    return "".join(lines) + details


def sinks_of(sinks: list[list[int]], i: int) -> str:
    """Return the sinks of a sequence, and which other sequences share some."""
    if not sinks:
        return '<p class="note">This pool gives every sequence a mask, not a list of sinks.</p>'
    others = shared(sinks, i)
    text = "No other sequence shares them."
    if others:
        each = ", ".join(f"{j} ({', '.join(map(str, both))})" for j, both in others.items())
        text = f"{len(others)} of the {len(sinks) - 1} other sequences share some: {each}."
    own_sinks = ", ".join(f"{k:d}" for k in sinks[i])  # fails unless the file holds integers
    line = f"{len(sinks[i])} sinks, the same in every layer: {own_sinks}."
    return f"<p>{line}</p><p>{text}</p>"


def shared(sinks: list[list[int]], i: int) -> dict[int, list[int]]:
    """Return the sequences that share sinks with sequence i, most first, and those sinks."""
    common = {j: sorted({*sinks[i]} & {*other}) for j, other in enumerate(sinks) if j != i}
    return dict(sorted(((j, s) for j, s in common.items() if s), key=lambda x: (-len(x[1]), x[0])))


def numbers(m: dict[str, Any], i: int) -> str:
    """Return a table of the losses of one sequence."""
    columns = [losses[i] for losses in m["losses"].values()]
    rows = [
        [visible(word).replace(" ", "␣"), *(number(x, 2) for x in row)]
        for word, *row in zip(m["words"][i][1:], *columns, strict=True)
    ]
    header = ["word" if m["separator"] else "character", *m["losses"]]
    return html_table(header, rows, f"Losses of sequence {i}")
