"""What the released masks do in training: collateral against its definition, and the experiment."""

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from memsinks_np import sinks
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import hash as experiment
from memsinks_np.experiments.methods import PRESETS, job, quick, with_settings
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.runner.cache import train_cached
from memsinks_np.metrics import mean_loss
from memsinks_np.model import init_params
from memsinks_np.trained import Model


@pytest.fixture(autouse=True)
def one_thread():
    with one_blas_thread():
        yield


def model_of(method, dtype=np.float32):
    """An untrained model with strong sinks."""
    preset = quick(PRESETS["stories"], steps=1)
    made = job(preset, experiment.methods_compared(preset)[method], 0, experiment.measure)
    corpus = load_corpus(made.settings.data)
    cfg = made.settings.model(made.method, len(corpus.vocab))
    params = init_params(cfg, dtype=dtype)
    params = {name: w * (5 if sinks.is_sink(name) else 1) for name, w in params.items()}
    return Model(params, cfg, corpus.vocab, corpus.separator, [], corpus)


def test_collateral_is_a_mean_over_pairs_of_sequences():
    """One pair at a time, with sets: j loses what i has, all of it or all but the common sinks."""
    model = model_of("sparse_released", np.float64)
    n_sink, tokens = model.cfg.sinks.n_sink, model.corpus.repeated
    masks = sinks.sink_mask(model.cfg.sinks, model.corpus.repeated_ids)
    has = [set(np.flatnonzero(mask).tolist()) for mask in masks]
    common = set.intersection(*has[1:])  # ID 0 has the whole pool

    def loss(j, active):
        mask = sinks.Mask(np.array([[float(s in active) for s in range(n_sink)]]))
        return mean_loss(model.params, model.cfg, tokens[j : j + 1], mask)

    related = [(i, j) for i, j in permutations(range(1, 8), 2) if i == 2 * j or j == 2 * i]
    others = [pair for pair in permutations(range(1, 8), 2) if pair not in related]
    rise = lambda i, j, spared: loss(j, has[j] - (has[i] - spared)) - loss(j, has[j])
    expected = [
        pytest.approx(np.mean([rise(i, j, spared) for i, j in pairs]))
        for spared in (set(), common)
        for pairs in (others, related)
    ]
    owners = sorted((sum(s in each for each in has[1:]) for s in range(n_sink)), reverse=True)
    assert list(experiment.collateral(model)) == [*expected, len(common), owners]


def test_ids_without_doubles_have_no_pairs():
    model = model_of("sparse_released")
    primes = np.array([3, 5, 7, 11, 13, 17, 19, 23])
    model = model._replace(corpus=replace(model.corpus, repeated_ids=primes))
    collateral = experiment.collateral(model)
    assert collateral.pairs is collateral.spared_pairs is None


@pytest.mark.slow
def test_experiment_reports_masks_and_deletion(tmp_path):
    preset = with_settings(quick(PRESETS["stories"], steps=2), d_model=16)
    context = Context(preset, quick=True)
    outputs = {
        key: json.loads(json.dumps(job.measure(train_cached(job, tmp_path))))
        for key, job in experiment.jobs(context).items()
    }
    result = experiment.result(context, outputs)
    assert [claim.holds for claim in experiment.claims(result)][:3] == [False, True, False]
    (row,) = result.collateral["sparse_released"]
    assert row.n_common >= 1
    assert row.owners[0] == 7  # IDs 1 to 7 of 8
    assert "sparse, released" in experiment.tabulate(result)
    assert len(experiment.draw(result, tmp_path)) == 2
