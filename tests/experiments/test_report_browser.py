"""The page of all results in a browser: its width, colors and keys."""

import json
import shutil

import pytest

from browser import chromium
from memsinks_np.experiments.report.page import report_page


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture(scope="module")
def odd(out, tmp_path_factory):
    """As of a text by characters, with long paths, and one experiment damaged."""
    folder = tmp_path_factory.mktemp("a_folder_with_a_name_that_is_rather_long") / "runs"
    shutil.copytree(out, folder)
    path = folder / "headline" / "loss_map.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"separator": ""}))
    config = json.loads((folder / "headline" / "config.json").read_text())
    config["preset"]["settings"]["data"]["corpus"] = "a/long/way/" * 20 + "corpus.txt"
    (folder / "headline" / "config.json").write_text(json.dumps(config))
    (folder / "theory" / "config.json").write_text("{")
    (folder / "report.html").write_text(report_page(folder))
    return folder


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["out", "odd"])
def test_nothing_is_wider_than_the_screen(request, browser, kind, width, dark):
    browser.open(request.getfixturevalue(kind) / "report.html", width, dark)
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 100)")
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(23, 24, 27)" if dark else "rgb(255, 255, 255)")
    figure = browser.value("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert figure == "rgb(255, 255, 255)"


SHOWN = "[...document.querySelectorAll('.version')].filter(v => v.checkVisibility())"
SHOWN += ".map(v => v.dataset.version)"


@pytest.mark.browser
def test_arrow_keys_switch_the_map_and_show_the_focus(browser, out):
    loss_map = json.loads((out / "headline" / "loss_map.json").read_text())
    versions = list(loss_map["losses"])
    browser.open(out / "report.html", 390)
    browser.value("document.querySelector('input').focus()")
    for i in range(5):  # once around
        assert browser.value(SHOWN) == len(loss_map["words"]) * [versions[i % 4]]
        outline = browser.value("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or i == 0
        browser.press("ArrowRight")


@pytest.mark.browser
def test_the_tab_key_reaches_all_that_scrolls_or_opens(browser, out):
    browser.open(out / "report.html", 390)
    reached = []
    for _ in range(14):
        browser.press("Tab")
        reached.append(browser.value("document.activeElement.tagName"))
    assert reached[:9] == ["A", "A", "A", "FIGURE", "DIV", "SUMMARY", "SUMMARY", "INPUT", "SUMMARY"]
