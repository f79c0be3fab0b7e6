"""One page of all results, to open without a server or a network: figures, claims, numbers, and the memory map.

There is no script on it.  What switches, switches by radio buttons and a style sheet, so it works by keyboard and
with scripts turned off.  Every text is escaped: a corpus is whatever its reader trained on.
"""

import base64
import importlib
import json
from bisect import bisect
from html import escape
from pathlib import Path
from typing import Any

from memsinks_np.config import require
from memsinks_np.experiments import EXPERIMENTS
from memsinks_np.memory_map import shared
from memsinks_np.report import Claim, number

EDGES = (0.05, 0.2, 0.5, 1, 1.5, 2, 3)  # nats per word, between the colours of the map
DAMAGED = "results of another version, or damaged: run it again"


def report_page(out: Path) -> str:
    """The page of every experiment that has results in `out`; ConfigError where none has."""
    names = [name for name in EXPERIMENTS if (out / name / "result.json").exists()]
    require(bool(names), f"--out {out}: no experiment has results there; run python run_toy.py first")
    links = "".join(f'<li><a href="#{name}">{name}</a></li>' for name in names)
    css = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    path = out / "headline" / "memory_map.json"
    memory = guarded(path.parent, lambda: memory_section(json.loads(path.read_text()))) if path.exists() else ""
    links += '<li><a href="#map">memory map</a></li>' if memory else ""
    sections = "\n".join(guarded(out / name, lambda name=name: section(out / name, name)) for name in names)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>memsinks_np: results</title>
<style>
{css}</style>
</head>
<body>
<header>
<h1>Memorization sinks: what was run here, and what it shows</h1>
<p>Losses are mean nats per word (per character on text). A claim that does not hold is shown like one that does,
with the likely reason. Values are means over seeds, with 95 % intervals where there are several.</p>
<nav aria-label="Experiments"><ul>{links}</ul></nav>
</header>
<main>
{sections}
{memory}
</main>
</body>
</html>
"""


def guarded(folder: Path, write: Any) -> str:
    """A part of the page, or a line in its place where its files cannot be read."""
    try:
        return write()
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return f'<section><h2>{escape(folder.name)}</h2><p class="fails">{escape(str(folder))}: {DAMAGED}</p></section>'


def section(folder: Path, name: str) -> str:
    """One experiment: what it asks, its figure, its claims, its numbers, how it was run."""
    read = lambda file: json.loads((folder / file).read_text(encoding="utf-8"))
    about, claims = EXPERIMENTS[name], [Claim(**c) for c in read("claims.json")]
    numbers = importlib.import_module(f"memsinks_np.experiments.{name}").tabulate(read("result.json"))
    image = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
    settings = escape(json.dumps(read("config.json"), indent=1))
    return f"""<section id="{name}">
<h2>{name}: {escape(about.what)}</h2>
<p class="source">{escape(about.source)}; <code>python run_toy.py {name}</code></p>
<figure><img alt="{escape(about.what)} The claims say what it shows." src="data:image/svg+xml;base64,{image}"></figure>
{claims_table(claims)}
<details><summary>The numbers</summary>{tables(numbers)}</details>
<details><summary>The settings</summary><pre>{settings}</pre></details>
</section>"""


def claims_table(claims: list[Claim]) -> str:
    """A row per claim; on a narrow screen each cell says what it is (data-label)."""
    labels = ("claim", "paper", "here", "verdict")
    lines = ""
    for c in claims:
        cells = (escape(c.text), escape(c.paper), escape(c.here), verdict(c))
        row = [f'<td data-label="{label}">{cell}</td>' for label, cell in zip(labels, cells, strict=True)]
        lines += f"<tr>{''.join(row)}</tr>\n"
    head = "".join(f'<th scope="col">{label}</th>' for label in labels)
    return f'<div class="scroll" tabindex="0"><table class="claims"><tr>{head}</tr>\n{lines}</table></div>'


def verdict(c: Claim) -> str:
    if c.holds:
        return '<span class="holds">holds</span>'
    return '<span class="fails">fails</span>' + (f", likely because {escape(c.why)}" if c.why else "")


def tables(markdown: str) -> str:
    """Markdown tables (report.table), one after the other, as HTML."""
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.strip().startswith("|")]
    return "\n".join(f'<div class="scroll" tabindex="0"><table class="numbers">{body(b)}</table></div>' for b in blocks)


def body(lines: list[str]) -> str:
    cells = [[escape(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines]
    head, _, *rows = cells
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    rest = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{c}</td>" for c in more) + "</tr>\n"
        for first, *more in rows
    )
    return f"<tr>{top}</tr>\n{rest}"


def memory_section(m: dict[str, Any]) -> str:
    """The repeated sequences, every word in the colour of its loss, and for each the sinks that it owns."""
    choices = ""
    for i, version in enumerate(m["losses"]):
        first = " checked" if i == 0 else ""
        choices += f'<label><input type="radio" name="version" id="version{i}"{first}> {escape(version)}</label>'
    legend = "".join(f'<i class="l{k}">{edge}</i>' for k, edge in enumerate(["&lt; 0.05", *EDGES]))
    floor = f"; the entropy floor is {m['floor']:.2f} on average" if m["floor"] is not None else ""
    stories = "\n".join(f"<li>{story(m, i)}</li>" for i in range(len(m["words"])))
    return f"""<section id="map" class="map">
<h2>The memory map: who knows which word?</h2>
<p>The repeated sequences of seed 0. The darker a word, the less it surprises the model: dark from end to end is known
by heart. The first word is given and has no loss.</p>
<fieldset><legend>Show the losses of</legend>{choices}</fieldset>
<p class="legend">nats: {legend} and more{floor}</p>
<ol start="0">
{stories}
</ol>
</section>"""


def story(m: dict[str, Any], i: int) -> str:
    """One sequence in every version, its sinks, and the numbers behind the colours."""
    first, *words = map(escape, m["words"][i])
    between = m["separator"]
    versions = []
    for k, losses in enumerate(m["losses"].values()):
        row = losses[i]
        spans = between.join(
            f'<i class="l{bisect(EDGES, x)}" title="{x}">{w}</i>' for w, x in zip(words, row, strict=True)
        )
        versions.append(f'<span class="version v{k}">{first}{between}{spans} ({sum(row) / len(row):.2f})</span>')
    more = f"<summary>sinks and numbers of sequence {i}</summary>{owned(m['sinks'], i)}{numbers(m, i)}"
    return f"{''.join(versions)}<details>{more}</details>"


def owned(sinks: list[list[list[int]]], i: int) -> str:
    """The sinks of a sequence, layer by layer, and who shares them."""
    if not sinks[0]:
        return '<p class="note">This pool gives every sequence a mask, not a list of sinks.</p>'
    alike = all(layer == sinks[0] for layer in sinks)
    parts = []
    for layer, of in enumerate(sinks[:1] if alike else sinks):
        name = "In every layer, the same" if alike else f"In layer {layer}"
        others = ", ".join(f"sequence {j} ({', '.join(map(str, common))})" for j, common in shared(of, i).items())
        parts.append(f"<p>{name}: {', '.join(map(str, of[i]))}.</p><p>Shared with {others or 'no other sequence'}.</p>")
    return "".join(parts)


def numbers(m: dict[str, Any], i: int) -> str:
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in ("word", *m["losses"]))
    columns = [losses[i] for losses in m["losses"].values()]
    rows = "".join(
        f'<tr><th scope="row">{escape(word)}</th>' + "".join(f"<td>{number(x, 2)}</td>" for x in row) + "</tr>\n"
        for word, *row in zip(m["words"][i][1:], *columns, strict=True)
    )
    return f'<div class="scroll" tabindex="0"><table class="numbers"><tr>{head}</tr>\n{rows}</table></div>'
