"""The cache: keyed by everything that a model depends on, and by nothing else."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from memsinks_np.config import ConfigError, DataConfig, Method, Settings, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments.runner import cache
from memsinks_np.experiments.runner.cache import Job, fingerprint, model_path, result_path
from memsinks_np.export import npz
from memsinks_np.metrics import mean_loss

DATA = DataConfig(n_ctx=7, batch_size=8, n_repeated=4, n_heldout=4)
SETTINGS = Settings(data=DATA, train=TrainConfig(steps=2), d_model=8, n_heads=2)
METHOD = Method(name="sinks", n_shared=4, sinks=SinkConfig(n_sink=8, n_active=2))
JOB = Job(METHOD, SETTINGS, len)


def key(tmp_path, job=JOB):
    return model_path(tmp_path, fingerprint(job)).name


def test_key_is_what_a_model_depends_on_only(tmp_path):
    want = key(tmp_path)
    assert key(tmp_path, JOB._replace(method=replace(METHOD, name="another name"))) == want
    assert key(tmp_path, JOB._replace(measure=str)) == want
    others = [
        JOB._replace(method=replace(METHOD, n_shared=5)),
        JOB._replace(method=replace(METHOD, max_showings=0)),
        JOB._replace(settings=replace(SETTINGS, d_model=32)),
        JOB._replace(settings=replace(SETTINGS, train=TrainConfig(steps=3))),
        JOB._replace(settings=replace(SETTINGS, data=replace(DATA, seed=1))),
    ]
    assert len({key(tmp_path, job) for job in others} | {want}) == 6


def test_key_depends_on_a_text_and_not_on_its_path(tmp_path):
    def key_of(name, content):
        path = tmp_path / name
        path.write_text(content)
        data = replace(DATA, corpus=str(path))
        return key(tmp_path, JOB._replace(settings=replace(SETTINGS, data=data)))

    one = key_of("a.txt", "one")
    assert key_of("b.txt", "one") == one != key_of("a.txt", "two")


def test_the_source_hash_changes_with_code_and_numpy(monkeypatch):
    want, real = cache.source_hash(), Path.read_bytes
    monkeypatch.setattr(np, "__version__", "0.1")
    assert cache.source_hash() != want
    monkeypatch.undo()
    assert cache.source_hash() == want
    changed = lambda path: real(path) + b"#" if path.name == "ops.py" else real(path)
    monkeypatch.setattr(Path, "read_bytes", changed)
    assert cache.source_hash() != want


def test_a_result_is_keyed_by_its_measurement_too(tmp_path):
    made = fingerprint(JOB)
    measures = [mean_loss, len, partial(len, 1), partial(mean_loss, a=SinkConfig())]
    paths = {result_path(tmp_path, JOB._replace(measure=m), made).name for m in measures}
    assert len(paths) == 4
    assert all(name.startswith(key(tmp_path)[:20]) for name in paths)


def test_a_cached_model_is_the_trained_one(tmp_path, monkeypatch):
    first = cache.train_cached(JOB, tmp_path)
    monkeypatch.setattr(cache, "train", None)  # would raise
    again = cache.train_cached(JOB._replace(method=replace(METHOD, name="other")), tmp_path)
    assert again.history == first.history
    assert again[1:4] == first[1:4]
    for name, w in first.params.items():
        assert again.params[name].tobytes() == w.tobytes()
    with pytest.raises(TypeError):
        cache.train_cached(JOB, tmp_path, fresh=True)


@pytest.mark.parametrize("change", [{"source": "0"}, {"text": "0"}, {"method": {"n_shared": 5}}])
def test_a_model_with_another_fingerprint_is_refused(change, tmp_path):
    made, corpus = fingerprint(JOB), load_corpus(SETTINGS.data)
    path, model = tmp_path / "a.npz", cache.train_cached(JOB, tmp_path)
    npz.save(path, model.params, {"made": made | change, "history": model.history})
    with pytest.raises(ConfigError, match="holds another model; delete") as e:
        cache.load_model(path, JOB, made, corpus)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("history", [3, None, [3], [[0]], [[0, None, [1], [2, 3], []]]])
def test_a_damaged_history_is_refused_in_one_line(history, tmp_path):
    made, model = fingerprint(JOB), cache.train_cached(JOB, tmp_path)
    npz.save(model_path(tmp_path, made), model.params, {"made": made, "history": history})
    with pytest.raises(ConfigError, match=r"^[^\n]*; delete [^\n]*npz and run again$"):
        cache.train_cached(JOB, tmp_path)


DAMAGED = [b"", b"{", b"[]", b"{}", b"3", b'{"other": 1}', b"[" * 9999, b"\xff"]


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_result_is_refused_in_one_line(data, tmp_path):
    path = tmp_path / "a.json"
    cache.save_result(path, {"loss": [1.5, None]})
    assert cache.load_result(path) == {"loss": [1.5, None]}
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"^[^\n]*is not a result[^\n]*delete it[^\n]*$"):
        cache.load_result(path)
