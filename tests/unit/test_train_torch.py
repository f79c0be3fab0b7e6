"""Training a Hugging Face model with the Trainer: IDs that arrive or raise, one process or two."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from commands import ROOT
from memsinks_np.config import ConfigError
from memsinks_np.sinks import sink_mask

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
script = importlib.import_module("memsinks_np.export.train_torch")
torch.set_num_threads(1)

QUICK = script.QUICK


@pytest.fixture(scope="module")
def corpus():
    return script.token_corpus(QUICK)


def method(name):
    return {m.name: m for m in QUICK.methods()}[name]


@pytest.mark.parametrize("name", ["standard", "retrained", "sinks"])
def test_places_are_the_batches_of_the_corpus_in_order(corpus, name):
    places = script.Places(corpus, method(name), 3)
    n_repeated = 0 if name == "retrained" else corpus.cfg.n_repeated_per_batch
    assert len(places) == 3 * (24 + n_repeated)
    batch, repeated = corpus.batch(1), 8 - n_repeated
    rows = [places[places.n + i] for i in range(places.n)]
    np.testing.assert_array_equal([row["tokens"] for row in rows], batch.tokens[repeated:])
    np.testing.assert_array_equal([row[script.IDS] for row in rows], batch.ids[repeated:])


def test_the_trainer_uses_the_sinks_of_each_batch(corpus):
    """The learning rate is zero in the first step, so in two steps only the second batch learns."""
    model, losses = script.train(replace(QUICK, steps=2), corpus, method("sinks"))
    start, batches = script.make_model(QUICK, method("sinks")), [corpus.batch(0), corpus.batch(1)]
    by_hand = [script.loss(start, batch.tokens, batch.ids) for batch in batches]
    assert losses == pytest.approx(by_hand, abs=1e-5)
    active = sink_mask(method("sinks").sinks, batches[1].ids).any(axis=0)
    assert 0 < active.sum() < len(active)
    for block in model.transformer.h:
        moved = block.mlp.sink_proj.weight.any(dim=1).numpy()  # it starts at zero
        np.testing.assert_array_equal(moved, active)


def test_sizes_of_the_full_run_are_those_of_the_doc():
    counts = {
        m.name: script.count(script.make_model(script.FULL, m)) for m in script.FULL.methods()
    }
    assert counts["standard"] == counts["retrained"] == {"pool": 0, "all": 1_059_712}
    assert counts["sinks"] == {"pool": 4_210_688, "all": 5_204_608}


def test_rows_and_batches_without_ids_raise(corpus):
    rows = [{"tokens": corpus.repeated[0]}]
    with pytest.raises(ConfigError, match="remove_unused_columns=False"):
        script.collate(rows)
    model = script.make_model(QUICK, method("sinks"))
    with pytest.raises(ConfigError, match="data_collator `collate`"):
        script.IdTrainer.compute_loss(None, model, {"input_ids": torch.zeros(1, 2).long()})


def test_steps_below_1_are_refused_in_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(["--quick", "--steps", "0"])
    assert capsys.readouterr().err.endswith("--steps 0 is below 1\n")


def run(tmp_path, *launcher):
    """Run `--quick`; return its output and its results."""
    out = tmp_path / "result.json"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, "memsinks_np.export.train_torch", "--quick"]
    done = subprocess.run(
        [*command, "--out", str(out)], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    alone, one = run(tmp_path)
    together, two = run(
        tmp_path, "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"
    )
    for name in ("standard", "retrained", "sinks"):
        losses = [result["methods"][name]["losses"] for result in (one, two)]
        assert len(losses[0]) == QUICK.steps == 20
        assert losses[0][-1] < losses[0][0] - 0.2
        np.testing.assert_allclose(*losses, rtol=0, atol=1e-4, err_msg=name)
    for text in (alone, together):
        assert text.count("| sinks ") == 1  # one process prints
        assert "gradients, 16,640 of them of the pool" in text
