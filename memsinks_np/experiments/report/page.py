"""One page of all results, to open without a server or a network: figures, claims, numbers, and the memory map.

There is no script on it: it works by keyboard and with scripts turned off.  Every text is escaped: a corpus is
whatever its reader trained on.
"""

import base64
import importlib
import json
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from memsinks_np.experiments import EXPERIMENTS
from memsinks_np.experiments.report.claims import Claim, html_table
from memsinks_np.experiments.report.memory_page import memory_section
from memsinks_np.experiments.report.results import QUICK, finished

DAMAGED = "results of another version, or damaged: run it again"


def report_page(out: Path) -> str:
    """The page of every experiment that has results in `out`; ConfigError where none has."""
    names = finished(out)
    css = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    links, sections = "", ""
    for name in names:
        told = guarded(partial(tally, out / name), "damaged")
        links += f'<li><a href="#{name}">{name}</a> <span class="note">{told}</span></li>'
        sections += guarded(partial(section, out / name, name), damaged(name, name, out / name))
        path = out / name / "memory_map.json"
        if path.exists():
            links += f'<li><a href="#{name}-map">its memory map</a></li>'
            instead = damaged(f"{name}-map", f"The memory map of {name}", path)
            sections += guarded(partial(memory, path, name), instead)
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
with the likely reason. Values are means over seeds, with 95 % intervals where there are several.
Beside each experiment stands how many of its claims hold.</p>
<nav aria-label="Experiments"><ul>{links}</ul></nav>
</header>
<main>
{sections}
</main>
</body>
</html>
"""


def guarded(write: Callable[[], str], instead: str) -> str:
    """A part of the page, or what stands in its place where its files cannot be read."""
    try:
        return write()
    except Exception:  # whatever damage leads to
        return instead


def damaged(anchor: str, title: str, path: Path) -> str:
    line = f'<p class="fails">{escape(str(path))}: {DAMAGED}</p>'
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{line}</section>\n'


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def memory(path: Path, name: str) -> str:
    return memory_section(read(path), name)


def tally(folder: Path) -> str:
    """How many of an experiment's claims hold, if it was run to find out."""
    claims = [Claim(**c) for c in read(folder / "claims.json")]
    return (
        "--quick" if read(folder / "config.json").get("quick") else f"{sum(c.holds for c in claims)} of {len(claims)}"
    )


def section(folder: Path, name: str) -> str:
    """One experiment: what it asks, its figure, its claims, its numbers, how it was run."""
    about, claims, config = (
        EXPERIMENTS[name],
        [Claim(**c) for c in read(folder / "claims.json")],
        read(folder / "config.json"),
    )
    numbers = importlib.import_module(f"memsinks_np.experiments.{name}").tabulate(read(folder / "result.json"))
    image = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
    seeds = f"{config['seeds']} seed" + ("s" if config["seeds"] != 1 else "")
    alt = f"Figure of {name}: {about.what} The table below says what it shows."
    return f"""<section id="{name}">
<h2>{name}: {escape(about.what)}</h2>
<p class="note">{escape(about.source)}; {seeds}; <code>python run_toy.py {name}</code></p>
{f'<p class="fails">{QUICK}</p>' if config.get("quick") else ""}
<figure tabindex="0"><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{image}"></figure>
{claims_table(claims, name)}
<details><summary>The numbers</summary>{tables(numbers, name)}</details>
<details><summary>The settings</summary><pre tabindex="0">{escape(json.dumps(config, indent=1))}</pre></details>
</section>
"""


def claims_table(claims: list[Claim], name: str) -> str:
    """A row per claim; on a narrow screen each cell says what it is (data-label)."""
    lines = ""
    for c in claims:
        cells = {"paper": escape(c.paper), "here": escape(c.here), "verdict": verdict(c)}
        row = "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in cells.items())
        lines += f'<tr><th scope="row">{escape(c.text)}</th>{row}</tr>\n'
    head = "".join(f'<th scope="col">{label}</th>' for label in ("claim", "paper", "here", "verdict"))
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="Claims of {name}">'
    return f'{box}<table class="claims"><tr>{head}</tr>\n{lines}</table></div>'


def verdict(c: Claim) -> str:
    if c.holds:
        return '<span class="holds">holds</span>'
    return '<span class="fails">fails</span>' + (f", likely because {escape(c.why)}" if c.why else "")


def tables(markdown: str, name: str) -> str:
    """Markdown tables (report.table), one after the other, as HTML."""
    cells: Callable[[str], list[str]] = lambda line: [cell.strip() for cell in line.strip().strip("|").split("|")]
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.strip().startswith("|")]
    return "\n".join(html_table(cells(b[0]), [cells(line) for line in b[2:]], f"Numbers of {name}") for b in blocks)
