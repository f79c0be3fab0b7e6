"""The page of all results: complete, every text escaped, no script, no network."""

import json
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from memsinks_np.config import ConfigError
from memsinks_np.experiments import cli
from memsinks_np.experiments.registry import EXPERIMENTS
from memsinks_np.experiments.report import page as page_module
from memsinks_np.experiments.report.claims import summarize_claims
from memsinks_np.experiments.report.loss_map import EDGES, legend, map_section, sequence, shared
from memsinks_np.experiments.report.page import report_page

ALONE = {"meta", "img", "input", "br", "!doctype"}


class Reader(HTMLParser):
    """Collect tags, ids and addresses; refuse what is not nested."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.tags.append(tag)
        self.ids += [of["id"]] if "id" in of else []
        self.addresses += [of[a] for a in ("src", "href", "action", "data") if a in of]
        if tag not in ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def assert_links(reader):
    assert {a[1:] for a in reader.addresses if a.startswith("#")} <= set(reader.ids)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_the_page_has_every_experiment_with_results(out):
    text = (out / "report.html").read_text()
    reader = read(text)
    sections = {name for name in EXPERIMENTS if name in reader.ids}
    assert sections == {"headline", "theory"}
    for name in sections:
        claims = json.loads((out / name / "claims.json").read_text())
        assert sum(f"<h2>{name}" in part for part in text.split("<section")) == 1
        assert all(escape(claim["text"]) in text for claim in claims)
        assert (
            f"{sum(c['holds'] for c in claims)} of {len(claims)}</span>" not in text
        )  # not shown for --quick
    assert len(set(reader.ids)) == len(reader.ids)
    assert reader.tags.count("h1") == 1
    assert_links(reader)
    assert "results of another version, or damaged" not in text


def test_only_a_full_run_counts_its_claims(out, tmp_path):
    assert (out / "report.html").read_text().count("This was --quick") == 2
    shutil.copytree(out, tmp_path / "runs")
    path = tmp_path / "runs" / "theory" / "config.json"
    path.write_text(path.read_text().replace('"quick": true', '"quick": false'))
    claims = json.loads((out / "theory" / "claims.json").read_text())
    text = report_page(tmp_path / "runs")
    assert text.count("This was --quick") == 1
    assert (
        f'>theory</a> <span class="note">{sum(c["holds"] for c in claims)} of {len(claims)}</span>'
        in text
    )


def test_there_is_no_script_and_no_network(out):
    reader = read((out / "report.html").read_text())
    assert "script" not in reader.tags
    assert all(
        address.startswith(("#", "data:image/svg+xml;base64,")) for address in reader.addresses
    )
    assert not re.search(r"url\(|@import", (out / "report.html").read_text())


def test_every_box_that_scrolls_has_a_tab_stop(out):
    boxes = re.findall(
        r'<(?:figure|pre|div class="scroll")([^>]*)>', (out / "report.html").read_text()
    )
    assert len(boxes) > 10
    assert all('tabindex="0"' in box for box in boxes)


def test_the_page_is_the_same_bytes_every_time(out):
    assert report_page(out) == report_page(out) == (out / "report.html").read_text()


def test_every_word_has_its_loss_in_every_version(out):
    m = json.loads((out / "headline" / "loss_map.json").read_text())
    text = (out / "report.html").read_text()
    assert list(m["losses"]) == [
        "standard",
        "own sinks on",
        "sinks removed",
        "retrained",
    ]
    n_words = sum(len(words) - 1 for words in m["words"])
    assert text.count('<i class="l') == 4 * n_words + 8
    assert text.count('id="headline-map"') == 1
    for losses in m["losses"].values():
        assert [len(row) for row in losses] == [len(words) - 1 for words in m["words"]]


def test_markup_in_a_text_is_escaped(out):
    m = json.loads((out / "headline" / "loss_map.json").read_text())
    m["words"][0][1] = "</i><script>alert(1)</script>"
    assert "<script" not in sequence(m, 0)
    assert "&lt;script&gt;" in sequence(m, 0)
    read(sequence(m, 0))
    m["losses"] = {"</label><script>": m["losses"]["standard"]}
    assert "<script" not in map_section(m, "headline")
    m["sinks"] = [["<script>"], []]
    with pytest.raises(ValueError, match="format"):
        sequence(m, 0)


def test_control_and_direction_characters_are_visible(out):
    m = json.loads((out / "headline" / "loss_map.json").read_text())
    m["words"][0][1] = "\x1b[1m\u202e\x85\n"
    text = sequence(m, 0)
    assert text.count("␛[1m[U+202E][U+0085]↵") == 5  # four versions, and the table
    assert not set("\x1b\u202e\x85") & set(text)


def test_the_legend_marks_the_color_of_the_entropy():
    assert "0.5 to 1 (entropy floor: 0.93 on average)" in legend(0.93)
    assert "under 0.05 (entropy floor: 0.01 on average)" in legend(0.01)
    assert "floor" not in legend(None)
    assert legend(None).count("<i ") == len(EDGES) + 1


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


def test_colors_are_readable_and_the_scale_grows_lighter():
    css = Path(page_module.__file__).with_suffix(".css").read_text()
    scale = re.findall(r"i\.l\d \{ background: (#\w+); color: (#\w+); \}", css)
    assert len(scale) == len(EDGES) + 1
    assert all(contrast(back, ink) >= 4.5 for back, ink in scale)
    grey = [luminance(long(back)) for back, _ in scale]
    assert grey == sorted(set(grey))
    for scheme, fails in zip(
        re.findall(r":root \{([^}]*)\}", css),
        re.findall(r"\.fails \{ color: (#\w+)", css),
        strict=True,
    ):
        colors = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        inks = [colors["ink"], colors["soft"], colors["link"], fails]
        assert min(contrast(colors["paper"], ink) for ink in inks) >= 4.5


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"rows": 3}'])
@pytest.mark.parametrize(
    "file", ["theory/config.json", "theory/claims.json", "headline/loss_map.json"]
)
def test_damaged_results_are_one_line_on_the_page(out, tmp_path, file, damage):
    shutil.copytree(out, tmp_path / "runs")
    (tmp_path / "runs" / file).write_text(damage)
    text = report_page(tmp_path / "runs")
    no_claims = (
        file.endswith("claims.json") and damage == "[]"
    )  # allowed: an experiment may have no claims
    assert text.count("results of another version, or damaged") == (0 if no_claims else 1)
    assert "<h2>headline:" in text
    reader = read(text)
    assert_links(reader)


@pytest.mark.parametrize("file", ["theory.svg", "numbers.md", "config.json", "claims.json"])
def test_a_missing_file_is_one_line_on_the_page(out, tmp_path, file):
    shutil.copytree(out, tmp_path / "runs")
    (tmp_path / "runs" / "theory" / file).unlink()
    assert report_page(tmp_path / "runs").count("results of another version, or damaged") == 1


def test_claims_and_report_can_be_combined(out, capsys):
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert cli.main(["claims", "report", "--out", str(out)]) == 0
    assert (out / "report.html").read_text() == page
    printed = capsys.readouterr().out
    claims = [
        c
        for name in ("headline", "theory")
        for c in json.loads((out / name / "claims.json").read_text())
    ]
    n = sum(c["holds"] for c in claims)
    assert f"{n} of {len(claims)} claims hold (1 seed: headline, theory)." in printed
    assert printed.count("| yes |") == n
    assert printed.count("This was --quick") == 1


DAMAGE = [("config.json", text) for text in ("", "{", "[]", "{}", "null")]
DAMAGE += [("claims.json", text) for text in ("", "[", "[[]]", '[{"text": "a"}]', "null")]


@pytest.mark.parametrize(("file", "text"), DAMAGE)
def test_claims_of_a_damaged_folder_are_refused(out, tmp_path, file, text, capsys):
    shutil.copytree(out, tmp_path / "runs")
    (tmp_path / "runs" / "theory" / file).write_text(text)
    with pytest.raises(SystemExit) as e:
        cli.main(["claims", "--out", str(tmp_path / "runs")])
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(r"theory is damaged \(\w+\); run python run_toy.py theory again", err)


def test_a_page_without_results_is_refused(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"no experiment has results there; run one with the same --out and --quick first",
    ):
        report_page(tmp_path)


def test_the_error_names_the_folder_of_quick_results(out, tmp_path):
    shutil.copytree(out, tmp_path / "quick")
    for summarize in (report_page, summarize_claims):
        with pytest.raises(
            ConfigError,
            match=f"no experiment has results there; those of --quick are in {tmp_path}/quick",
        ):
            summarize(tmp_path)


def test_sequences_that_share_sinks_come_most_first():
    assert shared([[1, 5, 9], [2, 5, 8], [1, 5, 7], [3, 4, 6]], 0) == {2: [1, 5], 1: [5]}
    assert shared([[1, 5, 9], [2, 5, 8], [1, 5, 7], [3, 4, 6]], 3) == {}
