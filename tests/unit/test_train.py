"""What each method sees, where its gradients go, and that a run which diverges says so."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from memsinks_np.routing import LABEL, microbatches, visible_sequences

from memsinks_np import sinks
from memsinks_np import train as train_module
from memsinks_np._internal.ids import uniform
from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments.methods import PRESETS, methods_of, quick, seeded
from memsinks_np.metrics import mean_loss
from memsinks_np.model import init_params, loss_and_grads, make_batch
from memsinks_np.train import TrainingDiverged, gradients, train

ALL_ON = SinkConfig(n_sink=6, n_active=6)
DATA = DataConfig(n_ctx=7, batch_size=8, n_repeated=4, n_heldout=4)
SETTINGS = Settings(data=DATA, train=TrainConfig(steps=4, eval_every=2), d_model=8, n_heads=2)
CORPUS = load_corpus(DATA)
MASKING = Method(name="gradient_masking", n_shared=10, sinks=ALL_ON, routing="gradient_masking")


def test_a_seed_chooses_the_data_the_initial_weights_and_the_sinks_and_nothing_else():
    preset = quick(PRESETS["stories"], steps=7)
    for name, method in methods_of(preset).items():
        job = seeded(preset, method, 5)
        data, tuned, pool = job.settings.data, job.settings.train, job.method.sinks
        assert (data.seed, tuned.seed, pool.seed if pool else 5) == (5, 5, 5)
        assert seeded(preset._replace(settings=job.settings), job.method, 0) == (
            methods_of(preset)[name],
            preset.settings,
        )


def test_retrained_without_sees_the_same_once_seen_sequences_and_no_other():
    batch = CORPUS.batch(5)
    seen = visible_sequences(Method(name="gold", n_shared=4, sees_repeated=False), batch, 5, 0)
    np.testing.assert_array_equal(seen.tokens, batch.tokens[~batch.repeated])
    np.testing.assert_array_equal(seen.ids, batch.ids[~batch.repeated])


def test_tied_ids_stay_and_untied_ids_are_drawn_anew_at_every_occurrence():
    tied, random_sinks = (
        Method(name="a", n_shared=4),
        Method(name="b", n_shared=4, random_sinks=True),
    )
    batch = CORPUS.batch(5)
    assert visible_sequences(tied, batch, 5, 0).ids is batch.ids
    drawn = [visible_sequences(random_sinks, batch, step, 0).ids for step in (5, 6)]
    assert len(set(np.concatenate(drawn).tolist())) == 16
    np.testing.assert_array_equal(drawn[0], visible_sequences(random_sinks, batch, 5, 0).ids)


def separate(params, cfg, rows):
    """Gradients of the mean loss over the whole batch that come from some of its sequences."""
    batch = CORPUS.batch(1)
    ids, tokens = batch.ids[rows], batch.tokens[rows]
    made = make_batch(cfg, tokens, (sinks.Mask(np.ones((1, 6))),) * 2, np.float64)
    _, grads = loss_and_grads(np, params, made, cfg)
    return {name: g * len(ids) / 8 for name, g in grads.items()}


def test_gradient_masking_routes_every_parameter_as_the_paper_says():
    cfg = SETTINGS.model(MASKING, len(CORPUS.vocab))
    params = init_params(cfg, dtype=np.float64)
    batch = CORPUS.batch(1)
    loss, got = gradients(params, cfg, microbatches(MASKING, cfg, batch))
    repeated, once = separate(params, cfg, batch.repeated), separate(params, cfg, ~batch.repeated)
    for name, g in got.items():
        if ".sink." in name:
            rows, g = g
            np.testing.assert_array_equal(rows, np.arange(6))
            want = repeated[name]
        else:
            want = once[name] if ".mlp." in name else repeated[name] + once[name]
        np.testing.assert_allclose(g, want, rtol=1e-9, atol=1e-14, err_msg=name)
    free, _ = gradients(params, cfg, microbatches(replace(MASKING, routing="free"), cfg, batch))
    assert loss == pytest.approx(free, rel=1e-12)  # the forward is the same: all_scaled is on


def test_gathered_and_masked_training_take_the_same_step():
    """A pool given as rows or as the mask of the same rows leads to the same gradients."""
    method = Method(name="x", n_shared=10, sinks=SinkConfig(n_sink=12, n_active=3))
    cfg = SETTINGS.model(method, len(CORPUS.vocab))
    params, batch = init_params(cfg, dtype=np.float64), CORPUS.batch(2)
    _, got = gradients(params, cfg, microbatches(method, cfg, batch))
    masks = (sinks.Mask(sinks.sink_mask(method.sinks, batch.ids)),) * 2
    _, want = loss_and_grads(np, params, make_batch(cfg, batch.tokens, masks, np.float64), cfg)
    for name, g in got.items():
        if isinstance(g, tuple):
            np.testing.assert_allclose(g[1], want[name][g[0]], rtol=1e-8, atol=1e-14)
            assert (np.delete(want[name], g[0], axis=0) == 0).all()
        else:
            np.testing.assert_allclose(g, want[name], rtol=1e-8, atol=1e-14)


def test_history_has_the_first_and_the_last_step():
    steps = []
    trained = train(
        MASKING,
        replace(SETTINGS, train=TrainConfig(steps=5, eval_every=2)),
        lambda: steps.append(1),
    )
    assert [row["step"] for row in trained.history] == [0, 2, 4, 5]
    assert len(steps) == 5
    assert trained.history[0]["train"] is None  # nothing was trained on before
    assert all(np.isfinite(v) for row in trained.history[1:] for v in row.values())


def test_divergence_names_arm_step_and_remedy():
    wild = replace(SETTINGS, train=TrainConfig(steps=4, lr=1e30, warmup=0))
    with pytest.raises(
        TrainingDiverged,
        match=r"gradient_masking.*step [123].*lower the learning rate \(now 1e\+30\)",
    ) as e:
        train(MASKING, wild)
    assert "\n" not in str(e.value)
    assert e.value.last_good.history[0]["step"] == 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("lr", "loss"), [(1e30, "(nan|inf)"), (1e3, r"\d\S+")])
def test_what_the_last_step_destroys_is_divergence_too(lr, loss, threads):
    wild = replace(SETTINGS, train=TrainConfig(steps=1, lr=lr, warmup=0, log_first_sequence=True))
    with pytest.raises(
        TrainingDiverged, match=rf"gradient_masking, after step 0: loss {loss}, .*lower the"
    ) as e:
        train(MASKING, wild, threads=threads)
    assert e.value.last_good is None


@pytest.mark.parametrize("name", ["h1.W_O", "h0.sink.b_in"])
def test_divergence_names_the_first_parameter_whose_gradient_is_not_finite(monkeypatch, name):
    """One NaN in one gradient at step 2, dense or row-sparse; a later parameter has one too."""
    real, calls = train_module.gradients, []

    def poisoned(*args):
        loss, grads = real(*args)
        calls.append({param: w.copy() for param, w in args[0].items()})
        if len(calls) == 3:
            for bad in (name, "lnf.b"):
                (grads[bad][1] if isinstance(grads[bad], tuple) else grads[bad]).ravel()[1] = np.nan
        return loss, grads

    monkeypatch.setattr(train_module, "gradients", poisoned)
    with pytest.raises(
        TrainingDiverged, match=rf"step 2: loss .*, gradient norm nan, not finite first in {name};"
    ) as e:
        train(MASKING, SETTINGS)
    for param, w in e.value.last_good.params.items():
        np.testing.assert_array_equal(w, calls[2][param])


def test_a_finite_loss_far_above_that_of_guessing_is_divergence_too():
    """AdamW's steps are bounded: a learning rate of 10 ruins every weight and never overflows."""
    with pytest.raises(
        TrainingDiverged,
        match=r"loss \d.*, gradient norm [\d.]+; lower the learning rate \(now 10.0\)",
    ):
        train(MASKING, replace(SETTINGS, train=TrainConfig(steps=40, lr=10.0, warmup=0)))


@pytest.mark.parametrize("labelled", [1.0, 0.5])
def test_sgtm_trains_each_kind_of_sequence_as_its_label_says(labelled):
    """Labelled repeats: the sinks alone; labelled others: no sinks in the forward; unlabelled: all_scaled."""
    method = replace(MASKING, routing="sgtm", labelled=labelled)
    cfg = SETTINGS.model(method, len(CORPUS.vocab))
    params, batch = init_params(cfg, dtype=np.float64), CORPUS.batch(1)
    parts = microbatches(method, cfg, batch)
    assert sum(len(part.tokens) for part in parts) == 8
    assert sum(part.share for part in parts) == pytest.approx(1)
    known = uniform(LABEL, batch.ids) < labelled
    assert known.all() == (labelled == 1)
    _, got = gradients(params, cfg, parts)
    all_scaled = (sinks.Mask(np.ones((1, 6))),) * 2
    groups = {  # rows -> selection, the parameters that they may train
        "forget": (known & batch.repeated, all_scaled, lambda name: ".sink." in name),
        "retain": (known & ~batch.repeated, sinks.NO_SINKS, lambda name: ".sink." not in name),
        "unknown": (~known, all_scaled, lambda name: True),
    }
    want = {name: np.zeros_like(w) for name, w in params.items()}
    for rows, selection, trains in groups.values():
        if rows.any():
            made = make_batch(cfg, batch.tokens[rows], selection, np.float64, rows.sum() / 8)
            for name, g in loss_and_grads(np, params, made, cfg)[1].items():
                want[name] += g * trains(name)
    for name, g in got.items():
        dense = sinks_dense(g, params[name]) if isinstance(g, tuple) else g
        np.testing.assert_allclose(dense, want[name], rtol=1e-9, atol=1e-14, err_msg=name)
    assert set(got) == set(params)


def sinks_dense(rows_and_values, like):
    dense = np.zeros_like(like)
    dense[rows_and_values[0]] = rows_and_values[1]
    return dense


def test_every_rival_takes_a_step():
    preset = quick(PRESETS["stories"], steps=1)
    for name, method in methods_of(preset).items():
        job = seeded(preset, method, 0)
        history = train(*job).history
        assert name == method.name
        assert np.isfinite(history[-1]["repeated_own"])


def test_watched_losses_are_those_of_the_first_repeated_sequence_after_every_step():
    watching = replace(SETTINGS, train=TrainConfig(steps=5, eval_every=2, log_first_sequence=True))
    trained = train(MASKING, watching)
    assert [len(row.get("watched", [])) for row in trained.history] == [0, 2, 2, 1]
    cfg = SETTINGS.model(MASKING, len(CORPUS.vocab))
    own = sinks.own(ALL_ON, CORPUS.repeated_ids[:1])
    assert trained.history[-1]["watched"][-1] == mean_loss(
        trained.params, cfg, CORPUS.repeated[:1], own
    )


def test_memory_grows_by_the_pools_own_arrays_and_nothing_else():
    """Both matrices and the bias with two moments and the step count of each row, in float32, and never B*T*S."""

    def peak(n_sink):
        method = Method(name="sinks", n_shared=8, sinks=SinkConfig(n_sink=n_sink, n_active=8))
        tracemalloc.start()
        train(method, SETTINGS)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    small, large = 1 << 10, 1 << 15
    numbers = SETTINGS.n_layers * (3 * (2 * SETTINGS.d_model + 1) + 1)
    assert (peak(large) - peak(small)) / (large - small) == pytest.approx(4 * numbers, rel=0.005)
