"""The site builds without a warning; its links work; its code is readable and folded."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pygments.styles import get_style_by_name

from tutorials import refresh

for package in ("furo", "myst_parser", "sphinx_copybutton"):
    pytest.importorskip(package)
nbformat = pytest.importorskip("nbformat")
conf = pytest.importorskip("tutorials.conf")
pytestmark = pytest.mark.slow
LOADS = re.compile(r"<(?:script|link|img)[^>]* (?:src|href)=\"(https?:[^\"]+)\"")
AA = 4.5  # contrast of text, WCAG 2.2


class Page(HTMLParser):
    """Links and anchors of a page; `nested` are links inside a link."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.ids, self.nested, self.inside = set(), {""}, [], False
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids.add(values.get("id"))
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
            self.nested += [values["href"]] if self.inside else []
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "a"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site; return its folder and its pages by path."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", folder / "trees"]
    command += ["-D", "suppress_warnings=mathjax"]  # MathJax is downloaded separately
    out = folder / "html"
    done = subprocess.run([*command, refresh.HERE, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, {path: Page(path) for path in out.rglob("*.html")}


def test_site_has_every_page_and_needs_no_network(site):
    out, pages = site
    expected = {page.with_suffix(".html").name for page in refresh.HERE.glob("*.md")}
    expected |= {"search.html", "code/memsinks_np/sinks.html", "reference/memsinks_np.ops.html"}
    assert expected <= {path.relative_to(out).as_posix() for path in pages}
    assert [LOADS.findall(page.html) for page in pages.values() if LOADS.search(page.html)] == []


def test_no_link_is_broken_or_inside_another(site):
    _, pages = site
    for path, page in pages.items():
        assert page.nested == [], path
        for link in page.links:
            file, _, anchor = link.partition("?")[0].partition("#")
            goal = (path.parent / file).resolve() if file else path
            if "//" not in link:
                assert goal.exists(), f"{path}: {link}"
                assert goal not in pages or anchor in pages[goal].ids, f"{path}: {link}"


def test_each_page_links_to_its_notebook(site):
    out, pages = site
    for page in refresh.pages():
        name = page.with_suffix(".ipynb").name
        assert name in pages[out / page.with_suffix(".html").name].links
        nbformat.validate(nbformat.read(out / name, as_version=4))


def test_code_of_figures_is_folded_under_them(site):
    out, pages = site
    for page in refresh.pages():
        html = pages[out / page.with_suffix(".html").name].html
        seen = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
        drawn = "savefig" in page.read_text(encoding="utf-8")
        assert ("savefig" in html, "savefig" in seen) == (drawn, False)
        assert len(re.findall(r"<p[^>]*><img[^>]*></p>\s*<details>", html)) == html.count("savefig")


def luminance(color: str) -> float:
    """Return the relative luminance of "f00" or "ff0000" (WCAG 2.2)."""
    digits = color if len(color) == 6 else "".join(2 * digit for digit in color)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", [conf.pygments_style, conf.pygments_dark_style])
def test_colors_of_code_have_contrast(name):
    style = get_style_by_name(name)
    found = {}
    for token, look in style:
        back = (look["bgcolor"] or style.background_color).removeprefix("#")
        dark, light = sorted((luminance(look["color"] or "777"), luminance(back)))
        if look["color"] and "Whitespace" not in str(token):
            found[token] = (light + 0.05) / (dark + 0.05)
    assert {token: ratio for token, ratio in found.items() if ratio < AA} == {}
    assert len(found) > 10


def test_first_link_of_the_front_page_is_the_explore_page(site):
    out, pages = site
    article = pages[out / "index.html"].html.partition("</h1>")[2]
    assert re.search(r'href="([^"]+)', article)[1] == "_static/explore.html"
