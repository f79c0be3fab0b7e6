"""The site builds from the pages without a warning, and asks no network for anything."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOADS = re.compile(r"<(?:script|link|img)[^>]* (?:src|href)=\"(https?:[^\"]+)\"")


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path):
    for package in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(package)
    suppress = ["-D", "suppress_warnings=mathjax"]  # whether it was fetched is not the pages' fault
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-q",
        *suppress,
        "-d",
        tmp_path / "doctrees",
        "-b",
        "html",
    ]
    done = subprocess.run(
        [*command, ROOT / "tutorials", tmp_path / "site"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    built = {
        page.relative_to(tmp_path / "site").as_posix(): page
        for page in (tmp_path / "site").rglob("*.html")
    }
    wanted = {page.with_suffix(".html").name for page in (ROOT / "tutorials").glob("*.md")}
    assert wanted | {"search.html", "code/memsinks_np/sinks.html"} <= set(built)
    for name, page in built.items():
        html = page.read_text(encoding="utf-8")
        assert LOADS.findall(html) == [], name
        links = {
            link.partition("#")[0]
            for link in re.findall(r'<a [^>]*href="([^"?]*)"', html)
            if "//" not in link
        }
        assert [link for link in links if link and not (page.parent / link).exists()] == [], name
