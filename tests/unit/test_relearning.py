"""The relearning attack: its counts by hand, and on models of which the answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np.baselines import relearning
from memsinks_np.baselines.localize import ablate_until_forgotten
from memsinks_np.baselines.relearning import (
    OTHER,
    SHOWN,
    Halves,
    relearn,
    steps_to_relearn,
)
from memsinks_np.baselines.unlearn import Unlearning, unlearn
from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import relearn as experiment
from memsinks_np.experiments.methods import PRESETS, quick
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.report.claims import to_json
from memsinks_np.metrics import evaluate, sequence_losses
from memsinks_np.sinks import NO_SINKS, own
from memsinks_np.train import train
from memsinks_np.trained import prune
from plain import run_jobs

POOL = SinkConfig(n_sink=64, n_active=16)
DATA = DataConfig(n_ctx=15, batch_size=8, n_repeated=4, n_heldout=8, repeat_fraction=0.5)
CORPUS = load_corpus(DATA)
TRAIN = TrainConfig(steps=150, warmup=10, eval_every=75, lr=1e-2)
SETTINGS = Settings(data=DATA, train=TRAIN, d_model=16, n_heads=2)
BY_HAND = [Halves(1.0, 1.0), Halves(0.5, 0.7), Halves(0.2, 0.4), Halves(0.1, 0.9)]


@pytest.fixture(scope="module")
def standard():
    return train(Method(name="standard", n_shared=32), SETTINGS, CORPUS)


@pytest.fixture(scope="module")
def with_sinks():
    return train(Method(name="sinks", n_shared=16, sinks=POOL), SETTINGS, CORPUS)


def attack(model, tokens=CORPUS.repeated, selection=NO_SINKS, steps=3):
    return relearn(model.params, model.cfg, tokens, selection, 1e-2, steps)


def test_counts_by_hand():
    assert [steps_to_relearn(BY_HAND, x) for x in (0.9, 0.15, 0.0, -0.1)] == [0, 2, 3, 3]
    assert relearning.recovered(BY_HAND, 0.2) == pytest.approx(0.6 / 0.8)  # the lowest counts
    assert relearning.recovered([Halves(1.0, 1.0), Halves(0.5, 1.3)], 0.2) == 0


def test_the_halves_are_disjoint_and_complete():
    everything = np.arange(7)
    assert sorted([*everything[SHOWN], *everything[OTHER]]) == everything.tolist()


def test_relearning_starts_at_the_model_and_keeps_it(standard):
    before = {name: w.copy() for name, w in standard.params.items()}
    trajectory = attack(standard)
    loss = sequence_losses(standard.params, standard.cfg, CORPUS.repeated, NO_SINKS)
    assert trajectory[0] == pytest.approx((loss[[0, 2]].mean(), loss[[1, 3]].mean()))
    assert len(trajectory) == 4
    assert trajectory == attack(standard)  # to the last bit
    assert all((standard.params[name] == w).all() for name, w in before.items())


def test_the_other_half_is_never_trained_on(standard):
    swapped = CORPUS.repeated.copy()
    swapped[OTHER] = CORPUS.heldout[:2]
    first, second = (attack(standard, tokens, steps=5) for tokens in (CORPUS.repeated, swapped))
    assert [h.shown for h in first] == pytest.approx([h.shown for h in second], rel=1e-4)
    assert first[0].other != second[0].other


def test_known_sequences_need_no_steps_and_new_ones_do(standard):
    level = max(attack(standard, steps=0)[0])
    assert steps_to_relearn(attack(standard), level) == 0
    assert steps_to_relearn(attack(standard, CORPUS.heldout[:4], steps=6), level) > 5


def test_inactive_sinks_are_not_erased(with_sinks):
    """An attacker with the arrays needs no step; one with the pruned model has to train."""
    active = attack(with_sinks, selection=own(POOL, CORPUS.repeated_ids))
    pruned = attack(prune(with_sinks))
    level = active[0].other + 0.1
    assert min(h.other for h in pruned) > level
    assert pruned == attack(with_sinks)
    assert active[-1].shown < active[0].shown


def test_an_attack_compares_with_as_many_new_sequences(standard):
    corpus = load_corpus(replace(CORPUS.cfg, n_canaries=3))
    got = relearning.evaluate_attack(standard.params, standard.cfg, corpus, 1e-2, 3)
    assert got.evaluation == evaluate(standard.params, standard.cfg, corpus)
    assert got.removed == attack(standard, corpus.repeated[:4])
    assert got.new == attack(standard, corpus.heldout[:4])
    assert relearning.to_attack(json.loads(json.dumps(got))) == got


# The experiment


def test_every_removal_is_attacked_after_it_was_made(standard, with_sinks, monkeypatch):
    attacked = []

    def record(params, cfg, corpus, lr, steps):
        attacked.append((params, cfg))
        assert (corpus, lr, steps) == (CORPUS, 1e-3, 9)

    monkeypatch.setattr(experiment, "evaluate_attack", record)
    update = Unlearning(beta=0.3, max_steps=2)
    setting = {"lr": 1e-3, "steps": 9}
    pruned = experiment.attack_pruned(with_sinks, **setting)
    experiment.attack_pruned(standard, **setting)
    experiment.attack_cut(standard, **setting)
    updated = experiment.attack_updated(standard, **setting, update=update)
    params, trajectory = unlearn(standard.params, standard.cfg, CORPUS, update)
    want = [
        prune(with_sinks).params,
        standard.params,
        ablate_until_forgotten(standard.params, standard.cfg, CORPUS),
        params,
    ]
    for (got, cfg), each in zip(attacked, want, strict=True):
        assert cfg.sinks is None
        assert list(got) == list(each)
        assert all((got[name] == each[name]).all() for name in each)
    evaluation = evaluate(with_sinks.params, with_sinks.cfg, CORPUS)
    assert pruned.loss_with_sinks == pytest.approx(evaluation.repeated.own)
    assert updated.unlearning == trajectory


@pytest.fixture(scope="module")
def result():
    return run_jobs(experiment, Context(quick(PRESETS["stories"], steps=4), quick=True))


@pytest.mark.slow
def test_relearn_tabulates_claims_and_draws(result, tmp_path):
    json.loads(to_json(result))
    assert len(experiment.lines(result)) == 9
    assert all(len(row.attack) == 5 for *_, rows in experiment.lines(result) for row in rows)
    assert "neurons cut out" in experiment.tabulate(result)
    assert [type(claim.holds) for claim in experiment.claims(result)] == [bool] * 9
    paths = experiment.draw(result, tmp_path)
    assert [path.name for path in paths] == ["relearn.png", "relearn.svg"]


def test_relearn_measures_from_the_standard_model(result):
    standard, retrained = (result.removals[name][0] for name in ("standard", "retrained"))
    assert (standard.steps, standard.recovered, standard.gold_gap_closed) == (0, None, 0)
    assert standard.savings == 1
    assert (retrained.gold_gap_closed, standard.heldout_cost) == (1, 0)
    npo = result.removals["npo"][0]
    assert (npo.repeated, npo.heldout) == pytest.approx(npo.unlearning[-1][:2])
    assert npo.heldout_cost == pytest.approx(npo.heldout - standard.heldout)


def test_settings_are_chosen_in_favour_of_the_update(result):
    def row(repeated, heldout, recovered):
        return result.removals["npo"][0]._replace(
            repeated=repeated,
            heldout=heldout,
            heldout_cost=heldout - 1.0,
            recovered=recovered,
        )

    unfinished, cheap = row(0.5, 0.9, 0.1), row(0.98, 0.97, 0.9)
    robust, dear = row(1.05, 1.04, 0.3), row(1.3, 1.2, 0.0)
    tried = [unfinished, cheap, robust, dear]
    assert experiment.best_utility(tried) is cheap
    assert experiment.hardest_to_relearn(tried) is robust
    assert experiment.hardest_to_relearn([unfinished, dear]) is dear  # none at an allowed cost
