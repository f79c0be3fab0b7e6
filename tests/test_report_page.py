"""The page of all results: everything that is there and nothing else, every text escaped, no script, no network."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

import run_toy
from memsinks_np.config import ConfigError
from memsinks_np.experiments import EXPERIMENTS
from memsinks_np.memory_map import shared
from memsinks_np.report_page import report_page, story

ALONE = {"meta", "img", "input", "br", "!doctype"}


class Reader(HTMLParser):
    """Refuses what is not nested; notes tags, ids and addresses."""

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


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two experiments' results."""
    folder = tmp_path_factory.mktemp("runs")
    assert run_toy.main(["headline", "theory", "--quick", "--steps", "3", "--out", str(folder)]) == 0
    return folder


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_every_experiment_with_results_is_there_and_no_other(out):
    text = (out / "report.html").read_text()
    reader = read(text)
    sections = {name for name in EXPERIMENTS if name in reader.ids}
    assert sections == {"headline", "theory"}
    for name in sections:
        claims = json.loads((out / name / "claims.json").read_text())
        assert sum(f"<h2>{name}" in part for part in text.split("<section")) == 1
        assert all(claim["text"].replace("'", "&#x27;").split(",")[0].split("||")[0] in text for claim in claims)
    assert len(set(reader.ids)) == len(reader.ids)
    assert reader.tags.count("h1") == 1


def test_there_is_no_script_and_no_network(out):
    reader = read((out / "report.html").read_text())
    assert "script" not in reader.tags
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in reader.addresses)
    assert not re.search(r"url\(|@import", (out / "report.html").read_text())


def test_the_page_is_the_same_bytes_every_time(out):
    assert report_page(out) == report_page(out) == (out / "report.html").read_text()


def test_every_word_has_its_loss_in_every_version(out):
    m = json.loads((out / "headline" / "memory_map.json").read_text())
    text = (out / "report.html").read_text()
    assert list(m["losses"]) == ["standard", "memsinks, own sinks on", "memsinks, sinks removed", "retrained without"]
    n_words = sum(len(words) - 1 for words in m["words"])
    assert text.count('<i class="l') == 4 * n_words + 8
    for losses in m["losses"].values():
        assert [len(row) for row in losses] == [len(words) - 1 for words in m["words"]]


def test_a_hostile_text_is_shown_and_not_obeyed(out):
    m = json.loads((out / "headline" / "memory_map.json").read_text())
    m["words"][0][1] = "</i><script>alert(1)</script>"
    assert "<script" not in story(m, 0)
    assert "&lt;script&gt;" in story(m, 0)
    read(story(m, 0))


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"rows": 3}'])
def test_damaged_results_are_one_line_among_the_others(out, tmp_path, damage):
    shutil.copytree(out, tmp_path / "runs")
    (tmp_path / "runs" / "theory" / "result.json").write_text(damage)
    text = report_page(tmp_path / "runs")
    assert text.count("results of another version, or damaged") == 1
    assert "<h2>headline:" in text
    read(text)


def test_no_results_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no experiment has results there"):
        report_page(tmp_path)


def test_who_shares_sinks():
    assert shared([[1, 5, 9], [2, 5, 8], [1, 5, 7], [3, 4, 6]], 0) == {2: [1, 5], 1: [5]}
    assert shared([[1, 5, 9], [2, 5, 8], [1, 5, 7], [3, 4, 6]], 3) == {}


PROBE = """<script>
const found = {wide: document.documentElement.scrollWidth > window.innerWidth};
const radios = [...document.querySelectorAll('input[name=version]')];
found.shown = radios.map((radio, i) => {
  radio.focus(); radio.click();
  const visible = [...document.querySelectorAll('.version')].filter(v => getComputedStyle(v).display !== 'none');
  return document.activeElement === radio && visible.every(v => v.classList.contains('v' + i)) ? visible.length : -1;
});
found.colours = new Set([...document.querySelectorAll('.legend i')].map(i => getComputedStyle(i).backgroundColor)).size;
found.images = [...document.images].every(i => i.complete && i.naturalWidth > 100);
document.title = JSON.stringify(found);
</script>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 500])  # headless windows are no narrower than 500; 390 is set on the page
def test_in_a_browser_versions_switch_and_nothing_is_wider_than_the_screen(out, tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    assert browser, "install chromium, or leave out -m browser"
    text = (out / "report.html").read_text().replace("</main>", f"</main>{PROBE}")
    page = tmp_path / "page.html"
    page.write_text(text if width > 500 else text.replace("<body>", '<body style="width: 390px">'))
    flags = ["--headless=new", "--no-sandbox", f"--window-size={width},900", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert found == {"wide": False, "shown": [8, 8, 8, 8], "colours": 8, "images": True}
