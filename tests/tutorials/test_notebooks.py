"""The notebook of a page has its text, its code and its outputs, each once, and its code runs."""

import contextlib
import io
import json
import re

import pytest

from pagecheck import same
from tutorials import notebooks, refresh

each_page = pytest.mark.parametrize("page", refresh.pages(), ids=lambda p: p.stem)


def cells_of(page, kind):
    return [c for c in notebooks.notebook(page)["cells"] if c["cell_type"] == kind]


def cells_in(text):
    """Return the cells of a page, without those of its solutions, which come last."""
    return list(refresh.CELL.finditer(text.partition("<summary>Solution")[0]))


def printed(cell):
    return "".join(out["text"] for out in cell["outputs"] if out["output_type"] == "stream")


@each_page
def test_notebook_has_code_and_outputs_of_its_page(page):
    text = page.read_text(encoding="utf-8")
    cells = cells_of(page, "code")
    found = [(c["source"].removeprefix(f"# {notebooks.DERIVED}\n"), printed(c)) for c in cells]
    assert found == [(c["code"].rstrip(), c["shown"] or "") for c in cells_in(text)]
    drawn = [out["data"] for c in cells for out in c["outputs"] if "data" in out]
    alts = [" ".join(image["alt"].split()) for image in refresh.IMAGE.finditer(text)]
    assert [data["text/plain"] for data in drawn] == alts
    assert all("<svg" in data["image/svg+xml"] for data in drawn)
    hidden = [c for c in cells if c["metadata"]]
    assert len(hidden) == text.count(notebooks.DERIVATION)
    assert all(c["metadata"]["jupyter"]["source_hidden"] for c in hidden)


@each_page
def test_text_renders_without_repeating_outputs(page):
    cells = [cell["source"] for cell in cells_of(page, "markdown")]
    plain = "\n".join(cells)
    seen = re.sub(r"<details>.*?</details>", "", plain, flags=re.DOTALL)
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"\$`|```math|!\[|\[!", plain) == []
    assert re.findall(r"```text|```python", seen) == []
    assert plain.count("$$") == 2 * text.count("```math")
    assert plain.count("$") - 2 * plain.count("$$") == 2 * text.count("$`")
    assert [c.count("<details>") - c.count("</details>") for c in cells] == [0] * len(cells)
    assert "<summary>Solution" in plain


def test_code_of_a_notebook_prints_its_outputs(tmp_path, monkeypatch):
    (page,) = (p for p in refresh.pages() if p.name.startswith("02"))
    notebooks.write_all(tmp_path)
    (tmp_path / "figures").mkdir()
    monkeypatch.chdir(tmp_path)
    made = json.loads((tmp_path / page.with_suffix(".ipynb").name).read_text(encoding="utf-8"))
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    scope = {}
    for cell in code:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(cell["source"], scope)
        assert same(out.getvalue(), printed(cell)), cell["source"]


def test_notebooks_have_the_format_of_jupyter():
    nbformat = pytest.importorskip("nbformat")
    for page in refresh.pages():
        nbformat.validate(notebooks.notebook(page))
