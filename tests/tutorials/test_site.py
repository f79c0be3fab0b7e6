"""The site builds without a warning, has no broken link, and loads nothing from a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADS = re.compile(r"<(?:script|link|img)[^>]* (?:src|href)=\"(https?:[^\"]+)\"")


@pytest.mark.slow
def test_site_builds_and_needs_no_network(tmp_path):
    for package in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(package)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", tmp_path / "trees"]
    command += ["-D", "suppress_warnings=mathjax"]  # MathJax is downloaded separately
    done = subprocess.run([*command, ROOT / "tutorials", site], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page.relative_to(site).as_posix(): page for page in site.rglob("*.html")}
    expected = {page.with_suffix(".html").name for page in (ROOT / "tutorials").glob("*.md")}
    assert expected | {"search.html", "code/memsinks_np/sinks.html"} <= set(pages)
    for name, page in pages.items():
        html = page.read_text(encoding="utf-8")
        assert LOADS.findall(html) == [], name
        links = re.findall(r'<a [^>]*href="([^"?]*)"', html)
        local = {link.partition("#")[0] for link in links if "//" not in link}
        assert [link for link in local if link and not (page.parent / link).exists()] == [], name
