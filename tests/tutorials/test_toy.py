"""Trained models of the pages are cached, and compared as experiments compare them."""

from functools import partial

import numpy as np
import pytest

from memsinks_np.experiments.methods import PRESETS, methods_of
from tutorials import toy

SMALL = {"n_repeated": 2, "n_heldout": 2, "batch_size": 4}


def test_model_is_trained_once_for_name_or_method(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSINKS_CACHE", str(tmp_path))
    first = toy.trained("sinks", steps=2, **SMALL)
    monkeypatch.setattr("memsinks_np.experiments.runner.cache.train", None)
    again = toy.trained(methods_of(PRESETS["stories"])["sinks"], steps=2, **SMALL)
    assert again.history == first.history
    assert all(np.array_equal(w, again.params[name]) for name, w in first.params.items())
    assert len(list(tmp_path.glob("*.npz"))) == 1


def test_comparison_has_the_models_own_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(toy, "trained", partial(toy.trained, **SMALL))
    monkeypatch.setenv("MEMSINKS_CACHE", str(tmp_path))
    result = toy.compared(("sinks",), 2)
    model = toy.trained("sinks", 2, 0)
    last = model.history[-1].repeated.own
    assert result.values("sinks", "repeated.own") == [pytest.approx(last, rel=1e-6)]
    assert result.entropy.repeated == model.corpus.entropy(model.corpus.repeated)


def test_cache_is_that_of_the_clone(tmp_path, monkeypatch):
    (tmp_path / "tutorials").mkdir()
    monkeypatch.chdir(tmp_path / "tutorials")
    monkeypatch.delenv("MEMSINKS_CACHE", raising=False)
    assert toy.model_cache() == tmp_path / "tutorials" / "runs" / "cache"
    (tmp_path / "run_toy.py").touch()
    assert toy.model_cache() == tmp_path / "runs" / "cache"
    monkeypatch.setenv("MEMSINKS_CACHE", str(tmp_path / "mine"))
    assert toy.model_cache() == tmp_path / "mine"
