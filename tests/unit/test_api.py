"""The public names: complete, light to import, and what they do on data of one's own."""

import subprocess
import sys

import numpy as np
import pytest

import memsinks_np as ms

IDS = np.arange(12) // 2  # six authors with two sequences each


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 20, size=n) for n in rng.integers(5, 12, size=len(IDS))]


@pytest.fixture(scope="module")
def corpus(tokens):
    heldout = np.random.default_rng(1).integers(0, 20, size=(4, 9))
    return ms.Corpus.from_sequences(tokens, IDS, heldout=heldout, batch_size=8)


@pytest.fixture(scope="module")
def model(corpus):
    pool = ms.SinkConfig(n_sink=64, n_active=8)
    return ms.fit(corpus, sinks=pool, steps=120, n_shared=16, d_model=16, progress=False)


def test_all_lists_every_public_name():
    modules = {name for name, value in vars(ms).items() if isinstance(value, type(sys))}
    public = {name for name in vars(ms) if not name.startswith("_")} - modules
    assert set(ms.__all__) == public | {"methods", "__version__"}


def test_import_loads_no_heavy_module():
    heavy = ("matplotlib", "autograd", "cupy", "torch", "tqdm", "distributed", "scipy")
    code = f"import sys, memsinks_np; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sinks_hold_what_their_removal_takes(model, tokens):
    own, removed = model.loss(tokens, IDS), model.loss(tokens, sinks="none")
    assert own.shape == (len(tokens),)
    assert (own < removed - 0.2).all()


def test_loss_of_a_sequence_does_not_depend_on_its_company(model, tokens):
    alone = [model.loss([t], [i])[0] for t, i in zip(tokens, IDS, strict=True)]
    np.testing.assert_allclose(model.loss(tokens, IDS), alone, rtol=1e-5)


def test_pruning_equals_removing_all_sinks(model, tokens):
    pruned = ms.prune(model)
    assert pruned.cfg.sinks is None
    np.testing.assert_array_equal(pruned.loss(tokens), model.loss(tokens, sinks="none"))


def test_deleting_an_author_erases_all_that_author_wrote(model, tokens):
    deleted = ms.delete(model, ids=[5])
    before, after = model.loss(tokens, IDS), deleted.loss(tokens, IDS)
    removed = model.loss(tokens, sinks="none")
    np.testing.assert_allclose(after[IDS == 5], removed[IDS == 5], rtol=1e-5)
    assert (after[IDS != 5] - before[IDS != 5]).mean() < (removed - before)[IDS != 5].mean() / 2


@pytest.mark.slow
def test_generating_continues_a_memorized_sequence(corpus, tokens):
    pool = ms.SinkConfig(n_sink=64, n_active=8)
    model = ms.fit(corpus, sinks=pool, steps=300, n_shared=16, d_model=32, progress=False)
    text = model.generate(tokens[0][:3], len(tokens[0]) - 3, ids=IDS[:1])
    assert text == " ".join(map(str, tokens[0]))
    assert model.generate(" ".join(map(str, tokens[0][:3])), 2, sinks="none").startswith(text[:3])


def test_saved_models_load_to_the_same_bits(model, tokens, tmp_path):
    model.save(tmp_path / "m.npz")
    loaded = ms.load(tmp_path / "m.npz")
    assert loaded.cfg == model.cfg
    assert loaded.vocab == model.vocab
    assert loaded.history == model.history
    for name, w in model.params.items():
        np.testing.assert_array_equal(loaded.params[name], w)


def test_a_loaded_model_knows_whom_it_can_delete(model, tmp_path):
    """A deleted ID is unknown from then on, and no file names it."""
    ms.delete(model, ids=[5]).save(tmp_path / "m.npz")
    loaded = ms.load(tmp_path / "m.npz")
    assert loaded.known_ids().tolist() == sorted(set(IDS.tolist()) - {5})
    for gone in (5, 77):
        with pytest.raises(ms.ConfigError, match=f"no repeated sequence has the ID {gone}"):
            ms.delete(loaded, ids=[gone])
    other = int(IDS[IDS != 5][0])
    assert other not in ms.delete(loaded, ids=[other]).known_ids()


def test_a_file_without_sinks_names_nobody(model, tmp_path):
    ms.prune(model).save(tmp_path / "m.npz")
    assert ms.load(tmp_path / "m.npz").known_ids() is None


def test_fitting_again_goes_on_from_the_weights(model, corpus, tokens):
    more = ms.fit(corpus, start=model, steps=1, lr=1e-9, progress=False)
    np.testing.assert_allclose(more.loss(tokens, IDS), model.loss(tokens, IDS), atol=1e-4)


def test_who_was_trained_before_can_still_be_deleted(model, tokens):
    other = ms.Corpus.from_sequences(tokens, IDS + 100, heldout=tokens[:1], batch_size=8)
    more = ms.fit(other, start=model, steps=1, progress=False)
    assert set(more.known_ids()) == {*IDS, *(IDS + 100)}
    assert 3 not in ms.delete(more, ids=[3]).known_ids()


def test_a_short_fit_has_a_short_warm_up(corpus):
    fit = lambda **settings: ms.fit(corpus, steps=20, d_model=16, progress=False, **settings)
    np.testing.assert_array_equal(fit().params["wte"], fit(warmup=2).params["wte"])
    assert (fit().params["wte"] != fit(warmup=3).params["wte"]).any()


@pytest.mark.parametrize("method", [ms.methods.STANDARD, ms.methods.GRADIENT_MASKING])
def test_baselines_train_in_the_same_form(method, corpus, tokens):
    model = ms.fit(corpus, method=method, steps=20, d_model=16, progress=False)
    assert (model.loss(tokens, IDS) < np.log(20) + 0.5).all()


def test_background_sequences_serve_a_retrained_model(tokens):
    background = np.random.default_rng(2).integers(0, 20, size=(30, 8))
    corpus = ms.Corpus.from_sequences(tokens, IDS, heldout=0.2, background=background, batch_size=8)
    model = ms.fit(corpus, method=ms.methods.RETRAINED, steps=5, d_model=16, progress=False)
    assert model.history[-1].step == 5


ERRORS = {
    "no ids": (lambda m, c, t: m.loss(t), "ids="),
    "too few ids": (lambda m, c, t: m.loss(t, IDS[:3]), "12 sequences with 3 IDs"),
    "unknown selection": (lambda m, c, t: m.loss(t, sinks="some"), "'some'"),
    "sinks and method": (
        lambda m, c, t: ms.fit(c, sinks=ms.SinkConfig(), method=ms.methods.STANDARD),
        "not both",
    ),
    "nothing to train on": (
        lambda m, c, t: ms.fit(c, method=ms.methods.RETRAINED, steps=1),
        "background",
    ),
    "another vocabulary": (lambda m, c, t: ms.fit(ms.stories(), start=m, steps=1), "n_vocab=20"),
    "unknown word": (lambda m, c, t: m.generate("hello", 1, ids=[0]), "'hello'"),
    "ids and owners": (lambda m, c, t: m.loss(t, IDS, owners=IDS.tolist()), "not both"),
    "below 0": (lambda m, c, t: m.generate("1 2", 1, ids=[0], temperature=-1), "temperature=-1"),
    "one string": (lambda m, c, t: m.loss("1 2", sinks="none"), "list of strings"),
    "no owner to delete": (lambda m, c, t: ms.delete(m, owners=["eve"]), "the owner 'eve'"),
    "whom to delete": (lambda m, c, t: ms.delete(m), "owners="),
    "nobody to delete": (lambda m, c, t: ms.delete(m, [77]), "no repeated sequence has the ID 77"),
    "no sinks to delete": (lambda m, c, t: ms.delete(ms.prune(m), [1]), "no sinks"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_gives_one_line_that_names_it(name, model, corpus, tokens):
    call, text = ERRORS[name]
    with pytest.raises(ms.ConfigError, match=text) as e:
        call(model, corpus, tokens)
    assert "\n" not in str(e.value)
