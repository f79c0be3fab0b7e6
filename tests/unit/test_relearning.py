"""The relearning attack: its counts on hand-made ways, and on models of which the answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np._internal.blas import one_blas_thread
from memsinks_np.baselines.relearning import (
    OTHER,
    SHOWN,
    back,
    examine,
    recovered,
    relearn,
    savings,
)
from memsinks_np.baselines.unlearn import Unlearning, unlearn
from memsinks_np.config import DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import Context, relearn_run
from memsinks_np.experiments import relearn as experiment
from memsinks_np.experiments.methods import PRESETS, quick
from memsinks_np.experiments.runner.grid import Job, train_cached
from memsinks_np.metrics import predict
from memsinks_np.sinks import NO_SINKS, own, prune, sink_mask
from memsinks_np.train import Model, train
from plain import continued, word_losses

DATA = DataConfig(n_ctx=15, batch_size=8, n_repeated=4, n_heldout=8, repeat_fraction=0.5)
SETTINGS = Settings(
    data=DATA,
    train=TrainConfig(steps=150, warmup=10, eval_every=75, lr=1e-2),
    d_model=16,
    n_heads=2,
)
POOL = SinkConfig(n_sink=64, n_active=16)
CORPUS = load_corpus(DATA)
OFF = NO_SINKS
WAY = [
    {"step": i, "shown": s, "other": o}
    for i, (s, o) in enumerate([(1.0, 1.0), (0.5, 0.7), (0.2, 0.4), (0.1, 0.9)])
]


def model(method):
    return SETTINGS.model(method, len(CORPUS.vocab))


@pytest.fixture(scope="module")
def standard():
    method = Method(name="standard", n_shared=32)
    return train(method, SETTINGS).params, model(method)


@pytest.fixture(scope="module")
def memsinks():
    method = Method(name="sinks", n_shared=16, sinks=POOL)
    return train(method, SETTINGS).params, model(method)


def test_counts_on_a_way_that_a_person_can_read():
    assert back(WAY, "shown", 1.0) == 0
    assert back(WAY, "shown", 0.2) == 2
    assert back(WAY, "other", 0.4) == 2
    assert back(WAY, "other", 0.39) is None
    assert recovered(WAY, 0.2) == pytest.approx(
        0.6 / 0.8
    )  # 0.9 at the end undoes nothing that was leaked
    assert (
        recovered(
            [{"step": 0, "shown": 1.0, "other": 1.0}, {"step": 1, "shown": 0.5, "other": 1.3}], 0.2
        )
        == 0
    )
    assert savings(30, 60) == 0.5
    assert savings(60, 60) == 0


def test_the_halves_are_disjoint_and_whole():
    everyone = np.arange(7)
    assert sorted([*everyone[SHOWN], *everyone[OTHER]]) == everyone.tolist()


def test_first_row_is_the_model_as_it_came_and_it_stays_so(standard):
    params, cfg = standard
    before = {name: w.copy() for name, w in params.items()}
    way = relearn(params, cfg, CORPUS.repeated, OFF, 1e-2, 3)
    loss = predict(params, cfg, CORPUS.repeated, OFF)[0].mean(axis=1)
    assert way[0] == {
        "step": 0,
        "shown": pytest.approx(loss[[0, 2]].mean(), rel=1e-5),
        "other": pytest.approx(loss[[1, 3]].mean(), rel=1e-5),
    }
    assert [row["step"] for row in way] == [0, 1, 2, 3]
    assert way == relearn(params, cfg, CORPUS.repeated, OFF, 1e-2, 3)  # to the last bit
    assert all((params[name] == w).all() for name, w in before.items())


def test_the_other_half_is_never_shown(standard):
    """Other sequences in the places of the half that is not shown change nothing of what the attack does."""
    params, cfg = standard
    swapped = CORPUS.repeated.copy()
    swapped[OTHER] = CORPUS.heldout[:2]
    ways = [relearn(params, cfg, tokens, OFF, 1e-2, 5) for tokens in (CORPUS.repeated, swapped)]
    assert [row["shown"] for row in ways[0]] == pytest.approx(
        [row["shown"] for row in ways[1]], rel=1e-4
    )
    assert ways[0][0]["other"] != ways[1][0]["other"]


def test_the_attack_ends_where_it_is_told(standard):
    params, cfg = standard
    way = relearn(params, cfg, CORPUS.heldout, OFF, 1e-2, 100, until=1.0)
    assert way[-1]["shown"] <= 1.0 < way[-2]["shown"]
    assert back(way, "shown", 1.0) == len(way) - 1


def test_what_is_still_there_is_back_at_once_and_new_sequences_are_not(standard):
    params, cfg = standard
    level = relearn(params, cfg, CORPUS.repeated, OFF, 1e-2, 0)[0]
    level = max(level["shown"], level["other"]) + 0.1
    assert back(relearn(params, cfg, CORPUS.repeated, OFF, 1e-2, 5), "shown", level) == 0
    assert (
        back(relearn(params, cfg, CORPUS.heldout[:4], OFF, 1e-2, 100), "shown", level) or 101
    ) > 5


def test_sinks_that_are_off_but_not_erased_are_found_by_the_id(memsinks):
    """Who has the arrays needs no step; who has the pruned model trains an ordinary transformer."""
    params, cfg = memsinks
    with_arrays = relearn(params, cfg, CORPUS.repeated, own(POOL, CORPUS.repeated_ids), 1e-2, 4)
    pruned = relearn(prune(params), cfg, CORPUS.repeated, OFF, 1e-2, 4)
    kept = relearn(params, cfg, CORPUS.repeated, OFF, 1e-2, 4)
    level = with_arrays[0]["other"] + 0.1
    assert back(with_arrays, "other", level) == 0
    assert back(pruned, "other", level) is None
    assert pruned == kept  # a sink that is off plays no part


def test_with_its_sinks_on_a_sequence_trains_its_own_sinks(memsinks):
    params, cfg = memsinks
    pool = params["h0.sink.W_out"].copy()
    way = relearn(params, cfg, CORPUS.repeated, own(POOL, CORPUS.repeated_ids), 1e-2, 3)
    assert way[-1]["shown"] < way[0]["shown"]
    assert (params["h0.sink.W_out"] == pool).all()


WITH_CANARIES = load_corpus(replace(DATA, n_canaries=3))


@pytest.mark.parametrize(
    ("level", "steps", "turned"),
    [(0.3, 12, False), (0.3, 5, False), (0.6, 12, True)],
    ids=["old ones first", "new ones never", "new ones at once"],
)
def test_an_examination_sets_the_stories_beside_as_many_new_ones(standard, level, steps, turned):
    params, cfg = standard
    cut = params | {"h1.mlp.W_out": 0 * params["h1.mlp.W_out"]}
    old, new = (
        (CORPUS.heldout[:4], CORPUS.repeated) if turned else (CORPUS.repeated, CORPUS.heldout)
    )
    corpus = replace(
        WITH_CANARIES, repeated=np.concatenate([old, WITH_CANARIES.repeated[4:]]), heldout=new
    )
    ways = [relearn(cut, cfg, some, OFF, 1e-2, steps) for some in (old, new[:4])]
    there, fresh = (
        [*(row["step"] for row in way if row["shown"] <= level + 0.1), steps][0] for way in ways
    )
    others = [row["other"] for row in ways[0]]
    loss = [np.mean([word_losses(cut, cfg, row) for row in some]) for some in (old, new)]
    assert examine(cut, cfg, corpus, level, 1e-2, steps) == {
        "repeated_removed": pytest.approx(loss[0], rel=1e-5),
        "heldout_removed": pytest.approx(loss[1], rel=1e-5),
        "extraction": np.mean([continued(cut, cfg, row[:8], 8) == row.tolist() for row in old]),
        "steps": there,
        "steps_new": fresh,
        "savings": 1 - there / (fresh or 1),
        "recovered": pytest.approx((others[0] - min(others)) / (others[0] - level)),
        "other_before": others[0],
        "other_lowest": min(others),
        "attack": ways[0],
    }


def same(a, b):
    return list(a) == list(b) and all((a[name] == b[name]).all() for name in a)


def test_every_removal_starts_from_its_arm_and_is_attacked_at_the_level_of_its_seed(
    standard, memsinks, monkeypatch
):
    examined = []
    monkeypatch.setattr(
        relearn_run,
        "examine",
        lambda params, **how: examined.append((params, how)) or {"loss": 2.5},
    )
    settings = replace(SETTINGS, data=WITH_CANARIES.cfg, train=replace(SETTINGS.train, seed=1))
    updates = {"npo": [{"beta": 0.3, "max_steps": 2}, {"beta": 0.3, "max_steps": 1}]}

    def attacked(name, trained):
        params, cfg = trained
        job = Job(Method(name=name, n_shared=cfg.n_shared, sinks=cfg.sinks), settings)
        rows = relearn_run.attack(job, Model(params, []), [0.3, 0.7, 0.9], 9, updates)
        found = examined[-len(rows) :]
        for _, how in found:
            assert how.pop("corpus").cfg == WITH_CANARIES.cfg
            assert how == {
                "cfg": cfg,
                "level": 0.7,
                "lr": pytest.approx(SETTINGS.train.lr / 10),
                "steps": 9,
            }
        assert all(row["loss"] == 2.5 for row in rows)
        return rows, [params for params, _ in found]

    (row,), (params,) = attacked("sinks", memsinks)
    alone = [
        word_losses(*memsinks, words, sink_mask(POOL, [i])[0])
        for i, words in enumerate(CORPUS.repeated)
    ]
    assert row["with_arrays"] == pytest.approx(np.mean(alone), rel=1e-5)
    assert same(params, prune(memsinks[0]))
    for name, want in (
        ("standard", standard[0]),
        (relearn_run.CUT, relearn_run.localized(*standard, WITH_CANARIES)),
    ):
        (row,), (params,) = attacked(name, standard)
        assert row["with_arrays"] is None
        assert same(params, want)
    for row, params, how in zip(*attacked("npo", standard), updates["npo"], strict=True):
        moved, way = unlearn(*standard, WITH_CANARIES, Unlearning(**how))
        assert same(params, moved)
        assert row == {"loss": 2.5, "with_arrays": None, "how": how, "unlearning": way}


def row(repeated, heldout, returned):
    return {"repeated_removed": repeated, "heldout_removed": heldout, "recovered": returned}


def test_settings_are_chosen_in_the_favour_of_the_update():
    standard = row(0.2, 1.0, None)
    unfinished, cheap, tough, dear = (
        row(0.5, 0.9, 0.1),
        row(0.98, 0.97, 0.9),
        row(1.05, 1.04, 0.3),
        row(1.3, 1.2, 0.0),
    )
    tried = [unfinished, cheap, tough, dear]
    assert relearn_run.cheapest(tried) is cheap
    assert relearn_run.toughest(tried, standard) is tough
    assert (
        relearn_run.toughest([unfinished, dear], standard) is dear
    )  # none within the budget: any may be it


def test_experiment_runs_small_and_tells_draws_and_survives_json(tmp_path):
    grid = lambda jobs, then: [
        json.loads(json.dumps(then(job, train_cached(job, tmp_path)))) for job in jobs
    ]
    with one_blas_thread():
        result = experiment.run(Context(quick(PRESETS["stories"], steps=4), 1, True, grid))
    result = json.loads(json.dumps(result))
    assert set(result["methods"]) == set(experiment.LABELS)
    assert all(len(r["attack"]) == 5 for rows in result["methods"].values() for r in rows)
    assert result["methods"]["standard"][0]["steps"] == 0  # nothing was removed
    assert "retrained without" in experiment.tabulate(result)
    assert len(experiment.claims(result)) == 9
    names = [path.name for path in experiment.draw(result, tmp_path)]
    assert names == ["relearn.png", "relearn.svg"]


def test_neurons_are_cut_out_until_the_repeated_loss_is_that_of_new_sequences(
    standard, monkeypatch
):
    """On a model whose repeated loss is the share that was erased, and whose held-out loss is 0.3."""
    params, cfg = standard
    scores = []
    loss = lambda p, cfg, tokens, off: p["share"] if len(tokens) == len(CORPUS.repeated) else 0.3
    monkeypatch.setattr(relearn_run.metrics, "mean_loss", loss)
    monkeypatch.setattr(
        relearn_run,
        "integrated_gradients",
        lambda p, cfg, tokens, *_, **__: np.float64(tokens[0, 0]),
    )
    monkeypatch.setattr(
        relearn_run, "remove", lambda p, s, share: scores.append(s) or {"share": share}
    )
    assert relearn_run.localized(params, cfg, CORPUS) == {"share": 10 / 32}
    once, _ = CORPUS.draw(np.arange(4))
    assert set(scores) == {CORPUS.repeated[0, 0] - once[0, 0]}
