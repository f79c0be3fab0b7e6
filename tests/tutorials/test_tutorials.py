"""Every page passes the checks of pagecheck.py, and names the sizes that it trains with."""

import itertools
import re
from math import log
from pathlib import Path

import matplotlib
import pytest

from memsinks_np.data.stories import stories
from memsinks_np.experiments.methods import PRESETS, methods_of
from memsinks_np.experiments.report.plots import STYLE
from pagecheck import check_frame, check_links, check_maths, check_run, fences, prose
from tutorials import refresh

PAGES = refresh.pages()
WORDS = (750, 1600)  # 800 to 1,500, with a little tolerance
ALL = [*PAGES, *(p for p in sorted(refresh.HERE.glob("*.md")) if p not in PAGES)]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
each_file = pytest.mark.parametrize("page", ALL, ids=lambda p: p.stem)


@pytest.mark.slow
@each_page
def test_page_prints_what_it_shows(page, tmp_path):
    check_run(page, tmp_path)


def test_pytorch_cell_of_page_12_runs(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    (cell,) = [
        code
        for info, code in fences((refresh.HERE / "15-grow-it.md").read_text(encoding="utf-8"))
        if "import torch" in code
    ]
    monkeypatch.chdir(tmp_path)
    exec(cell, {})
    assert Path("tiny.safetensors").exists()


@each_page
def test_page_has_every_part_and_the_length_of_one_sitting(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:2]} ")
    check_frame(text)
    assert "<summary>Solution" in text
    n = len(prose(text).split())
    assert WORDS[0] <= n <= WORDS[1], f"{n} words of prose"


@each_page
def test_page_ends_with_a_link_to_the_next(page):
    following = dict(itertools.pairwise([p.name for p in PAGES] + ["index.md"]))
    label, last = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))[-1]
    assert last == following[page.name]
    title = (refresh.HERE / last).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    assert label == ("all pages" if last == "index.md" else title)


@each_page
def test_every_output_is_under_its_cell(page):
    text = page.read_text(encoding="utf-8")
    under = [cell for cell in refresh.CELL.finditer(text) if cell["shown"] is not None]
    outputs = [info for info, _ in fences(text) if info.split()[:1] == ["text"]]
    assert len(outputs) == len(under), (
        "a text fence holds what the python fence directly above it prints"
    )
    assert all(re.fullmatch(r"text( nats( \d+%)?)?", info) for info in outputs)


@each_file
def test_links_maths_and_figures_are_complete(page):
    text = page.read_text(encoding="utf-8")
    check_links(page)
    check_maths(text)
    for image in re.finditer(r"!\[([^\]]*)\]", text):
        assert len(image[1].split()) >= 6, f"describe the figure: {image[1]!r}"


def test_the_index_shows_every_page():
    index = (refresh.HERE / "index.md").read_text(encoding="utf-8")
    assert refresh.table_of_pages() in index, "python tutorials/refresh.py rewrites it"


def test_glossary_links_each_term_to_where_it_is_taught():
    glossary = (refresh.HERE / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.+)\n((?:(?!#).*\n?)+)", glossary, re.MULTILINE)
    assert len(terms) == glossary.count("\n### ")
    assert [
        t for t, text in terms if not re.search(r"\]\((\d\d-.+\.md#|\.\./).+\)\.\n", text)
    ] == []


def sizes_in_prose() -> dict[str, list[str]]:
    """Return sentences of the pages about their models, with the numbers of the preset."""
    preset = PRESETS["stories"]
    data, methods, n_layers = preset.settings.data, methods_of(preset), preset.settings.n_layers
    R, B, words = data.n_repeated, data.batch_size, len(stories().vocab)
    again = round(B * data.repeat_fraction)
    between = R // again * B - 1  # stories until one returns
    pool, paper = methods["sinks"].sinks, methods["paper_sinks"].sinks
    G, S, A = methods["sinks"].n_shared, f"{pool.n_sink:,}", pool.n_active
    width = methods["standard"].n_shared
    strata = pool.n_sink // A
    blind = rf"among {words} words {{}} $`\ln {words} = {log(words):.1f}`$ nats"
    return {
        "05": [
            f"sees {R} stories again and again: in every batch of {B} stories, "
            f"{again} are repeated ones",
            f"the same {B - again} new stories and none of the {R}",
            f"$`\\ln {data.n_heldout} = {log(data.n_heldout):.1f}`$",
        ],
        "06": [
            f"a model learned {R} stories",
            f"the {n_layers * width} neurons of both layers",
            blind.format("loses"),
        ],
        "08": [
            blind.format("costs"),
            f"{A} of {S} sinks",
            f"we take {methods['gradient_masking'].n_shared / width:.0%}",
        ],
        "09": [
            f"with {A} of {S} active, {strata - 1} of {strata} products",
            f"{A} strata of {strata} sinks",
        ],
        "10": [
            f"| {width} neurons | never the {R} repeated stories |",
            f"| {G} shared neurons and a pool of {S}, of which a story's ID activates {A} |",
            f"Some {between // 10 * 10} other stories pass",
            f"active for only one story in {strata}",
        ],
        "14": [
            f"the other {R - 1}",
            f"({A} of {S} sinks active)",
            f"(each of {paper.n_sink} sinks active with probability {paper.p})",
            f"$`S/A = {strata}`$",
        ],
        "15": [f"$`G = {G}`$, cost {G // A} times as much as its {A} sinks", f"a pool of S = {S}"],
    }


@pytest.mark.parametrize(("number", "sentences"), sizes_in_prose().items())
def test_sizes_in_prose_are_those_of_the_preset(number, sentences):
    (page,) = [p for p in PAGES if p.name.startswith(number)]
    text = " ".join(page.read_text(encoding="utf-8").split()).replace("70 %", "70%")
    text = text.replace("cost four times", "cost 4 times")
    assert [sentence for sentence in sentences if sentence not in text] == []


def test_figures_have_the_style_of_the_package():
    style = matplotlib.rc_params_from_file(
        refresh.HERE / "matplotlibrc", use_default_template=False
    )
    assert {name: style[name] for name in STYLE} == STYLE
