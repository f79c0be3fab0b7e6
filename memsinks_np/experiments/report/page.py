"""One page with all results, report.html. It needs no server, no network and no scripts.

It can be used by keyboard. All text is escaped, since a corpus may be any text.
"""

import base64
import json
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from memsinks_np._internal.tables import html_table
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
        path = out / name / "loss_map.json"
        if path.exists():
            links += f'<li><a href="#{name}-map">its loss heat map</a></li>'
            error = error_section(f"{name}-map", f"Loss heat map of {name}", path)
            sections += section_or_error(partial(map_of, path, name), error)
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
<p>Losses are mean nats per word (per character on text). Values are means over seeds, with 95 %
intervals where there are several seeds. Claims that fail are listed like those that hold, with the
likely reason. The number after each experiment is how many of its claims hold.</p>
<nav aria-label="Experiments"><ul>{links}</ul></nav>
</header>
<main>
{sections}
</main>
</body>
</html>
"""


def section_or_error(write: Callable[[], str], error: str) -> str:
    """Return a part of the page, or the error text if its files cannot be read."""
    try:
        return write()
    except Exception:  # a damaged file can raise anything
        return error


def error_section(anchor: str, title: str, path: Path) -> str:
    """Return a section that names the damaged files."""
    line = f'<p class="fails">{escape(str(path))}: {DAMAGED}</p>'
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{line}</section>\n'


def read(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def map_of(path: Path, name: str) -> str:
    """Return the section with an experiment's loss heat map."""
    return map_section(read(path), name)


def claims_held(folder: Path) -> str:
    """Return how many of an experiment's claims hold, or "--quick"."""
    holds = [Claim(**c).holds for c in read(folder / "claims.json")]
    quick = read(folder / "config.json").get("quick")
    return "--quick" if quick else f"{sum(holds)} of {len(holds)}"


def section(folder: Path, name: str) -> str:
    """Return the section of one experiment: figure, claims, numbers, settings."""
    info, config = EXPERIMENTS[name], read(folder / "config.json")
    claims = [Claim(**c) for c in read(folder / "claims.json")]
    numbers = (folder / "numbers.md").read_text(encoding="utf-8")
    image = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
    seeds = f"{config['seeds']:d} seed" + ("s" if config["seeds"] != 1 else "")
    alt = f"Figure of {name}: {info.what} The table below lists its claims."
    settings = escape(json.dumps(config, indent=1))
    return f"""<section id="{name}">
<h2>{name}: {escape(info.what)}</h2>
<p class="note">{escape(info.source)}; {seeds}; <code>python run_toy.py {name}</code></p>
{f'<p class="fails">{QUICK}</p>' if config.get("quick") else ""}
<figure tabindex="0"><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{image}"></figure>
{claims_table(claims, name)}
<details><summary>The numbers</summary>{html_tables(numbers, name)}</details>
<details><summary>The settings</summary><pre tabindex="0">{settings}</pre></details>
</section>
"""


def claims_table(claims: list[Claim], name: str) -> str:
    """Return a row per claim; on a narrow screen, cells are labelled (data-label)."""
    lines = ""
    for c in claims:
        verdict = '<span class="holds">holds</span>'
        if not c.holds:
            why = f", likely because {escape(c.why)}" if c.why else ""
            verdict = f'<span class="fails">fails</span>{why}'
        cells = {"paper": escape(c.paper), "here": escape(c.here), "verdict": verdict}
        row = "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in cells.items())
        lines += f'<tr><th scope="row">{escape(c.text)}</th>{row}</tr>\n'
    columns = ("claim", "paper", "here", "verdict")
    head = "".join(f'<th scope="col">{label}</th>' for label in columns)
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="Claims of {name}">'
    return f'{box}<table class="claims"><tr>{head}</tr>\n{lines}</table></div>'


def html_tables(markdown: str, name: str) -> str:
    """Return Markdown tables as HTML."""
    cells: Callable[[str], list[str]] = lambda line: [
        c.strip() for c in line.strip("| ").split("|")
    ]
    blocks = [b.splitlines() for b in markdown.split("\n\n") if b.strip().startswith("|")]
    label = f"Numbers of {name}"
    return "\n".join(html_table(cells(b[0]), [cells(x) for x in b[2:]], label) for b in blocks)
