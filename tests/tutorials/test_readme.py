"""The README's commands, files and links exist."""

import re
from pathlib import Path

import pytest

import run_toy

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", TEXT))))
def test_link_leads_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python run_toy\.py([^`\n&]*)", TEXT))))
def test_command_is_understood(command):
    run_toy.parser().parse_args(command.split())


def test_every_module_stands_in_the_map_or_is_plumbing():
    plumbing = {
        "__init__.py",
        "config.py",
        "checks.py",
        "process.py",
        "checkpoint.py",
        "report.py",
        "samples.py",
        "plots.py",
    }
    modules = {p.name for p in (ROOT / "memsinks_np").glob("*.py")} - plumbing
    assert {name for name in modules if name not in TEXT} == set()


CLAIMS = (ROOT / "CLAIMS.md").read_text(encoding="utf-8")


def test_claims_are_counted_as_their_table_says():
    rows = [line for line in CLAIMS.splitlines() if line.startswith("| ")][2:]
    holds = [row.endswith("| yes |") for row in rows]
    assert f"{sum(holds)} of {len(rows)} claims hold" in CLAIMS


@pytest.mark.parametrize("here", re.findall(r"       here: (.+)", TEXT))
def test_what_the_readme_prints_stands_among_the_claims(here):
    assert f"| {here} |" in CLAIMS
