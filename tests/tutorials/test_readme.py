"""What README, docs and CLAIMS say is there: commands, files, modules, numbers."""

import re
import shlex
from pathlib import Path

import pytest

from memsinks_np.config import SinkConfig
from memsinks_np.experiments.cli import make_parser
from memsinks_np.experiments.registry import EXPERIMENTS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
README = TEXTS[ROOT / "README.md"]
CLAIMS = (ROOT / "CLAIMS.md").read_text(encoding="utf-8")
LINK = re.compile(r"(?<=\]\()(?!http)[^)#]+|(?<=src=\")[^\"]+|(?<=srcset=\")[^\"]+")
LINKS = [(p, link) for p, t in TEXTS.items() for link in LINK.findall(t)]
COMMANDS = {c.strip() for t in TEXTS.values() for c in re.findall(r"run_toy\.py([^`\n&#]*)", t)}
COMMANDS -= {"--help"}


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_to_files(page, link):
    assert (page.parent / link).exists()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_are_understood(command):
    make_parser().parse_args(shlex.split(command))


def test_pools_for_documents_are_those_of_the_docs():
    lines = TEXTS[ROOT / "docs" / "experiments.md"].splitlines()
    rows = [line.split("|")[2:-1] for line in lines if line.startswith(("| N |", "| S, "))]
    n, sizes = ([int(cell.replace(",", "")) for cell in row] for row in rows)
    assert [SinkConfig.for_documents(i).n_sink for i in n] == sizes


def test_every_experiment_has_a_row():
    rows = TEXTS[ROOT / "docs" / "experiments.md"]
    missing = [n for n in EXPERIMENTS if n != "headline" and f"run_toy.py {n}`" not in rows]
    assert missing == []


def test_gallery_has_a_row_of_each_experiment_and_its_figure():
    text = TEXTS[ROOT / "docs" / "gallery.md"]
    names = re.findall(r"\*\*\[(\w+)\]\(\.\./memsinks_np/experiments/\1\.py\)", text)
    assert names == list(EXPERIMENTS)
    drawn = [name for name in names if (ROOT / "figures" / f"{name}.svg").exists()]
    assert re.findall(r'src="\.\./figures/(\w+)\.svg"', text) == drawn
    commands = [f"run_toy.py {name} --seeds 3`" for name in names if name != "headline"]
    assert [command for command in commands if command not in text] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_numbers_of_the_gallery_are_claims_of_the_experiment(name):
    row = TEXTS[ROOT / "docs" / "gallery.md"].partition(f"**[{name}]")[2].partition("<br>`")[0]
    numbers = re.findall(r"\d[\d.,]*\d|\d+", row.partition("<br>")[2])
    section = CLAIMS.partition(f"\n## {name}:")[2].partition("\n## ")[0]
    assert numbers
    assert [n for n in numbers if not re.search(rf"(?<![\d.]){n}(?![\d])", section)] == []


def test_code_map_names_every_core_module():
    text = TEXTS[ROOT / "docs" / "code-map.md"]
    package = ROOT / "memsinks_np"
    entries = [p for p in package.iterdir() if p.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= 15
    assert [p.name for p in entries if f"  {p.name}" not in text] == []


def test_readme_is_short_and_wrapped():
    lines = README.splitlines()
    assert len(lines) <= 130
    assert [x for x in lines if len(x) > 100 and not x.startswith("|") and "http" not in x] == []


@pytest.mark.slow
def test_python_of_the_readme_does_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "".join(re.findall(r"```python\n(.+?)```", README, re.DOTALL))
    said = [float(x) for x in re.findall(r"# (\d\.\d+)", code)]
    exec(compile(code.replace("baseline", "_ = lambda: 0  #"), "README.md", "exec"), {})
    printed = [float(x) for x in capsys.readouterr().out.split()[:3]]
    assert printed == pytest.approx(said, abs=0.05)


def test_claims_are_counted_as_their_table_says():
    holds, fails = CLAIMS.count("\n| ✓ |"), CLAIMS.count("\n| **✗** |")
    assert f"{holds} of {holds + fails} claims hold, {fails} fail" in CLAIMS
    total, *each = map(
        int, re.findall(r"\d+", README.split("[CLAIMS.md](CLAIMS.md): ")[1].split("\n")[0])
    )
    ours = [CLAIMS.count(" | ours | "), len(re.findall(r"\n\| ✓ .* \| ours \| ", CLAIMS))]
    assert [total, *each] == [holds + fails, holds + fails - ours[0], holds - ours[1], *ours]


QUOTED = re.findall(r"       here: (.+(?:\n {13}.+)*)", "".join(TEXTS.values()))


@pytest.mark.parametrize("here", [re.sub(r"\n +", " ", text) for text in QUOTED])
def test_quoted_claims_are_in_the_table(here):
    assert f"| {here} |" in CLAIMS
