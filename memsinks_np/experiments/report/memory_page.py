"""The memory map as HTML: every word in the colour of its loss, and for each sequence the sinks that it owns.

There is no script: radio buttons and report_page.css choose which version is seen.
"""

from bisect import bisect
from html import escape
from itertools import pairwise
from typing import Any

from memsinks_np._internal.tables import number
from memsinks_np.experiments.report.claims import html_table
from memsinks_np.experiments.report.loss_map import shared

EDGES = (0.05, 0.2, 0.5, 1, 1.5, 2, 3)  # nats, between the colours of the map


def memory_section(m: dict[str, Any], name: str) -> str:
    """The map of what experiment `name` left in memory_map.json."""
    choices = "".join(
        f'<label><input type="radio" name="{name}-version" value="{k}"{"" if k else " checked"}> {escape(version)}'
        "</label>"
        for k, version in enumerate(m["losses"])
    )
    stories = "\n".join(f"<li>{story(m, i)}</li>" for i in range(len(m["words"])))
    what = "word" if m["separator"] else "character"
    return f"""<section id="{name}-map" class="map{"" if m["separator"] else " characters"}">
<h2>The memory map of {name}: who knows which {what}?</h2>
<p>The repeated sequences of seed 0. The darker a {what}, the less it surprises the model. What is dark for a model
retrained without them too can be guessed; what is dark only for the others was learnt by heart. The first {what} is
given and has no loss; the mean over the others stands at the end.</p>
<fieldset><legend>Show the losses of</legend>{choices}</fieldset>
<p class="legend">nats per {what}: {legend(m["floor"])}</p>
<ol start="0">
{stories}
</ol>
</section>"""


def legend(floor: float | None) -> str:
    """The colours and what they stand for; the one in which the entropy floor lies says so."""
    texts = [f"under {EDGES[0]}", *(f"{a} to {b}" for a, b in pairwise(EDGES))]
    texts.append(f"{EDGES[-1]} and more")
    if floor is not None:
        texts[bisect(EDGES, floor)] += f" (entropy floor: {floor:.2f} on average)"
    return " ".join(f'<i class="l{k}">{text}</i>' for k, text in enumerate(texts))


def story(m: dict[str, Any], i: int) -> str:
    """One sequence in every version, its sinks, and the numbers behind the colours."""
    first, *words = (escape(word.replace("\n", "↵")) for word in m["words"][i])
    versions = []
    for k, (version, losses) in enumerate(m["losses"].items()):
        row, between = losses[i], m["separator"]
        spans = between.join(
            f'<i class="l{bisect(EDGES, x)}" title="{x:.2f}">{w}</i>' for w, x in zip(words, row, strict=True)
        )
        mean = f'<span class="note">({sum(row) / len(row):.2f})</span>'
        versions.append(
            f'<span class="version v{k}" data-version="{escape(version)}">{first}{between}{spans} {mean}</span>'
        )
    more = f"<summary>sinks and numbers of sequence {i}</summary>{owned(m['sinks'], i)}{numbers(m, i)}"
    return f"{''.join(versions)}<details>{more}</details>"


def owned(sinks: list[list[list[int]]], i: int) -> str:
    """The sinks of a sequence, layer by layer, and who shares them."""
    if not sinks[0]:
        return '<p class="note">This pool gives every sequence a mask, not a list of sinks.</p>'
    alike = all(layer == sinks[0] for layer in sinks)
    parts = []
    for layer, of in enumerate(sinks[:1] if alike else sinks):
        where = "in every layer, the same" if alike else f"in layer {layer}"
        others = ", ".join(f"{j} ({', '.join(map(str, common))})" for j, common in shared(of, i).items())
        told = f"{len(shared(of, i))} of the {len(of) - 1} other sequences share some: {others}." if others else ""
        parts.append(f"<p>It owns {len(of[i])} sinks {where}: {', '.join(map(str, of[i]))}.</p>")
        parts.append(f"<p>{told or 'No other sequence shares them.'}</p>")
    return "".join(parts)


def numbers(m: dict[str, Any], i: int) -> str:
    columns = [losses[i] for losses in m["losses"].values()]
    rows = [
        [word.replace("\n", "↵").replace(" ", "␣"), *(number(x, 2) for x in row)]
        for word, *row in zip(m["words"][i][1:], *columns, strict=True)
    ]
    return html_table(["word" if m["separator"] else "character", *m["losses"]], rows, f"Losses of sequence {i}")
