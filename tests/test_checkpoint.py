"""Trained arms on disk: found by what made them, whole or absent, refused when damaged."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks_np import checkpoint
from memsinks_np.config import Arm, ConfigError, DataConfig, Settings, TrainConfig
from memsinks_np.train import Trained

ARM = Arm(name="standard", n_shared=4)
SETTINGS = Settings(data=DataConfig(), train=TrainConfig())
TRAINED = Trained(
    {"wte": np.arange(6, dtype=np.float32).reshape(2, 3).T, "h0.b_in": np.ones(2)},
    [{"step": 0, "train": 1.5}],
)


def path_of(arm, settings):
    return checkpoint.cache_path(checkpoint.Path("cache"), checkpoint.describe(arm, settings)).name


def test_round_trip_and_same_bytes_twice(tmp_path):
    made = checkpoint.describe(ARM, SETTINGS)
    for name in ("a.npz", "b.npz"):
        checkpoint.save(tmp_path / name, TRAINED, made)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = checkpoint.load(tmp_path / "a.npz")
    assert back.history == TRAINED.history
    for name, w in TRAINED.params.items():
        np.testing.assert_array_equal(back.params[name], w)
        assert back.params[name].dtype == w.dtype
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_key_is_what_a_training_depends_on_and_nothing_else(tmp_path):
    want = path_of(ARM, SETTINGS)
    assert path_of(replace(ARM, name="another name"), SETTINGS) == want
    text = tmp_path / "text.txt"
    other = [
        (replace(ARM, n_shared=5), SETTINGS),
        (replace(ARM, repeats=False), SETTINGS),
        (ARM, replace(SETTINGS, d_model=32)),
        (ARM, replace(SETTINGS, train=TrainConfig(lr=1e-3))),
        (ARM, replace(SETTINGS, data=DataConfig(seed=1))),
    ]
    keys = {path_of(*o) for o in other}
    for content in ("one", "two"):  # the same path with another text is another corpus
        text.write_text(content)
        keys.add(path_of(ARM, replace(SETTINGS, data=DataConfig(corpus=str(text)))))
    assert len(keys | {want}) == 8


def test_key_changes_with_the_code_that_trains(tmp_path, monkeypatch):
    want = path_of(ARM, SETTINGS)
    real = checkpoint.Path.read_bytes
    changed = lambda p: real(p) + b"#" if p.name == "ops.py" else real(p)
    monkeypatch.setattr(checkpoint.Path, "read_bytes", changed)
    assert path_of(ARM, SETTINGS) != want


def test_damaged_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "a.npz"
    checkpoint.save(path, TRAINED, checkpoint.describe(ARM, SETTINGS))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"NUMPY") + 150] ^= 1
    object_array = tmp_path / "pickle.npz"
    np.savez(object_array, made="{}", history=np.array([print], dtype=object))
    for data in (b"", b"hello", whole[:100], whole[:-30], bytes(flipped), object_array.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match="is not a trained arm") as e:
            checkpoint.load(path)
        assert "\n" not in str(e.value)


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    arm = tmp_path / "arm.npz"
    np.savez(arm, made="{}", history="[]", wte=np.array([Trap(tmp_path / "executed")], dtype=object))
    with pytest.raises(ConfigError, match="is not a trained arm"):
        checkpoint.load(arm)
    assert not (tmp_path / "executed").exists()


def test_a_file_appears_by_renaming_or_not_at_all(tmp_path, monkeypatch):
    def crash(part, path):
        assert part.read_text() == "new"  # complete before it gets its name
        raise OSError(5, "crash")

    checkpoint.write_whole(tmp_path / "a", "old")
    monkeypatch.setattr(checkpoint.os, "replace", crash)
    with pytest.raises(OSError, match="crash"):
        checkpoint.write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    checkpoint.write_whole(path, "old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
