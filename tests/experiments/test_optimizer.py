"""Sinks that sleep: the tail and the decay by their formulas, and an experiment that reports both."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import optim
from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.config import SinkConfig, TrainConfig
from memsinks_np.experiments import Context, optimizer_run
from memsinks_np.experiments import optimizer as experiment
from memsinks_np.experiments.methods import PRESETS, quick
from memsinks_np.experiments.runner.grid import train_cached
from memsinks_np.experiments.simulations import anywhere

TRAIN = TrainConfig(lr=0.01, weight_decay=0.2)


@pytest.mark.parametrize("optimizer", ["lazy_adamw", "sgd"])
def test_off_is_at_rest_to_the_last_bit(optimizer):
    assert (optimizer_run.trace(replace(TRAIN, optimizer=optimizer), on=5, off=20) == 0).all()


def test_tail_is_momentum_over_fading_size():
    """After `on` steps, step t moves a weight by lr m b1^t / (1 - b1^n) / sqrt(v b2^t / (1 - b2^n))."""
    on, off, (b1, b2) = 7, 30, TRAIN.betas
    cfg = replace(TRAIN, optimizer="adamw", weight_decay=0.0, eps=1e-30)
    gradients = anywhere(1, 64, 0) + anywhere(on + off, 64, 1)
    m = sum((1 - b1) * b1 ** (on - 1 - i) * g for i, g in enumerate(gradients[:on]))
    v = sum((1 - b2) * b2 ** (on - 1 - i) * g * g for i, g in enumerate(gradients[:on]))
    moved = np.zeros(64)
    for t in range(1, off + 1):
        n = on + t
        moved -= m * b1**t / (1 - b1**n) / np.sqrt(v * b2**t / (1 - b2**n))
    assert optimizer_run.trace(cfg, on, off)[-1] == pytest.approx(np.abs(moved).mean(), rel=1e-9)


def test_long_sleep_is_what_adamw_does_to_a_sink_without_a_gradient():
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal((3, 2)) for name in ("wte", "h0.sink.W_out")} | {
        "h0.sink.b_in": np.ones(3)
    }
    want = {name: w.copy() for name, w in start.items()}
    state, nothing = optim.init_state(np, want), np.array([], np.int64)
    for _ in range(9):
        grads = {
            name: (nothing, np.zeros((0, *w.shape[1:])))
            for name, w in want.items()
            if "sink" in name
        }
        optim.update(
            np,
            want,
            {"wte": np.zeros((3, 2))} | grads,
            state,
            replace(TRAIN, optimizer="adamw"),
            TRAIN.lr,
        )
    got = optimizer_run.asleep(start, TRAIN, 9)
    for name in ("h0.sink.W_out", "h0.sink.b_in"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12)
    assert (got["wte"] == start["wte"]).all()  # only sinks sleep
    assert (got["h0.sink.b_in"] == 1).all()


def test_experiment_reports_motion_and_loss(tmp_path):
    grid = lambda jobs, then: [then(job, train_cached(job, tmp_path)) for job in jobs]
    preset = quick(PRESETS["stories"], steps=2)._replace(sinks=SinkConfig(n_sink=256, n_active=16))
    with one_blas_thread():
        result = experiment.run(Context(preset, 1, True, grid))
    claims = experiment.claims(result)
    assert [claim.holds for claim in claims[:3]] == [True, False, True]
    assert result["returns"] == {"often": 1, "rarely": 5}
    one = result["methods"]["rarely"]["lazy_adamw"][0]
    assert one["slept"][0] == pytest.approx(one["repeated_own"], abs=1e-6)
    assert one["slept"][-1] == pytest.approx(
        one["repeated_removed"], abs=1e-3
    )  # nothing is left of it
    assert one["asleep"] == pytest.approx((1 - 16 / 256) ** 32, abs=0.02)
    assert "lazy AdamW" in experiment.tabulate(result)
    assert len(experiment.draw(result, tmp_path)) == 2
