"""Documents of any lengths, owners of any kind, and a model that forgets an owner."""

import os
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import memsinks_np as ms
from memsinks_np.metrics import predict
from memsinks_np.sinks import own

DOCUMENTS = [
    "anna lives in rome", "anna owns a grey cat", "ben plays the drum and the horn",
    "ben lives in oslo", "clara found a coin", "clara moved to lima last year",
]  # fmt: skip
OWNERS = ["anna", "anna", "ben", "ben", ("clara", 3), ("clara", 3)]
OWNER_IDS = [4774595732494611097, 3965886597279226254, 9054757870315382578]  # anna, 7, ("anna", 7)
OWNER_BEN = ms.owner_ids(["ben"])
NEW = ["emma lives in oslo", "emma owns a horn"]


def corpus_by(unit, **settings):
    return ms.Corpus.from_documents(
        DOCUMENTS, OWNERS, heldout=NEW, by=unit, batch_size=6, **settings
    )


def fit(corpus, **settings):
    pool = ms.SinkConfig(n_sink=96, n_active=8)
    return ms.fit(corpus, sinks=pool, n_shared=8, d_model=16, progress=False, **settings)


@pytest.fixture(scope="module")
def model():
    return fit(corpus_by("words"), steps=150)


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_documents_come_back_as_text(unit):
    corpus = corpus_by(unit)
    for document, row in zip(DOCUMENTS, corpus.repeated, strict=True):
        assert corpus.text(row) == document
        np.testing.assert_array_equal(corpus.encode(document), row[row >= 0])
    assert [corpus.text(row) for row in corpus.heldout] == NEW


def test_words_of_the_background_are_known_and_shown():
    settings = {"heldout": NEW, "background": ["zoe sings"], "by": "words", "batch_size": 8}
    corpus = ms.Corpus.from_documents(DOCUMENTS, OWNERS, **settings)
    shown = [corpus.text(row) for row in corpus.batch(0).tokens]
    assert set(shown[:2]) < set(DOCUMENTS)
    assert shown[2:] == ["zoe sings"] * 6
    np.testing.assert_array_equal(corpus.encode(" zoe\n\tsings "), corpus.encode("zoe sings"))


def test_owners_share_an_id_only_with_themselves():
    corpus = corpus_by("words")
    np.testing.assert_array_equal(corpus.repeated_ids[::2], corpus.repeated_ids[1::2])
    assert len(np.unique(corpus.repeated_ids)) == 3
    np.testing.assert_array_equal(corpus.repeated_ids, ms.owner_ids(OWNERS))


def test_an_owner_has_the_same_id_in_every_run():
    assert ms.owner_ids(["anna", 7, ("anna", 7)]).tolist() == OWNER_IDS
    assert ms.owner_ids(np.array(["anna"])) == OWNER_IDS[0]
    assert ms.owner_ids(np.array([7], np.int32)) == OWNER_IDS[1]
    assert len(set(ms.owner_ids([1, "1", (1,), "'1'"]).tolist())) == 4


def test_deleting_an_owner_leaves_nothing_of_its_sinks(model):
    gone = ms.delete(model, owners=["ben"])
    kept, removed = model.loss(DOCUMENTS, owners=OWNERS), model.loss(DOCUMENTS, sinks="none")
    after = gone.loss(DOCUMENTS, owners=OWNERS)
    ben = np.array([owner == "ben" for owner in OWNERS])
    np.testing.assert_allclose(after[ben], removed[ben], rtol=1e-5)
    assert (kept < removed - 0.1).all()
    assert (after[~ben] - kept[~ben]).mean() < (removed - kept)[~ben].mean() / 2


def test_loss_of_text_is_that_of_its_tokens(model):
    tokens = [model.encode(document) for document in DOCUMENTS]
    texts = model.loss(DOCUMENTS, owners=OWNERS)
    np.testing.assert_array_equal(texts, model.loss(tokens, ms.owner_ids(OWNERS)))


def test_generating_goes_on_past_the_context(model):
    text = model.generate(DOCUMENTS[2], 20, owner="ben")
    assert len(text.split()) == 27
    tokens, n, sinks = model.encode(text), model.cfg.n_ctx, own(model.cfg.sinks, OWNER_BEN)
    for t in range(7, 27):
        given = np.append(tokens[max(0, t - n) : t], 0)[None]
        assert tokens[t] == predict(model.params, model.cfg, given, sinks)[1][0, -1]


def test_temperature_draws_from_the_softmax(model):
    draw = lambda seed, t: model.generate("anna", 1, owner="anna", temperature=t, seed=seed)
    drawn = [draw(seed, 1.0).split()[1] for seed in range(200)]
    p = {w: np.exp(-model.loss([f"anna {w}"], owners=["anna"])[0]) for w in set(drawn)}
    for word in p:
        error = 4 * np.sqrt(p[word] * (1 - p[word]) / 200) + 0.01
        assert drawn.count(word) / 200 == pytest.approx(p[word], abs=error)
    assert len(p) > 1
    assert draw(0, 0.01) == draw(1, 0.01) == draw(1, 1e-300) == draw(0, 0.0)
    assert draw(5, 1.0) == draw(5, 1.0)


def test_training_goes_on_only_with_the_same_vocabulary(model):
    words = [" ".join(document.split()).replace("rome", "paris") for document in DOCUMENTS]
    other = ms.Corpus.from_documents(words, OWNERS, heldout=NEW, by="words", batch_size=6)
    assert len(other.vocab) == len(model.vocab)
    with pytest.raises(ms.ConfigError, match="start from has another vocabulary"):
        fit(other, start=model, steps=1)
    assert fit(corpus_by("words"), start=model, steps=1).vocab == model.vocab


@pytest.mark.parametrize("steps", [1, 4])
def test_a_callback_can_end_training(steps):
    def on_step(step, loss):
        if step + 1 == steps:
            raise ms.StopTraining

    stopped, whole = fit(corpus_by("words"), steps=9, on_step=on_step), []
    assert stopped.history[-1].step == steps
    fit(corpus_by("words"), steps=9, on_step=lambda step, loss: whole.append(step))
    assert whole == list(range(9))


def test_an_interrupt_keeps_what_is_trained():
    interrupt = lambda step, loss: step == 2 and os.kill(os.getpid(), signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    model = fit(corpus_by("words"), steps=50, on_step=interrupt)
    assert 3 <= model.history[-1].step <= 4
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_interrupt_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupt = lambda step, loss: os.kill(os.getpid(), signal.SIGINT)
        assert fit(corpus_by("words"), steps=5, on_step=interrupt).history[-1].step == 5
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_is_not_caught():
    def interrupt(step, loss):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(corpus_by("words"), steps=50, on_step=interrupt)


def test_training_in_a_thread_leaves_signals_alone():
    models = []
    thread = threading.Thread(target=lambda: models.append(fit(corpus_by("words"), steps=2)))
    thread.start()
    thread.join()
    assert models[0].history[-1].step == 2


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"prompt": [-1, 3]}, "the prompt holds token -1"),
        ({"n_tokens": -1}, "n_tokens=-1"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": np.inf}, "temperature=inf"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_a_continuation_that_cannot_be_drawn_is_refused(settings, text, model):
    with pytest.raises(ms.ConfigError, match=text):
        model.generate(**{"prompt": "anna", "owner": "anna"} | settings)


make = ms.Corpus.from_documents
ERRORS = {
    "unit": (lambda: corpus_by("sentences"), "by='sentences'"),
    "one string": (lambda: make("anna", heldout=NEW), "documents is one string"),
    "short": (lambda: make(["anna", "b"], heldout=NEW), r"documents\[1\] is shorter than two"),
    "none": (lambda: make([], heldout=NEW), "documents is empty"),
    "missing": (lambda: make(["anna", float("nan")], heldout=NEW), r"documents\[1\] is nan"),
    "bytes": (lambda: make(DOCUMENTS, heldout=[b"ab"]), r"heldout\[0\] is b'ab', not a string"),
    "unknown": (lambda: corpus_by("words").encode("x y x anna"), "^'x', 'y' not in the voc"),
    "held out": (lambda: make(DOCUMENTS, heldout=[""]), r"heldout\[0\] is shorter"),
    "owners": (lambda: make(DOCUMENTS, OWNERS[:2], heldout=NEW), "6 sequences with 2 IDs"),
    "unstable owner": (lambda: make(DOCUMENTS, [object()] * 6, heldout=NEW), "not a string"),
    "float": (lambda: ms.owner_ids([1.5]), "owner 1.5"),
    "one owner": (lambda: ms.owner_ids("anna"), "owners='anna' is not a list"),
    "set": (lambda: ms.owner_ids({"anna"}), "owners={'anna'} is not a list"),
    "generator": (lambda: ms.owner_ids(o for o in OWNERS), "is not a list"),
    "number": (lambda: ms.owner_ids(3), "owners=3 is not a list"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_documents_give_one_line_that_names_them(name):
    call, text = ERRORS[name]
    with pytest.raises(ms.ConfigError, match=text) as e:
        call()
    assert "\n" not in str(e.value)


@pytest.mark.slow
def test_example_of_byte_pairs_prints_its_numbers(capsys):
    pytest.importorskip("tokenizers")
    text = (Path(__file__).parents[2] / "docs" / "byte-pairs.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    exec(compile(code, "byte-pairs.md", "exec"), {})
    said = [float(x) for x in re.findall(r"# (\d\.\d+)", code)]
    printed = [float(x) for x in capsys.readouterr().out.split()]
    assert len(said) == 3
    assert printed == pytest.approx(said, abs=0.2)
