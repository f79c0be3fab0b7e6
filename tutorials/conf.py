"""The site, built from the pages:  python -m sphinx -W -b html tutorials build/site

The pages are plain Markdown, which a code host renders completely. The build adds what only the
site needs: the reading order, a notebook of every page, the reference of every module, and a page
for every source file. It folds the code of figures. It needs `pip install -e ".[docs]"`, and once,
for the formulas,

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
import html
import re
import sys
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
REFERENCE = HERE / "reference"  # git-ignored

sys.path.insert(0, str(ROOT))
from tutorials import notebooks  # noqa: E402

project = "memsinks_np"
copyright = "the memsinks_np authors, MIT licence"
html_title = "Memorization sinks in NumPy"
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx_copybutton"]

html_theme = "furo"
html_static_path, templates_path = ["_static"], ["_templates"]
html_css_files = ["site.css"]
html_copy_source = html_show_sphinx = html_scaled_image_link = False
pygments_style, pygments_dark_style = "a11y-light", "github-dark"
copybutton_exclude = ".linenos, .gp"
# outputs of cells get no copy button
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

myst_enable_extensions = ["dollarmath", "alert", "html_image"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
mathjax_path = "tex-svg.js"  # a copy in the build: no network is needed
mathjax3_config = {"options": {"enableMenu": False}}

HTML = HtmlFormatter(cssclass="highlight source", linespans="line")
PICTURE = re.compile(
    r'<picture>\n<source [^>]*srcset="(?P<dark>[^"]+)">\n<img (?P<light>[^>]+)>\n</picture>'
)
SCROLLS = re.compile(r'<pre|<div(?= class="math )|<p(?=><img [^>]*class="wide")')  # see site.css
FENCE = re.compile(r"^```.*?^```\s*?$", re.MULTILINE | re.DOTALL)
WIDE = 700  # points: two panels
TREE = "\n\n```{{toctree}}\n:hidden:\n:glob:\n\n{}\n```\n"
TREES = {
    "index": TREE.format("[0-9]*\nglossary\nreference"),
    "reference": TREE.format("reference/*"),
}
NOTEBOOK = '<a class="notebook" href="{}.ipynb" download>Notebook of this page</a>'
DRAWN = """![{alt}]({path})

<details>
<summary>The code of this figure</summary>

```python
{code}```

</details>
"""


def read(app, docname, source):
    """Rewrite a page for MyST, and add what only the site has."""
    text = "".join(
        part if isinstance(part, str) else cell(part) for part in notebooks.parts(source[0])
    )
    fences = iter(FENCE.findall(text))
    plain = re.sub(r"\$`(.+?)`\$", r"$\1$", FENCE.sub("\0", text), flags=re.DOTALL)
    plain = PICTURE.sub(both_themes, plain)
    # Markdown files outside this folder are not pages of the site
    plain = re.sub(r"\[([^\]]+)\]\((\.\./[^)]+\.md)\)", r"{download}`\1 <\2>`", plain)
    title, below = re.sub("\0", lambda _: next(fences), plain).split("\n", 1)
    link = NOTEBOOK.format(docname) if docname[0].isdigit() else ""
    source[0] = f"{title}\n\n{link}\n{below}{TREES.get(docname, '')}"


def cell(part: notebooks.Cell) -> str:
    """Return a cell as Markdown: a figure comes first, and its code is folded."""
    code = f"```python\n{part.code}```\n"
    if part.figure:
        alt = " ".join(part.figure["alt"].split())
        code = DRAWN.format(alt=alt, path=part.figure["path"], code=part.code)
    return code + (f"\n```text\n{part.shown}```" if part.shown else "")


def both_themes(picture: re.Match[str]) -> str:
    """Return a picture as two images; the theme shows one of them."""
    light, dark = picture["light"], picture["dark"]
    dark = re.sub(r'src="[^"]+"', f'src="{dark}"', light)
    return f'<img class="only-light" {light}>\n\n<img class="only-dark" {dark}>'


def write_reference(app):
    """Write a page of every module for Sphinx to read; remove those of modules that are gone."""
    made = {REFERENCE / f"{module_name(p)}.md": module_page(p) for p in modules()}
    REFERENCE.mkdir(exist_ok=True)
    for path in set(REFERENCE.glob("*.md")) - set(made):
        path.unlink()
    for path, text in made.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")  # a page that did not change is not read again


def modules() -> list[Path]:
    """Return the files of the package."""
    return sorted((ROOT / "memsinks_np").rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the name by which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_page(path: Path) -> str:
    """Return docstrings of a module and its public functions and classes, linked to the source."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    entries = [f"# {module_name(path)}", documented(module, path, 1, "Source")]
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            arguments = ""
            if isinstance(node, ast.FunctionDef):
                arguments = f"({', '.join(a.arg for a in node.args.args)})"
            label = f"<code>{node.name}{arguments}</code>"
            entries += [f"## {node.name}", documented(node, path, node.lineno, label)]
    return "\n\n".join(entries) + "\n"


def documented(node, path: Path, line: int, label: str) -> str:
    """Return a link to a line of the source, and the docstring as it is written there."""
    text = html.escape(ast.get_docstring(node) or "")
    link = f'<a href="../{code_page(path)}.html#line-{line}">{label}</a>'
    return link + (f'\n\n<pre class="docstring">{text}</pre>' if text else "")


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


def write_notebooks(app):
    """Write the notebooks that the pages link to."""
    notebooks.write_all(Path(app.outdir))
    return []


def make_keyboard_scroll(app, pagename, templatename, context, doctree):
    """Let the keyboard reach what scrolls sideways on a narrow screen."""
    if "body" in context:
        context["body"] = SCROLLS.sub(r'\g<0> tabindex="0"', context["body"])


def check_mathjax(app):
    """Warn if MathJax is missing."""
    if not MATHJAX.exists():
        missing = f"{MATHJAX.relative_to(ROOT)} is missing: formulas stay as their source; "
        missing += "see conf.py for how to get it"
        logging.getLogger(__name__).warning(missing, type="mathjax")


def setup(app):
    app.connect("builder-inited", check_mathjax)
    app.connect("builder-inited", write_reference)
    app.connect("source-read", read)
    app.connect("doctree-resolved", link_code)
    app.connect("doctree-resolved", mark_wide)
    app.connect("html-collect-pages", code_pages)
    app.connect("html-collect-pages", write_notebooks)
    app.connect("html-page-context", make_keyboard_scroll)
