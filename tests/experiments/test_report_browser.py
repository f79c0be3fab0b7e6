"""The page of all results in a browser: its width, colors and keys."""

import json
import shutil

import pytest

from browser import chromium
from memsinks_np.experiments.report.loss_map import TOGETHER, versions_of
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


CORNER = """(() => {
  const canvas = document.createElement("canvas"), draw = canvas.getContext("2d");
  draw.drawImage(document.images[0], 0, 0);
  return draw.getImageData(1, 1, 1, 1).data[0];
})()"""


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
    assert figure == ("rgb(26, 26, 26)" if dark else "rgb(255, 255, 255)")
    assert browser.value(CORNER) == (26 if dark else 255)


SHOWN = "[...document.querySelectorAll('.others .version')].filter(v => v.checkVisibility())"
SHOWN += ".map(v => v.dataset.version)"
OPEN = "document.querySelector('.others').open = true"


def first_map(out):
    loss_map = json.loads((out / "headline" / "loss_map.json").read_text())
    return len(loss_map["words"]), [version.text for version in versions_of(loss_map)]


@pytest.mark.browser
def test_three_sequences_show_all_versions_one_under_the_other(browser, out):
    _, versions = first_map(out)
    browser.open(out / "report.html", 1280)
    rows = "[...document.querySelectorAll('.together .version')].filter(v => v.checkVisibility())"
    assert browser.value(f"{rows}.map(v => v.dataset.version)") == TOGETHER * versions
    tops = browser.value(f"{rows}.map(v => v.getBoundingClientRect().top)")
    assert tops == sorted(set(tops))
    label = "getComputedStyle(document.querySelector('.together .v1'), '::before').content"
    assert browser.value(label) == '"own sinks on: "'
    assert browser.value(SHOWN) == []  # the others are closed


@pytest.mark.browser
def test_arrow_keys_switch_the_map_and_show_the_focus(browser, out):
    n, versions = first_map(out)
    browser.open(out / "report.html", 390)
    browser.value(OPEN)
    browser.value("document.querySelector('input').focus()")
    for i in range(len(versions) + 1):  # once around
        assert browser.value(SHOWN) == (n - TOGETHER) * [versions[i % len(versions)]]
        outline = browser.value("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or i == 0
        browser.press("ArrowRight")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_switch_stays_in_sight(browser, out, width):
    browser.open(out / "report.html", width)
    browser.value(OPEN)
    browser.value("document.querySelector('.others li:last-child').scrollIntoView()")
    top = "document.querySelector('fieldset').getBoundingClientRect().top"
    assert browser.value(top) == 0
    assert browser.value("document.querySelector('fieldset').offsetHeight") < 200


@pytest.mark.browser
def test_print_shows_no_control_and_cuts_nothing(browser, out):
    browser.open(out / "report.html", 720)
    browser.value(OPEN)
    browser.send("Emulation.setEmulatedMedia", media="print")
    controls = "[...document.querySelectorAll('nav, .up, fieldset, details:not([open])')]"
    assert browser.value(f"{controls}.some(c => c.checkVisibility())") is False
    boxes = (
        "[...document.querySelectorAll('.scroll, figure, pre')].filter(b => b.checkVisibility())"
    )
    assert browser.value(f"{boxes}.length") > 2
    assert browser.value(f"{boxes}.every(b => b.scrollWidth <= b.clientWidth)")
    assert browser.value("document.documentElement.scrollWidth") <= 720
    browser.send("Emulation.setEmulatedMedia", media="")


@pytest.mark.browser
def test_the_tab_key_reaches_all_that_scrolls_or_opens(browser, out):
    browser.open(out / "report.html", 390)
    reached = []
    for _ in range(14):
        browser.press("Tab")
        reached.append(browser.value("document.activeElement.tagName"))
    contents, up = ["A", "A", "A"], ["A"]
    maps, rest = ["SUMMARY"] * (TOGETHER + 1), ["FIGURE", "DIV", "SUMMARY", "SUMMARY"]
    assert reached[: 3 + 1 + 4 + 4] == [*contents, *up, *maps, *rest]
