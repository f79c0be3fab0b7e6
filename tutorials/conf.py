"""The site, from the pages as they are:  python -m sphinx -W -b html tutorials build/site

Pages stay plain Markdown that reads whole on a code host.  What only the site needs is added while it is read: the
reading order, the list of functions, and a page for every source file.  It needs `pip install -e ".[docs]"`, and once

    npm pack mathjax@3.2.2
    tar -xzf mathjax-3.2.2.tgz -C tutorials/_static --strip-components=2 package/es5/tex-svg.js

for the formulas; without that file the build warns, and formulas stay as their source.  A look at a page as wide as a
desk (and dark with --blink-settings=preferredColorScheme=0):

    chromium --headless=new --no-sandbox --hide-scrollbars --virtual-time-budget=20000 --window-size=1280,9000 \
        --screenshot=look.png "file://$PWD/build/site/index.html"

A window is never narrower than 500 pixels, whatever --window-size says; a phone is a frame of 390 in one of 500:

    echo "<iframe src='file://$PWD/build/site/index.html' width=390 height=12000 frameborder=0>" > build/phone.html
"""

import ast
import re
from pathlib import Path

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.addnodes import download_reference
from sphinx.util import logging

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MATHJAX = HERE / "_static" / "tex-svg.js"  # git-ignored

project = "memsinks_np"
author = "The memsinks_np authors"
copyright = "the memsinks_np authors, MIT licence"
html_title = "Memorization sinks in NumPy"
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_static"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "github-dark"
copybutton_exclude = ".linenos, .gp"
copybutton_selector = (
    "div:not(.highlight-text) > div.highlight > pre"  # what a cell prints is not for copying
)

myst_enable_extensions = ["dollarmath", "alert", "html_image"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
mathjax_path = "tex-svg.js"  # no network: it lies in the build, fonts and all
mathjax3_config = {"options": {"enableMenu": False}}

HTML = HtmlFormatter(cssclass="highlight source")
FENCE = re.compile(r"^```.*?^```\s*?$", re.MULTILINE | re.DOTALL)
WIDE = 700  # points: two panels
ORDER = "\n\n```{toctree}\n:attn_mask:\n:glob:\n\n[0-9]*\nglossary\nreference\n```\n"


def read(app, docname, source):
    """Inline maths as MyST spells it; the reading order and the list of functions, where they belong."""
    text = source[0]
    fences = iter(FENCE.findall(text))
    plain = re.sub(r"\$`(.+?)`\$", r"$\1$", FENCE.sub("\0", text), flags=re.DOTALL)
    plain = re.sub(
        r"\[([^\]]+)\]\((\.\./[^)]+\.md)\)", r"{download}`\1 <\2>`", plain
    )  # a README is no page here
    source[0] = re.sub("\0", lambda _: next(fences), plain)
    source[0] += {"index": ORDER, "reference": functions()}.get(docname, "")


def first_line(node):
    return (ast.get_docstring(node) or "").partition("\n")[0]


def functions() -> str:
    """Every public function and class with the first line of its docstring, by module."""
    found = []
    for path in sorted((ROOT / "memsinks_np").rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found.append(
            f"\n## {name}\n\n{first_line(module)} [Read it](../{path.relative_to(ROOT)}).\n"
        )
        for node in module.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                arguments = (
                    f"({', '.join(a.arg for a in node.args.args)})"
                    if isinstance(node, ast.FunctionDef)
                    else ""
                )
                found.append(f"- `{node.name}{arguments}` {first_line(node)}")
    return "\n".join(found)


def mark_wide(app, doctree, docname):
    """Figures that a phone would shrink until nobody can read their labels; site.css lets them scroll instead."""
    for image in doctree.findall(nodes.image):
        drawn = re.search(
            r'<svg[^>]* width="([\d.]+)pt"', (HERE / image["uri"]).read_text(encoding="utf-8")
        )
        if (
            drawn and float(drawn[1]) > WIDE and "width" not in image
        ):  # the index gives its thumbnails a width
            image["classes"].append("wide")


def sources() -> list[Path]:
    folders = ("memsinks_np", "tests", "benchmarks", "tutorials")
    return [
        *ROOT.glob("*.py"),
        *(path for folder in folders for path in (ROOT / folder).rglob("*.py")),
    ]


def link_code(app, doctree, docname):
    """A link to a source file leads to its page on the site, not to a download."""
    for link in list(doctree.findall(download_reference)):
        path = (HERE / link["reftarget"]).resolve()
        if path in sources():
            target = app.builder.get_relative_uri(docname, code_page(path))
            link.replace_self(nodes.reference("", "", *link.children, refuri=target))


def code_page(path: Path) -> str:
    return f"code/{path.relative_to(ROOT).with_suffix('')}"


def code_pages(app):
    for path in sources():
        title, code = (
            str(path.relative_to(ROOT)),
            highlight(path.read_text(encoding="utf-8"), PythonLexer(), HTML),
        )
        yield code_page(path), {"title": title, "body": f"<h1>{title}</h1>{code}"}, "page.html"


def check_mathjax(app):
    if not MATHJAX.exists():
        missing = f"formulas stay as their source: {MATHJAX.relative_to(ROOT)} is missing; conf.py says how to get it"
        logging.getLogger(__name__).warning(missing, type="mathjax")


def setup(app):
    app.connect("builder-inited", check_mathjax)
    app.connect("source-read", read)
    app.connect("doctree-resolved", link_code)
    app.connect("doctree-resolved", mark_wide)
    app.connect("html-collect-pages", code_pages)
