"""The page with a model in it: what it stores, and that a browser computes what NumPy does."""

import json
import re

import numpy as np
import pytest

from browser import chromium
from commands import ROOT
from memsinks_np.data.corpus import N_NEW, load_corpus
from memsinks_np.data.people import GROUPS
from memsinks_np.experiments import cli
from memsinks_np.experiments.methods import PRESETS, job, methods_of, quick
from memsinks_np.experiments.report import explore
from memsinks_np.metrics import mean_loss, predict, values_right
from memsinks_np.model import init_params
from memsinks_np.ops import gelu_forward
from memsinks_np.sinks import NO_SINKS, Rows, active, delete, own

PRESET = quick(PRESETS["people"])
JOB = job(PRESET, methods_of(PRESET)["sinks"], 0, len)
MAX_KB = 500


@pytest.fixture(scope="module")
def model():
    corpus = load_corpus(JOB.settings.data)
    cfg = JOB.settings.model(JOB.method, len(corpus.vocab))
    return init_params(cfg), cfg, corpus


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("explore")
    argv = ["explore", "--quick", "--steps", "3", "--out", str(out)]
    assert cli.main(argv) == 0
    return out / "explore.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        errors = "window.errors = []; addEventListener('error', (e) => errors.push(e.message))"
        browser.send("Page.enable")
        browser.send("Page.addScriptToEvaluateOnNewDocument", source=errors)
        yield browser


def test_moments_begin_at_0_and_end_at_the_last_step():
    assert explore.moments(3) == [0, 1, 2, 3]
    steps = explore.moments(1280)
    assert (steps[0], steps[-1], len(steps)) == (0, 1280, explore.N_MOMENTS)
    assert (np.diff(np.diff(steps)) >= -1).all()


def test_rounding_errs_by_half_a_step_of_each_row(model):
    params, *_ = model
    for name, w in explore.rounded(params).items():
        error, largest = np.abs(w - params[name]), np.abs(params[name])
        half = 0.501 * largest.max(axis=-1, keepdims=True) / 127 if w.ndim > 1 else 0
        assert w.dtype == np.float32
        assert (error <= half).all(), name


@pytest.mark.slow
def test_a_part_of_the_sinks_goes_from_all_to_none(model):
    params, cfg, corpus = model
    params = params | {n: 8 * w for n, w in params.items() if "sink.W_out" in n}  # sinks matter
    result = explore.partly_off(params, cfg, corpus)
    alone = explore.group_of(corpus) == 1
    tokens, ids = corpus.repeated[alone], corpus.repeated_ids[alone]
    first, *_, last = result["rows"]
    assert result["documents"] == len(tokens)
    assert (first["on"], last["on"]) == (cfg.sinks.n_active, 0)
    assert first["loss"] == pytest.approx(mean_loss(params, cfg, tokens, own(cfg.sinks, ids)))
    assert last["loss"] == pytest.approx(mean_loss(params, cfg, tokens, None))
    index = active(cfg.sinks, ids)
    choices = [Rows(np.roll(index, 4 * c, axis=1)[:, :8]) for c in range(4)]  # of 16
    losses = [mean_loss(params, cfg, tokens, some) for some in choices]
    assert result["rows"][8]["loss"] == pytest.approx(np.mean(losses), rel=1e-7)


@pytest.mark.slow
def test_deletion_counts_what_all_other_documents_lose(model):
    params, cfg, corpus = model
    i = explore.shown(corpus)[-1]
    params = params | {n: 8 * w for n, w in params.items() if "sink.W_out" in n}  # sinks matter
    row = explore.deletions(params, cfg, corpus)[-1]
    fewer = delete(params, cfg.sinks, corpus.repeated_ids[[i]])
    stated, selection = corpus.facts.repeated, own(cfg.sinks, corpus.repeated_ids)
    same = np.isin(stated, stated[i])
    others = np.arange(len(stated)) != i
    for k, p in enumerate((params, fewer)):
        right = values_right(corpus.repeated, predict(p, cfg, corpus.repeated, selection)[1])
        assert row["same"][k] == right[others][same[others]].sum()
        assert row["rest"][k] == right[others][~same[others]].sum()
    sinks = [set(x.tolist()) for x in active(cfg.sinks, corpus.repeated_ids)]
    shares = [len(sinks[i] & other) for j, other in enumerate(sinks) if j != i]
    assert row["sharing"] == np.count_nonzero(shares)
    assert row["shared"] == pytest.approx(np.mean(shares))
    assert row["same"][2] == 5 * (GROUPS[-1] - 1)
    assert row["rest"][0] != row["rest"][1]


def test_facts_elsewhere_are_asked_in_each_new_document(model, monkeypatch):
    params, cfg, corpus = model
    used = []

    def perfect(params, cfg, tokens, selection):
        used.append(selection)
        return None, tokens[:, 1:]

    monkeypatch.setattr(explore, "predict", perfect)
    n = 5 * N_NEW  # facts of a document, times new documents that state each
    assert explore.elsewhere(params, cfg, corpus) == [[n, n]] * len(explore.shown(corpus))
    assert used == [NO_SINKS] * len(used)


@pytest.mark.slow
def test_the_page_is_one_small_file_without_addresses(page, capsys):
    text = page.read_text()
    assert len(text.encode()) < 1000 * MAX_KB
    assert not re.findall(r"https?:|src=|@import|url\(", text.split("<body>")[1])
    assert "numbers mean nothing" in text
    assert cli.main(["explore", "--quick", "--steps", "3", "--out", str(page.parent)]) == 0
    assert page.read_text() == text  # from the cache
    assert capsys.readouterr().out.startswith(f"{page}: ")


def test_the_committed_page_is_made_of_the_current_parts():
    text = (ROOT / "tutorials" / "_static" / "explore.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert explore.explore_page(json.loads(data)) == text


COMPARE = """(() => {
  let losses = 0, words = 0;
  D.documents.forEach(({ sinks }, i) => {
    const versions = { own: sinks, other: D.documents[(i + 1) % N].sinks, removed: [] };
    for (const [name, on] of Object.entries(versions)) {
      const here = run(i, on), numpy = recordedRun(name, LAST, i);
      here.losses.forEach((x, t) => (losses = Math.max(losses, Math.abs(x - numpy.losses[t]))));
      words += here.says.filter((w, t) => w !== numpy.says[t]).length;
    }
  });
  return [losses, words, D.documents.length];
})()"""


@pytest.mark.browser
def test_the_page_computes_what_numpy_does(page, browser):
    browser.open(page, 1280)
    losses, words, n = browser.value(COMPARE)
    assert losses < 1e-3  # of which half of 1e-3 is the rounding of stored losses
    assert (words, n) == (0, 10)
    x = np.array([-4.0, -2.0, -0.5, 1.0, 3.0])
    gelu = gelu_forward(np, x)[0]
    np.testing.assert_allclose(browser.value(f"{x.tolist()}.map(gelu)"), gelu, rtol=1e-6)


@pytest.mark.browser
def test_sinks_off_one_by_one_end_at_removed(page, browser):
    browser.open(page, 1280)
    n = browser.value("D.active")
    browser.value(f"for (let k = 0; k < {n}; k++) $('fewer').click()")
    assert browser.value("`${current().losses}` === `${run(state.i, []).losses}`")
    assert browser.value("document.querySelectorAll('#pool [aria-pressed=true]').length") == 0
    browser.value("$('pool').children[7].click()")
    assert browser.value("active().join()") == "7"
    assert browser.value("`${current().losses}` !== `${run(state.i, []).losses}`")


@pytest.mark.browser
def test_a_deleted_document_is_as_without_sinks(page, browser):
    browser.open(page, 1280)
    browser.value("document.querySelector('#table [data-i=\"0\"]').click()")
    assert browser.value("`${current().losses}` === `${run(0, []).losses}`")
    kept = "D.documents[1].sinks.filter((s) => !D.documents[0].sinks.includes(s))"
    browser.value("$('document').value = 1; $('document').onchange()")
    assert browser.value(f"active().join() === {kept}.join()")


@pytest.mark.browser
def test_a_prompt_gets_the_probabilities_of_the_document(page, browser):
    browser.open(page, 1280)
    browser.value("ask(text(D.documents[0].tokens.slice(0, 4)))")
    wanted = "Math.exp(-run(0, D.documents[0].sinks).losses[3])"
    given = "nextWords(D.documents[0].sinks)[D.documents[0].tokens[4]]"
    assert browser.value(given) == pytest.approx(browser.value(wanted), rel=1e-6)
    browser.value("ask('anna <b>nobody</b> xyzzy ')")
    note = "The model does not know “<b>nobody</b>”, “xyzzy”; it is left out."
    assert browser.value("$('ask-note').textContent") == note
    assert browser.value("document.querySelectorAll('#answers li').length") == 10


@pytest.mark.browser
def test_arrow_keys_move_the_slider_and_the_pool(page, browser):
    browser.open(page, 390)
    browser.value("$('moment').focus()")
    assert browser.value("$('now').textContent") == "step 3, the model runs here"
    browser.press("ArrowLeft")
    assert browser.value("$('now').textContent") == "step 2, recorded"
    assert browser.value("getComputedStyle($('moment')).outlineStyle") == "solid"
    browser.press("ArrowRight")
    assert browser.value("live()")
    browser.value("$('pool').children[0].focus()")
    browser.press("ArrowRight")
    assert browser.value("document.activeElement.title") == "sink 1"
    browser.press("Tab")
    assert browser.value("document.activeElement.id") == "fewer"


SMALL = """[...document.querySelectorAll('button, select, input, summary')].filter((e) => {
  const { width, height } = e.getBoundingClientRect();
  return e.checkVisibility() && Math.min(width, height) < 24;
}).length"""


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_everything_works_at_each_width_and_color(page, browser, width, dark):
    browser.open(page, width, dark)
    browser.value("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(SMALL) == 0
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(23, 24, 27)" if dark else "rgb(255, 255, 255)")
    browser.value("document.querySelectorAll('input[type=radio]').forEach((e) => e.click())")
    browser.value("document.querySelectorAll('section .buttons button').forEach((e) => e.click())")
    browser.value("document.querySelector('#answers button').click(); $('play').click()")
    assert browser.value("state.moment") == 0
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("errors.join()") == ""
    assert browser.value("performance.getEntriesByType('resource').length") == 0
