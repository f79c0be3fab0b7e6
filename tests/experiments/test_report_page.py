"""The page of all results: complete, every text escaped, no script, no network."""

import json
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from memsinks_np.config import ConfigError
from memsinks_np.experiments import cli, headline
from memsinks_np.experiments.methods import NAMES, PRESETS, methods_of
from memsinks_np.experiments.registry import EXPERIMENTS
from memsinks_np.experiments.report import page as page_module
from memsinks_np.experiments.report.claims import summarize_claims
from memsinks_np.experiments.report.loss_map import (
    EDGES,
    HEART_EDGES,
    TOGETHER,
    legend,
    map_section,
    sequence,
    shared,
    versions_of,
)
from memsinks_np.experiments.report.page import report_page, sample_section

ALONE = {"meta", "img", "input", "br", "!doctype"}
DAMAGED = "results of another version, or damaged"


class Reader(HTMLParser):
    """Collect tags, ids and addresses; refuse what is not nested, and links to nowhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.addresses = [], [], [], []
        self.feed(text)
        assert self.open == []
        assert {a[1:] for a in self.addresses if a.startswith("#")} <= set(self.ids)

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.tags.append(tag)
        self.ids += [of["id"]] if "id" in of else []
        self.addresses += [of[a] for a in ("src", "href", "action", "data") if a in of]
        if tag not in ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(out):
    return (out / "report.html").read_text()


@pytest.fixture
def copied(out, tmp_path):
    """A copy of the results, which a test may change."""
    return shutil.copytree(out, tmp_path / "runs")


@pytest.fixture
def m(out):
    """The loss map."""
    return json.loads((out / "headline" / "loss_map.json").read_text())


def claims_of(out, *names):
    texts = [(out / name / "claims.json").read_text() for name in names]
    return [claim for text in texts for claim in json.loads(text)]


def test_the_page_has_every_experiment_with_results(out, page):
    reader = Reader(page)
    assert {name for name in EXPERIMENTS if name in reader.ids} == {"headline", "theory"}
    for name in ("headline", "theory"):
        assert page.count(f"<h2>{name}") == 1
    assert all(escape(claim["text"]) in page for claim in claims_of(out, "headline", "theory"))
    assert len(set(reader.ids)) == len(reader.ids)
    assert reader.tags.count("h1") == 1
    assert DAMAGED not in page
    assert report_page(out) == page


def test_only_a_full_run_counts_its_claims(copied, page):
    claims = claims_of(copied, "theory")
    count = f'>theory</a> <span class="note">{sum(c["holds"] for c in claims)} of {len(claims)}<'
    assert page.count("This was --quick") == 2
    assert count not in page
    assert "No full run is on this page" in page
    assert 'class="holds"' not in page  # no verdicts after --quick
    assert 'class="fails">fails' not in page
    path = copied / "theory" / "config.json"
    path.write_text(path.read_text().replace('"quick": true', '"quick": false'))
    text = report_page(copied)
    assert text.count("This was --quick") == 1
    assert count in text
    assert f"{sum(c['holds'] for c in claims)} of {len(claims)} claims hold.</p>" in text
    assert text.count('class="holds"') == sum(c["holds"] for c in claims)


def test_the_opening_says_what_the_headline_found(copied):
    path = copied / "headline" / "config.json"
    path.write_text(path.read_text().replace('"quick": true', '"quick": false'))
    claims = [c | {"holds": i != 3} for i, c in enumerate(claims_of(copied, "headline"))]
    (copied / "headline" / "claims.json").write_text(json.dumps(claims))
    opening = re.search(r"claims hold\. In the headline, (.+?)\.</p>", report_page(copied))[1]
    assert opening.split("; ") == [escape(claims[i]["text"]) for i in (2, 4)]  # not the failed one


def test_there_is_no_script_and_no_network(page):
    reader = Reader(page)
    assert "script" not in reader.tags
    assert all(a.startswith(("#", "data:image/svg+xml;base64,")) for a in reader.addresses)
    assert not re.search(r"url\(|@import", page)


def test_every_box_that_scrolls_has_a_tab_stop(page):
    boxes = re.findall(r'<(?:figure|pre|div class="scroll")([^>]*)>', page)
    assert len(boxes) > 10
    assert all('tabindex="0"' in box for box in boxes)


def test_every_word_has_its_loss_in_every_version(m, page):
    assert list(m["losses"]) == ["standard", "own sinks on", "sinks removed", "retrained"]
    n_words = sum(len(words) - 1 for words in m["words"])
    assert page.count('<i class="l') == 4 * n_words + 8
    assert page.count('<i class="h') == 3 * n_words + 5
    assert page.count('id="headline-map"') == 1
    for losses in m["losses"].values():
        assert [len(row) for row in losses] == [len(words) - 1 for words in m["words"]]


def test_by_heart_is_the_loss_that_retrained_has_and_a_version_has_not():
    losses = {"standard": [[0.5, 1.0], [0.0, 2.5]], "retrained": [[3.5, 0.75], [0.25, 2.5]]}
    first, last, heart = versions_of({"losses": losses})
    assert [first.values, last.values] == list(losses.values())
    assert heart.text == "by heart: standard"
    assert heart.values == [[3.0, -0.25], [0.25, 0.0]]
    m = {"losses": losses, "words": [["a", "b", "c"]], "separator": " ", "sinks": []}
    assert re.findall(r'<i class="(h\d)" title="([^"]+)"', sequence(m, 0)) == [
        ("h4", "3.00"),
        ("h0", "-0.25"),
    ]


def test_sample_and_heat_map_come_first(page):
    section = page[page.index('<section id="headline"') : page.index('<section id="theory"')]
    parts = ("What the models say", 'class="together"', 'class="others"', "<figure", "Claims of")
    places = [section.index(part) for part in parts]
    assert places == sorted(places)
    assert section[places[1] : places[2]].count("<li>") == TOGETHER
    text = '1 document states: <script>alert("1")</script>'
    assert escape(text) in sample_section(text)
    assert "<script" not in sample_section(text)


def test_every_heading_leads_back_to_the_contents(page):
    headings = re.findall(r"<h2>(.+?)</h2>", page)
    assert len(headings) == 3  # headline, theory, the methods
    assert all(heading.endswith('href="#contents">↑ contents</a>') for heading in headings)


def test_the_page_explains_every_method_once(page):
    assert [m for m in NAMES if m in headline.METHODS] == list(headline.METHODS)  # in this order
    for name, about in NAMES.values():
        assert page.count(f"<dt>{escape(name)}</dt><dd>{escape(about)}</dd>") == 1
    assert set(methods_of(PRESETS["stories"])) < set(NAMES)


def test_markup_in_a_text_is_escaped(m):
    m["words"][0][1] = "</i><script>alert(1)</script>"
    assert "<script" not in sequence(m, 0)
    assert "&lt;script&gt;" in sequence(m, 0)
    Reader(sequence(m, 0))
    m["losses"] = {"</label><script>": m["losses"]["standard"]}
    assert "<script" not in map_section(m, "headline")
    m["separator"] = "<script>"
    assert "<script" not in sequence(m, 0)
    m["sinks"] = [["<script>"], []]
    with pytest.raises(ValueError, match="format"):
        sequence(m, 0)


def test_control_and_direction_characters_are_visible(m):
    m["words"][0][1] = "\x1b[1m\u202e\x85\n"
    text = sequence(m, 0)
    assert text.count("␛[1m[U+202E][U+0085]↵") == 8  # seven versions, and the table
    assert not set("\x1b\u202e\x85") & set(text)


def test_the_legend_marks_the_color_of_the_entropy():
    assert "0.5 to 1 (entropy floor: 0.93 on average)" in legend(EDGES, "l", 0.93)
    assert "under 0.05 (entropy floor: 0.01 on average)" in legend(EDGES, "l", 0.01)
    assert "floor" not in legend(EDGES, "l")
    assert legend(EDGES, "l").count("<i ") == len(EDGES) + 1


def luminance(color):
    """Relative luminance of #rrggbb (WCAG 2)."""
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def long(color):
    return color if len(color) == 7 else "#" + "".join(2 * c for c in color[1:])


def contrast(a, b):
    low, high = sorted(map(luminance, (long(a), long(b))))
    return (high + 0.05) / (low + 0.05)


CSS = Path(page_module.__file__).with_suffix(".css").read_text()


@pytest.mark.parametrize(("kind", "n"), [("l", len(EDGES) + 1), ("h", len(HEART_EDGES))])
def test_colors_are_readable_and_in_order(kind, n):
    scale = re.findall(rf"i\.{kind}\d \{{ background: (#\w+); color: (#\w+); \}}", CSS)
    assert len(scale) == n
    assert all(contrast(back, ink) >= 4.5 for back, ink in scale)
    grey = [luminance(long(back)) for back, _ in scale]
    assert grey == sorted(set(grey), reverse=kind == "h")  # known and by heart: dark


def test_the_page_is_readable_in_light_and_dark():
    css = CSS
    schemes = re.findall(r":root \{([^}]*)\}", css), re.findall(r"\.fails \{ color: (#\w+)", css)
    for scheme, fails in zip(*schemes, strict=True):
        colors = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        inks = [colors["ink"], colors["soft"], colors["link"], fails]
        assert min(contrast(colors["paper"], ink) for ink in inks) >= 4.5


FILES = ["theory/config.json", "theory/claims.json", "headline/loss_map.json"]
BROKEN = [(file, text) for file in FILES for text in ("", "{", "null", '{"rows": 3}')]
BROKEN += [(file, None) for file in ("theory/theory.svg", "theory/numbers.md", *FILES[:2])]


@pytest.mark.parametrize(("file", "text"), [*BROKEN, (FILES[0], "[]"), (FILES[2], "[]")])
def test_damaged_or_missing_results_are_one_line_on_the_page(copied, file, text):
    if text is None:
        (copied / file).unlink()
    else:
        (copied / file).write_text(text)
    text = report_page(copied)
    assert text.count(DAMAGED) == 1
    assert "<h2>headline:" in text
    Reader(text)


def test_claims_and_report_can_be_combined(copied, page, capsys):
    (copied / "report.html").unlink()
    assert cli.main(["claims", "report", "--out", str(copied)]) == 0
    assert (copied / "report.html").read_text() == page
    printed, claims = capsys.readouterr().out, claims_of(copied, "headline", "theory")
    n = sum(c["holds"] for c in claims)
    assert f"{n} of {len(claims)} claims hold (1 seed: headline, theory)." in printed
    assert printed.count("\n| ✓ |") == n
    assert printed.count("This was --quick") == 1


DAMAGE = [("config.json", text) for text in ("", "{", "[]", "{}", "null")]
DAMAGE += [("claims.json", text) for text in ("", "[", "[[]]", '[{"text": "a"}]', "null")]


@pytest.mark.parametrize(("file", "text"), DAMAGE)
def test_claims_of_a_damaged_folder_are_refused(copied, file, text, capsys):
    (copied / "theory" / file).write_text(text)
    with pytest.raises(SystemExit) as e:
        cli.main(["claims", "--out", str(copied)])
    assert e.value.code == 2
    line = r"[^\n]*theory is damaged \(\w+\); run python run_toy.py theory again[^\n]*\n"
    assert re.fullmatch(line, capsys.readouterr().err)


@pytest.mark.parametrize("summarize", [report_page, summarize_claims])
def test_a_folder_without_results_is_refused(out, tmp_path, summarize):
    no_results = "no experiment has results there; "
    with pytest.raises(ConfigError, match=no_results + "run one with the same --out and --quick"):
        summarize(tmp_path)
    shutil.copytree(out, tmp_path / "quick")
    with pytest.raises(ConfigError, match=f"{no_results}those of --quick are in {tmp_path}/quick"):
        summarize(tmp_path)


def test_sequences_that_share_sinks_come_most_first():
    assert shared([[1, 5, 9], [2, 5, 8], [1, 5, 7], [3, 4, 6]], 0) == {2: [1, 5], 1: [5]}
    assert shared([[1, 5, 9], [2, 5, 8], [1, 5, 7], [3, 4, 6]], 3) == {}
