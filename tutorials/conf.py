"""The site, built from the pages:  python -m sphinx -W -b html tutorials build/site

The pages are plain Markdown, which a code host renders completely. The build adds what only the
site needs: the reading order, the list of functions, and a page for every source file. It needs
`pip install -e ".[docs]"`, and once, for the formulas,

    npm pack mathjax@3.2.2
    tar -xzf mathjax-3.2.2.tgz -C tutorials/_static --strip-components=2 package/es5/tex-svg.js

Without that file the build warns, and formulas stay as their source. To look at a page as on a
desktop (dark with --blink-settings=preferredColorScheme=0):

    chromium --headless=new --no-sandbox --hide-scrollbars --virtual-time-budget=20000 \
        --window-size=1280,9000 --screenshot=look.png "file://$PWD/build/site/index.html"

A window is never narrower than 500 pixels, so for a phone use a frame of 390 in one of 500:

    page="file://$PWD/build/site/index.html"
    echo "<iframe src='$page' width=390 height=12000 frameborder=0>" > build/phone.html
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
copyright = "the memsinks_np authors, MIT licence"
html_title = "Memorization sinks in NumPy"
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx_copybutton"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "github-dark"
copybutton_exclude = ".linenos, .gp"
# outputs of cells get no copy button
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

myst_enable_extensions = ["dollarmath", "alert", "html_image"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
mathjax_path = "tex-svg.js"  # a copy in the build: no network is needed
mathjax3_config = {"options": {"enableMenu": False}}

HTML = HtmlFormatter(cssclass="highlight source")
PICTURE = re.compile(
    r'<picture>\n<source [^>]*srcset="(?P<dark>[^"]+)">\n<img (?P<light>[^>]+)>\n</picture>'
)
FENCE = re.compile(r"^```.*?^```\s*?$", re.MULTILINE | re.DOTALL)
WIDE = 700  # points: two panels
ORDER = "\n\n```{toctree}\n:hidden:\n:glob:\n\n[0-9]*\nglossary\nreference\n```\n"


def read(app, docname, source):
    """Rewrite maths and pictures for MyST; add the reading order and the list of functions."""
    text = source[0]
    fences = iter(FENCE.findall(text))
    plain = re.sub(r"\$`(.+?)`\$", r"$\1$", FENCE.sub("\0", text), flags=re.DOTALL)
    plain = PICTURE.sub(both_themes, plain)
    # Markdown files outside this folder are not pages of the site
    plain = re.sub(r"\[([^\]]+)\]\((\.\./[^)]+\.md)\)", r"{download}`\1 <\2>`", plain)
    source[0] = re.sub("\0", lambda _: next(fences), plain)
    source[0] += {"index": ORDER, "reference": functions()}.get(docname, "")


def both_themes(picture: re.Match[str]) -> str:
    """Return a picture as two images; the theme shows one of them."""
    light, dark = picture["light"], picture["dark"]
    dark = re.sub(r'src="[^"]+"', f'src="{dark}"', light)
    return f'<img class="only-light" {light}>\n\n<img class="only-dark" {dark}>'


def first_line(node) -> str:
    """Return the first line of a docstring."""
    return (ast.get_docstring(node) or "").partition("\n")[0]


def functions() -> str:
    """Return every public function and class by module, with the first line of its docstring."""
    lines = []
    for path in sorted((ROOT / "memsinks_np").rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        link = f"[Source](../{path.relative_to(ROOT)})."
        lines.append(f"\n## {name}\n\n{first_line(module)} {link}\n")
        for node in module.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                arguments = ""
                if isinstance(node, ast.FunctionDef):
                    arguments = f"({', '.join(a.arg for a in node.args.args)})"
                lines.append(f"- `{node.name}{arguments}` {first_line(node)}")
    return "\n".join(lines)


def mark_wide(app, doctree, docname):
    """Mark wide figures: on a phone, site.css lets them scroll, so that labels stay readable."""
    for image in doctree.findall(nodes.image):
        svg = (HERE / image["uri"]).read_text(encoding="utf-8")
        width = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
        if width and float(width[1]) > WIDE and "width" not in image:  # thumbnails have a width
            image["classes"].append("wide")


def sources() -> list[Path]:
    """Return the source files that have a page on the site."""
    folders = ("memsinks_np", "tests", "benchmarks", "tutorials")
    return [*ROOT.glob("*.py"), *(p for folder in folders for p in (ROOT / folder).rglob("*.py"))]


def link_code(app, doctree, docname):
    """Link source files to their page on the site instead of a download."""
    for link in list(doctree.findall(download_reference)):
        path = (HERE / link["reftarget"]).resolve()
        if path in sources():
            target = app.builder.get_relative_uri(docname, code_page(path))
            link.replace_self(nodes.reference("", "", *link.children, refuri=target))


def code_page(path: Path) -> str:
    """Return the name of a source file's page."""
    return f"code/{path.relative_to(ROOT).with_suffix('')}"


def code_pages(app):
    """Yield a page for every source file."""
    for path in sources():
        title = str(path.relative_to(ROOT))
        code = highlight(path.read_text(encoding="utf-8"), PythonLexer(), HTML)
        yield code_page(path), {"title": title, "body": f"<h1>{title}</h1>{code}"}, "page.html"


def check_mathjax(app):
    """Warn if MathJax is missing."""
    if not MATHJAX.exists():
        missing = f"{MATHJAX.relative_to(ROOT)} is missing: formulas stay as their source; "
        missing += "see conf.py for how to get it"
        logging.getLogger(__name__).warning(missing, type="mathjax")


def setup(app):
    app.connect("builder-inited", check_mathjax)
    app.connect("source-read", read)
    app.connect("doctree-resolved", link_code)
    app.connect("doctree-resolved", mark_wide)
    app.connect("html-collect-pages", code_pages)
