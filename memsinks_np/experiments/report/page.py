"""One page with all results, report.html. It needs no server, no network and no scripts.

It can be used by keyboard. All text is escaped, since a corpus may be any text.
"""

import base64
import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from memsinks_np._internal.tables import html_table
from memsinks_np.experiments.methods import NAMES
from memsinks_np.experiments.registry import EXPERIMENTS
from memsinks_np.experiments.report.claims import QUICK, Claim, finished
from memsinks_np.experiments.report.loss_map import map_section

DAMAGED = "results of another version, or damaged: run it again"


def report_page(out: Path) -> str:
    """Return the page of all experiments with results in `out`. ConfigError if none has."""
    names = finished(out)
    css = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    links, sections = "", ""
    for name in names:
        held = section_or_error(partial(claims_held, out / name), "damaged")
        links += f'<li><a href="#{name}">{name}</a> <span class="note">{held}</span></li>'
        error = error_section(name, name, out / name)
        sections += section_or_error(partial(section, out / name, name), error)
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
<h1>Memorization sinks: results of these runs</h1>
<p>Small language models were trained with memorization sinks and with other methods. Then the sinks
were removed: what is forgotten, what stays? {outcome(out, names)}</p>
<p>Losses are mean nats per word (per character on text). Values are means over seeds, with 95 %
intervals where there are several seeds. Claims that fail are listed like those that hold, with the
likely reason. The number after each experiment is how many of its claims hold.</p>
<nav id="contents" aria-label="Experiments"><ul>{links}
<li><a href="#methods">the methods</a></li></ul></nav>
</header>
<main>
{sections}{methods_section()}
</main>
</body>
</html>
"""


def outcome(out: Path, names: list[str]) -> str:
    """Return how many claims hold, without those of --quick, and what the headline found."""
    claims: dict[str, list[Claim]] = {}
    for name in names:
        with suppress(Exception):  # a damaged file can raise anything; its section says so
            if not read(out / name / "config.json").get("quick"):
                claims[name] = [Claim(**c) for c in read(out / name / "claims.json")]
    holds = [c.holds for each in claims.values() for c in each]
    if not holds:
        return "No full run is on this page, so no claim is decided."
    found = [c.text for c in claims.get("headline", []) if c.holds and c.text.startswith("with ")]
    headline = f" In the headline, {'; '.join(map(escape, found))}." if found else ""
    return f"{sum(holds)} of {len(holds)} claims hold.{headline}"


def section_or_error(write: Callable[[], str], error: str) -> str:
    """Return a part of the page, or the error text if its files cannot be read."""
    try:
        return write()
    except Exception:  # a damaged file can raise anything
        return error


def error_section(anchor: str, title: str, path: Path) -> str:
    """Return a section that names the damaged files."""
    return f'<section id="{anchor}">{heading(title)}{error_line(path)}</section>\n'


def error_line(path: Path) -> str:
    """Return a paragraph that names the damaged files."""
    return f'<p class="fails">{escape(str(path))}: {DAMAGED}</p>'


def heading(title: str) -> str:
    """Return the heading of a section, with a link back to the contents."""
    return f'<h2>{escape(title)} <a class="up" href="#contents">↑ contents</a></h2>'


def methods_section() -> str:
    """Return what each method is."""
    rows = "\n".join(f"<dt>{escape(n)}</dt><dd>{escape(text)}</dd>" for n, text in NAMES.values())
    return f"""<section id="methods">
{heading("The methods")}
<dl>
{rows}
</dl>
</section>"""


def read(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sample_section(sample: str) -> str:
    """Return text that models generated, a box for each sequence or fact."""
    blocks = "\n".join(f"<p>{escape(block)}</p>" for block in sample.strip().split("\n\n"))
    return f'<h3>What the models say</h3>\n<div class="sample">{blocks}</div>\n'


def sample_and_map(folder: Path, name: str) -> str:
    """Return what models say and an experiment's loss heat map, where there are any."""
    parts, sample, path = "", folder / "samples.txt", folder / "loss_map.json"
    if sample.exists():
        parts += sample_section(sample.read_text(encoding="utf-8"))
    if path.exists():
        parts += section_or_error(lambda: map_section(read(path), name), error_line(path))
    return parts


def claims_held(folder: Path) -> str:
    """Return how many of an experiment's claims hold, or "--quick"."""
    holds = [Claim(**c).holds for c in read(folder / "claims.json")]
    quick = read(folder / "config.json").get("quick")
    return "--quick" if quick else f"{sum(holds)} of {len(holds)}"


def section(folder: Path, name: str) -> str:
    """Return the section of one experiment: sample, heat map, figure, claims, numbers, settings."""
    info, config = EXPERIMENTS[name], read(folder / "config.json")
    claims = [Claim(**c) for c in read(folder / "claims.json")]
    numbers = (folder / "numbers.md").read_text(encoding="utf-8")
    svg = (folder / f"{name}.svg").read_bytes()
    width = re.search(rb'<svg[^>]* width="([\d.]+)pt"', svg)
    least = f"{float(width[1]) / 3 if width else 0:.0f}pt"  # wide; else its text is too small
    image = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    seeds = f"{config['seeds']:d} seed" + ("s" if config["seeds"] != 1 else "")
    alt = f"Figure of {name}: {info.what} The table below lists its claims."
    settings, quick = escape(json.dumps(config, indent=1)), bool(config.get("quick"))
    return f"""<section id="{name}">
{heading(f"{name}: {info.what}")}
<p class="note">{escape(info.source)}; {seeds}; <code>python run_toy.py {name}</code></p>
{f'<p class="fails">{QUICK}</p>' if quick else ""}
{sample_and_map(folder, name)}
<figure tabindex="0"><img style="min-width:{least}" alt="{escape(alt)}" src="{image}"></figure>
{claims_table(claims, name, quick)}
<details><summary>The numbers</summary>{html_tables(numbers, name)}</details>
<details><summary>The settings</summary><pre tabindex="0">{settings}</pre></details>
</section>
"""


def claims_table(claims: list[Claim], name: str, quick: bool) -> str:
    """Return a row per claim, without verdicts after --quick; data-label is for narrow screens."""
    columns = ("claim", "paper", "here") if quick else ("claim", "paper", "here", "verdict")
    lines = ""
    for c in claims:
        cells = {"paper": escape(c.paper), "here": escape(c.here), "verdict": verdict(c)}
        row = "".join(f'<td data-label="{label}">{cells[label]}</td>' for label in columns[1:])
        lines += f'<tr><th scope="row">{escape(c.text)}</th>{row}</tr>\n'
    head = "".join(f'<th scope="col">{label}</th>' for label in columns)
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="Claims of {name}">'
    return f'{box}<table class="claims"><tr>{head}</tr>\n{lines}</table></div>'


def verdict(claim: Claim) -> str:
    """Return whether a claim holds, with the likely reason if it fails."""
    if claim.holds:
        return '<span class="holds">holds</span>'
    why = f", likely because {escape(claim.why)}" if claim.why else ""
    return f'<span class="fails">fails</span>{why}'


def html_tables(markdown: str, name: str) -> str:
    """Return Markdown tables as HTML."""
    cells: Callable[[str], list[str]] = lambda line: [
        c.strip() for c in line.strip("| ").split("|")
    ]
    blocks = [b.splitlines() for b in markdown.split("\n\n") if b.strip().startswith("|")]
    label = f"Numbers of {name}"
    return "\n".join(html_table(cells(b[0]), [cells(x) for x in b[2:]], label) for b in blocks)
