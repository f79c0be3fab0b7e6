"""Inactive sinks: momentum and decay against their formulas."""

import json
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import optim
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.config import SinkConfig, TrainConfig
from memsinks_np.experiments import optimizer as experiment
from memsinks_np.experiments.methods import PRESETS, quick, with_settings
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.runner.cache import train_cached
from memsinks_np.experiments.simulations import anywhere
from memsinks_np.sinks import RowGrad

TRAIN = TrainConfig(lr=0.01, weight_decay=0.2)


def test_inactive_sink_moves_by_decaying_momentum():
    """After n_active steps, step t moves a weight by m b1^t / (1 - b1^n) / sqrt(v b2^t / ...)."""
    n_active, n_inactive, (b1, b2) = 7, 30, TRAIN.betas
    cfg = replace(TRAIN, optimizer="adamw", weight_decay=0.0, eps=1e-30)
    gradients = (anywhere(1, 64, 0) + anywhere(n_active + n_inactive, 64, 1))[:n_active]
    m = sum((1 - b1) * b1 ** (n_active - 1 - i) * g for i, g in enumerate(gradients))
    v = sum((1 - b2) * b2 ** (n_active - 1 - i) * g * g for i, g in enumerate(gradients))
    moved = np.zeros(64)
    for t in range(1, n_inactive + 1):
        n = n_active + t
        moved -= m * b1**t / (1 - b1**n) / np.sqrt(v * b2**t / (1 - b2**n))
    last = experiment.trace(cfg, n_active, n_inactive)[-1]
    assert last == pytest.approx(np.abs(moved).mean(), rel=1e-9)


def test_shrunk_equals_adamw_steps_without_a_gradient():
    rng = np.random.default_rng(0)
    start = {"wte": rng.standard_normal((3, 2)), "h0.sink.W_out": rng.standard_normal((3, 2))}
    start["h0.sink.b_in"] = np.ones(3)
    expected = {name: w.copy() for name, w in start.items()}
    state, none = optim.init_state(np, expected), np.array([], np.int64)
    cfg = replace(TRAIN, optimizer="adamw")
    pool = {name: w for name, w in start.items() if "sink" in name}
    for _ in range(9):
        grads = {name: RowGrad(none, np.zeros((0, *w.shape[1:]))) for name, w in pool.items()}
        optim.update(np, expected, grads, state, cfg, cfg.lr)
    shrunk = experiment.shrunk(start, TRAIN.lr * TRAIN.weight_decay, 9)
    for name, w in expected.items():
        np.testing.assert_allclose(shrunk[name], w, rtol=1e-12)
    assert (shrunk["h0.sink.W_out"] != start["h0.sink.W_out"]).all()


@pytest.mark.slow
def test_experiment_reports_motion_and_loss(tmp_path):
    preset = quick(PRESETS["stories"], steps=2)._replace(sinks=SinkConfig(n_sink=256, n_active=16))
    context = Context(with_settings(preset, d_model=16), quick=True)
    with one_blas_thread():
        outputs = {
            key: json.loads(json.dumps(job.measure(train_cached(job, tmp_path))))
            for key, job in experiment.jobs(context).items()
        }
    result = experiment.result(context, outputs)
    assert [claim.holds for claim in experiment.claims(result)[:3]] == [True, False, True]
    assert [group.every for group in result.groups.values()] == [1, 5]
    rarely = result.groups["rarely"]
    own, removed = (rarely.mean("lazy_adamw", f"repeated.{s}") for s in ("own", "removed"))
    assert rarely.unused[0] == [pytest.approx(own, abs=1e-6)]
    assert rarely.unused[-1] == [pytest.approx(removed, abs=1e-3)]  # nothing is left of it
    assert rarely.inactive == [pytest.approx((1 - 16 / 256) ** 32, abs=0.02)]
    assert "lazy AdamW" in experiment.tabulate(result)
    assert len(experiment.draw(result, tmp_path)) == 2
