"""What each method sees, where its gradients go, and that divergence is reported."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np import train as train_module
from memsinks_np._internal.ids import Purpose, uniform
from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.batches import make_batch
from memsinks_np.data.corpus import Sequences, load_corpus
from memsinks_np.experiments.methods import PRESETS, job, methods_of, quick
from memsinks_np.metrics import mean_loss
from memsinks_np.model import init_params, loss_and_grads
from memsinks_np.optim import densify
from memsinks_np.train import TrainingDiverged, gradients, microbatches, train, visible_sequences

ALL_ON = SinkConfig(n_sink=6, n_active=6)
DATA = DataConfig(n_ctx=7, batch_size=8, n_repeated=4, n_heldout=4)
SETTINGS = Settings(data=DATA, train=TrainConfig(steps=4, eval_every=2), d_model=8, n_heads=2)
CORPUS = load_corpus(DATA)
MASKING = Method(name="gradient_masking", n_shared=10, sinks=ALL_ON, routing="gradient_masking")
ALL = sinks.Mask(np.ones(6, np.float32))


def with_train(**changes):
    return replace(SETTINGS, train=replace(SETTINGS.train, **changes))


def setup(method):
    """Return the model's configuration, its parameters in float64, and a batch."""
    cfg = SETTINGS.model(method, len(CORPUS.vocab))
    return cfg, init_params(cfg, dtype=np.float64), CORPUS.batch(1)


def gradient_of(params, cfg, tokens, selection, fraction=1.0):
    batch = make_batch(cfg, tokens, selection, np.float64, fraction)
    return loss_and_grads(np, params, batch, cfg)[1]


def assert_gradients(got, want, params):
    assert got.keys() == want.keys()
    for name, g in got.items():
        g = densify(np, params[name], g) if isinstance(g, sinks.RowGrad) else g
        np.testing.assert_allclose(g, want[name], rtol=1e-8, atol=1e-14, err_msg=name)


def test_a_seed_chooses_data_weights_and_sinks_only():
    preset = quick(PRESETS["stories"], steps=7)
    for name, method in methods_of(preset).items():
        made = job(preset, method, 5, len)
        data, tuned, pool = made.settings.data, made.settings.train, made.method.sinks
        assert (data.seed, tuned.seed, pool.seed if pool else 5) == (5, 5, 5)
        again = job(preset._replace(settings=made.settings), made.method, 0, len)
        assert again == (methods_of(preset)[name], preset.settings, len)


# What each sequence may train


def test_retrained_sees_the_same_once_seen_sequences_only():
    batch = CORPUS.batch(5)
    method = Method(name="retrained", n_shared=4, max_showings=0)
    seen = visible_sequences(method, batch, 5, 0)
    np.testing.assert_array_equal(seen.tokens, batch.tokens[~batch.repeated])
    np.testing.assert_array_equal(seen.ids, batch.ids[~batch.repeated])
    assert len(seen.repeated) == len(seen.ids)
    assert not seen.repeated.any()


@pytest.mark.parametrize(
    ("n", "kept"), [(None, [0, 1, 2, 3, 4]), (0, [0, 3]), (1, [0, 1, 3]), (2, [0, 1, 3, 4])]
)
def test_capped_training_keeps_the_first_showings(n, kept):
    batch = Sequences(np.arange(10).reshape(5, 2), np.arange(5), np.array([-1, 0, 2, -1, 1]))
    method = Method(name="x", n_shared=4, max_showings=n)
    for seen, all_of in zip(visible_sequences(method, batch, 5, 0), batch, strict=True):
        np.testing.assert_array_equal(seen, all_of[kept])


def test_random_sinks_are_drawn_anew_at_each_occurrence():
    batch, method = CORPUS.batch(5), Method(name="x", n_shared=4, random_sinks=True)
    assert visible_sequences(replace(method, random_sinks=False), batch, 5, 0).ids is batch.ids
    drawn = [visible_sequences(method, batch, step, 0).ids for step in (5, 6)]
    assert len(set(np.concatenate(drawn).tolist())) == 16
    np.testing.assert_array_equal(drawn[0], visible_sequences(method, batch, 5, 0).ids)


def test_free_batches_are_split_into_two_halves():
    method = replace(MASKING, routing="free")
    cfg, _, batch = setup(method)
    for n in (1, 2, 7, 8):
        parts = microbatches(method, cfg, batch._make(a[:n] for a in batch))
        sizes = [len(part.tokens) for part in parts]
        assert sizes == [(n + 1) // 2, n // 2][: len(sizes)]
        np.testing.assert_array_equal(np.concatenate([p.tokens for p in parts]), batch.tokens[:n])


def test_gradient_masking_routes_gradients_as_in_the_paper():
    cfg, params, batch = setup(MASKING)
    loss, got = gradients(params, cfg, microbatches(MASKING, cfg, batch))
    r = batch.repeated
    repeated = gradient_of(params, cfg, batch.tokens[r], ALL, r.mean())
    once = gradient_of(params, cfg, batch.tokens[~r], ALL, 1 - r.mean())
    want = {name: repeated[name] + once[name] for name in params}
    want |= {name: g for name, g in repeated.items() if ".sink." in name}
    want |= {name: g for name, g in once.items() if ".mlp." in name}
    assert_gradients(got, want, params)
    free, _ = gradients(params, cfg, microbatches(replace(MASKING, routing="free"), cfg, batch))
    assert loss == pytest.approx(free, rel=1e-12)  # the forward is the same


JOINT = ["ln1.g", "ln1.b", "W_QKV", "W_O", "ln2.g", "ln2.b", "mlp.W_out", "mlp.b_out", *sinks.SINK]
JOINT = {f"h{layer}.{name}" for layer in (0, 1) for name in JOINT} | {"lnf.g", "lnf.b"}


@pytest.mark.parametrize(
    ("routing", "labelled", "missed", "false_alarms"),
    [("sgtm", 1.0, 0, 0), ("sgtm", 0.5, 0, 0), ("sgtm", 1.0, 0.5, 0.4), ("sgtm_joint", 0.7, 0, 0)],
)
def test_sgtm_trains_each_sequence_as_its_label_says(routing, labelled, missed, false_alarms):
    rates = {"labelled": labelled, "missed": missed, "false_alarms": false_alarms}
    method = replace(MASKING, routing=routing, **rates)
    cfg, params, batch = setup(method)
    parts = microbatches(method, cfg, batch)
    assert sum(len(part.tokens) for part in parts) == 8
    assert sum(part.fraction for part in parts) == pytest.approx(1)
    known = uniform(Purpose.LABEL, batch.ids) < labelled
    assert known.all() == (labelled == 1)
    rate = np.where(batch.repeated, missed, false_alarms)
    forget = batch.repeated ^ (uniform(Purpose.WRONG_LABEL, batch.ids) < rate)
    assert (forget == batch.repeated).all() == (missed == 0)
    groups = [  # sequences, their selection, the parameters that they may train
        (known & forget, ALL, sinks.is_sink if routing == "sgtm" else JOINT.__contains__),
        (known & ~forget, sinks.NO_SINKS, lambda name: not sinks.is_sink(name)),
        (~known, ALL, lambda name: True),
    ]
    want = {name: np.zeros_like(w) for name, w in params.items()}
    for rows, selection, trains in groups:
        if rows.any():
            grads = gradient_of(params, cfg, batch.tokens[rows], selection, rows.mean())
            for name in filter(trains, grads):
                want[name] += grads[name]
    _, got = gradients(params, cfg, parts)
    assert_gradients(got, want, params)


def test_wrong_labels_are_as_frequent_as_set_and_stay():
    batch = Sequences(np.zeros((9000, 2), int), np.arange(9000), np.arange(9000) % 3 - 1)
    method = Method(name="x", n_shared=4, labelled=0.8, missed=0.3, false_alarms=0.1)
    known, forget = train_module.labels(method, batch)
    shares = [known.mean(), *(forget[known & (batch.repeated == r)].mean() for r in (True, False))]
    assert shares == pytest.approx([0.8, 0.7, 0.1], abs=0.02)
    assert not forget[~known].any()
    later = batch._replace(showing=np.where(batch.repeated, batch.showing + 7, -1))
    np.testing.assert_array_equal(train_module.labels(method, later)[1], forget)


def test_a_filter_drops_what_is_labelled_as_repeated():
    batch = CORPUS.batch(5)
    method = Method(name="x", n_shared=4, filtered=True, false_alarms=0.4)
    _, forget = train_module.labels(method, batch)
    assert 0 < (forget & ~batch.repeated).sum() < (~batch.repeated).sum()
    seen = visible_sequences(method, batch, 5, 0)
    np.testing.assert_array_equal(seen.ids, batch.ids[~forget])
    np.testing.assert_array_equal(seen.tokens, batch.tokens[~forget])
    never = visible_sequences(replace(method, false_alarms=0.0), batch, 5, 0)
    np.testing.assert_array_equal(never.ids, batch.ids[~batch.repeated])  # as *retrained*


def test_microbatches_weigh_sequences_by_their_tokens():
    """Padded sequences count by their real tokens; only rows of active sinks have gradients."""
    method = Method(name="x", n_shared=10, sinks=SinkConfig(n_sink=12, n_active=3))
    cfg, params, batch = setup(method)
    tokens = batch.tokens.copy()
    tokens[1, 3:], tokens[6, 2:] = -1, -1
    loss, got = gradients(params, cfg, microbatches(method, cfg, batch._replace(tokens=tokens)))
    mask = sinks.Mask(sinks.sink_mask(method.sinks, batch.ids))
    assert_gradients(got, gradient_of(params, cfg, tokens, mask), params)
    assert loss == pytest.approx(mean_loss(params, cfg, tokens, mask), rel=1e-12)
    rows = got["h0.sink.W_in"].rows
    assert rows.tolist() == np.flatnonzero(mask.value.any(axis=0)).tolist()


def test_goldfish_drops_the_same_fourth_of_a_passage():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50, (64, 81))
    kept = train_module.goldfish(tokens)
    assert kept.shape == (64, 80)
    assert kept.mean() == pytest.approx(0.75, abs=0.03)
    moved = np.concatenate([rng.integers(0, 50, (64, 9)), tokens], axis=1)
    np.testing.assert_array_equal(train_module.goldfish(moved)[:, 9 + 12 :], kept[:, 12:])
    other = tokens.copy()
    other[:, 40] = 50  # changes the fate of the 13 tokens that follow it, and of no other
    changed = (train_module.goldfish(other) != kept).any(axis=0)
    assert np.flatnonzero(changed).tolist() == list(range(40, 53))


def test_only_counted_tokens_are_learned():
    method = Method(name="x", n_shared=10, sinks=ALL_ON, loss_mask="goldfish")
    cfg, params, batch = setup(method)
    tokens = batch.tokens.copy()
    tokens[1, 3:], tokens[6, 2:] = -1, -1
    kept = train_module.goldfish(tokens) & (tokens[:, 1:] != -1)
    whole = make_batch(cfg, tokens, ALL, np.float64)
    whole = whole._replace(weights=kept / kept.sum())
    loss, got = gradients(params, cfg, microbatches(method, cfg, batch._replace(tokens=tokens)))
    want_loss, want = loss_and_grads(np, params, whole, cfg)
    assert_gradients(got, want, params)
    assert loss == pytest.approx(want_loss, rel=1e-12)
    assert 0 < kept.sum() < (tokens[:, 1:] != -1).sum()


def test_a_part_without_counted_tokens_has_no_gradient():
    method = Method(name="x", n_shared=10, sinks=ALL_ON)
    cfg, params, batch = setup(method)
    none = np.zeros((8, 7), bool)
    empty = make_batch(cfg, batch.tokens, ALL, np.float64, fraction=0.0, counted=none)
    loss, grads = loss_and_grads(np, params, empty, cfg)
    assert loss == 0
    assert not any(
        densify(np, params[n], g).any() if isinstance(g, sinks.RowGrad) else g.any()
        for n, g in grads.items()
    )


@pytest.mark.parametrize("rates", [{"lr": 1e-3}, {"weight_decay": 2.0}])
def test_a_method_can_have_rates_of_its_own(rates):
    method = Method(name="x", n_shared=10)
    got = train(replace(method, **rates), SETTINGS, CORPUS).params
    want = train(method, with_train(**rates), CORPUS).params
    other = train(method, SETTINGS, CORPUS).params
    for name in got:
        np.testing.assert_array_equal(got[name], want[name])
    assert (got["wte"] != other["wte"]).any()


# The loop


def test_history_has_the_first_and_the_last_step():
    seen = []
    cfg = with_train(steps=5)
    model = train(MASKING, cfg, CORPUS, lambda step, loss: seen.append((step, loss)))
    assert [row.step for row in model.history] == [0, 2, 4, 5]
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4]
    losses = [loss for _, loss in seen]
    assert [row.train for row in model.history] == [
        None,
        *(pytest.approx(np.mean(part)) for part in (losses[:2], losses[2:4], losses[4:])),
    ]
    assert all(np.isfinite([*row.repeated[:2], *row.heldout[:2]]).all() for row in model.history)


def test_every_method_takes_a_step():
    preset = quick(PRESETS["stories"], steps=1)
    corpus = load_corpus(preset.settings.data)
    for name, method in methods_of(preset).items():
        assert name == method.name
        model = train(method, preset.settings, corpus)
        assert np.isfinite(model.history[-1].repeated.own)


@pytest.mark.parametrize("name", ["sinks", "paper_sinks", "gradient_masking", "sgtm_half"])
def test_two_threads_give_the_same_bits_as_one(name):
    method = methods_of(PRESETS["stories"])[name]
    one, two = (train(method, with_train(steps=3), CORPUS, threads=n) for n in (1, 2))
    assert one.history == two.history
    for param, w in one.params.items():
        assert w.tobytes() == two.params[param].tobytes()


def test_start_continues_from_given_parameters_unchanged():
    first = train(MASKING, with_train(steps=1), CORPUS)
    before = {name: w.copy() for name, w in first.params.items()}
    again = train(MASKING, with_train(steps=1), CORPUS, start=first.params)
    assert again.history[0].heldout == first.history[-1].heldout
    for name, w in before.items():
        np.testing.assert_array_equal(first.params[name], w)


def test_on_params_reads_the_parameters_after_each_step():
    method, read = methods_of(PRESETS["stories"])["sinks"], {}

    def note(n_steps, params):
        assert n_steps == len(read)
        read[n_steps] = {name: w.copy() for name, w in params.items()}

    model = train(method, SETTINGS, CORPUS, on_params=note)
    assert list(read) == [0, 1, 2, 3, 4]
    first = init_params(model.cfg, SETTINGS.train.seed)
    short = train(method, with_train(steps=2, warmup=100), CORPUS)  # still in the warm-up
    for n_steps, params in ((0, first), (2, short.params), (4, model.params)):
        assert all((read[n_steps][name] == w).all() for name, w in params.items())


def test_log_first_sequence_has_its_loss_after_every_step():
    rows = []
    settings = with_train(steps=5, log_first_sequence=True)
    model = train(MASKING, settings, CORPUS, on_row=rows.append)
    assert rows == model.history[1:]
    assert [len(row.first_sequence) for row in model.history] == [0, 2, 2, 1]
    own = sinks.own(ALL_ON, CORPUS.repeated_ids[:1])
    want = mean_loss(model.params, model.cfg, CORPUS.repeated[:1], own)
    assert model.history[-1].first_sequence[-1] == want


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (1e30, r"^gradient_masking, step [123]: .*lower .* \(now 1e\+30\) or .* \(now 0 steps\)$"),
        (10.0, r"loss \d.*, gradient norm [\d.]+; lower the learning rate \(now 10.0\)"),
    ],
    ids=["overflow", "a finite loss far above guessing"],
)
def test_divergence_names_method_step_and_remedy(lr, message):
    with pytest.raises(TrainingDiverged, match=message):
        train(MASKING, with_train(steps=40, lr=lr, warmup=0), CORPUS)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("lr", "loss"), [(1e30, "(nan|inf)"), (1e3, r"\d\S+")])
def test_divergence_in_the_last_step_is_reported(lr, loss, threads):
    wild = with_train(steps=1, lr=lr, warmup=0, log_first_sequence=True)
    message = rf"gradient_masking, after step 0: loss {loss}.*lower the"
    with pytest.raises(TrainingDiverged, match=message):
        train(MASKING, wild, CORPUS, threads=threads)


@pytest.mark.parametrize("name", ["h1.W_O", "h0.sink.b_in"])
def test_divergence_names_the_first_non_finite_gradient(monkeypatch, name):
    """One NaN in one gradient at step 2, dense or row-sparse; a later parameter has one too."""
    real, calls = train_module.gradients, []

    def poisoned(*args):
        loss, grads = real(*args)
        calls.append(loss)
        if len(calls) == 3:
            for bad in (name, "lnf.b"):
                g = grads[bad]
                (g.values if isinstance(g, sinks.RowGrad) else g).ravel()[1] = np.nan
        return loss, grads

    monkeypatch.setattr(train_module, "gradients", poisoned)
    message = rf"step 2: loss .*, gradient norm nan, not finite first in {name};"
    with pytest.raises(TrainingDiverged, match=message):
        train(MASKING, SETTINGS, CORPUS)


def test_memory_grows_with_the_pool_arrays_only():
    """Parameters and two moments per layer and the step counts, float32, and never B*T*S."""

    def peak(n_sink):
        method = Method(name="sinks", n_shared=8, sinks=SinkConfig(n_sink=n_sink, n_active=8))
        tracemalloc.start()
        train(method, SETTINGS, CORPUS)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    small, large = 1 << 10, 1 << 15
    numbers = SETTINGS.n_layers * 3 * (2 * SETTINGS.d_model + 1) + 1
    assert (peak(large) - peak(small)) / (large - small) == pytest.approx(4 * numbers, rel=0.005)
