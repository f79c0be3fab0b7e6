"""Model methods on disk: found by what made them, whole or absent, refused when damaged."""

import io
import json
import os
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np._internal import files as checkpoint
from memsinks_np.config import ConfigError, DataConfig, Method, Settings, TrainConfig
from memsinks_np.experiments.runner import sources
from memsinks_np.train import Model

ARM = Method(name="standard", n_shared=4)
SETTINGS = Settings(data=DataConfig(), train=TrainConfig())
TRAINED = Model(
    {"wte": np.arange(6, dtype=np.float32).reshape(2, 3).T, "h0.b_in": np.ones(2)},
    [{"step": 0, "train": 1.5}],
)
MADE = checkpoint.describe(ARM, SETTINGS)


def path_of(method, settings):
    return checkpoint.cache_path(
        checkpoint.Path("cache"), checkpoint.describe(method, settings)
    ).name


def test_round_trip_and_same_bytes_twice(tmp_path):
    for name in ("a.npz", "b.npz"):
        checkpoint.save(tmp_path / name, TRAINED, MADE)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = read(tmp_path / "a.npz")
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
        (replace(ARM, sees_repeated=False), SETTINGS),
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
    monkeypatch.setattr(checkpoint, "source", sources.source.__wrapped__)
    assert path_of(ARM, SETTINGS) != want


def read(path):
    return checkpoint.load(path, MADE, TRAINED.params)


def members(**changes):
    """What np.savez is given for TRAINED, with changes; None leaves a member out."""
    all_of_it = {
        "made": json.dumps(MADE),
        "history": json.dumps(TRAINED.history),
        **TRAINED.params,
        **changes,
    }
    return {name: value for name, value in all_of_it.items() if value is not None}


def zipped(*parts, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        for name, data in parts:
            z.writestr(name, data)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def saved(**changes):
    file = io.BytesIO()
    np.savez(file, **members(**changes))
    return file.getvalue()


def header(shape, descr="<f4"):
    """A .npy file that declares an array and does not hold it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def with_member(name, data, method=zipfile.ZIP_STORED):
    parts = {n: npy(np.asarray(value)) for n, value in members().items()} | {name: data}
    return zipped(*((f"{n}.npy", d) for n, d in parts.items()), method=method)


WTE = TRAINED.params["wte"]
OTHER = [
    MADE | {"version": "0.0.9"},
    MADE | {"code": "0"},
    MADE | {"method": MADE["method"] | {"n_shared": 5}},
]
HOSTILE = {
    "empty": (b"", "BadZipFile"),
    "no zip": (b"hello", "BadZipFile"),
    "truncated at the front": (saved()[:100], "BadZipFile"),
    "truncated at the end": (saved()[:-30], "BadZipFile"),
    "missing parameter": (saved(**{"h0.b_in": None}), "other arrays"),
    "missing history": (saved(history=None), "other arrays"),
    "one too many": (saved(extra=np.ones(2)), "other arrays"),
    "one twice": (
        zipped(*((f"{n}.npy", npy(np.asarray(v))) for n, v in [*members().items(), ("wte", WTE)])),
        "other arrays",
    ),
    "wrong shape": (saved(wte=WTE.T), "wte has shape"),
    "wrong type": (saved(wte=WTE.astype(np.float64)), "wte has shape"),
    "other byte order": (saved(wte=WTE.astype(">f4")), "wte has shape"),
    "objects": (saved(wte=WTE.astype(object)), "wte has shape"),
    "made is no text": (saved(made=np.ones(3)), "made has shape"),
    "made is a number": (saved(made=np.float64(1)), "made has shape"),
    "made is no JSON": (saved(made="{"), "JSONDecodeError"),
    "history is no list": (saved(history="3"), "its history is no list"),
    "nested JSON": (saved(history="[" * 9000), "JSONDecodeError|RecursionError"),
    "another version": (saved(made=json.dumps(OTHER[0])), "something else has made it"),
    "other code": (saved(made=json.dumps(OTHER[1])), "something else has made it"),
    "another method": (saved(made=json.dumps(OTHER[2])), "something else has made it"),
    "a petabyte declared": (with_member("wte", header((1 << 48, 3))), "wte has shape"),
    "a huge text declared": (
        with_member("history", header((), f"<U{1 << 28}")),
        "history has shape",
    ),
    "half of an array": (with_member("wte", npy(WTE)[:-4]), "wte is not stored as it is"),
    "something behind an array": (
        with_member("wte", npy(WTE) + b"more"),
        "wte is not stored as it is",
    ),
    "a header that is code": (
        with_member(
            "wte", b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').abort()".ljust(63) + b"\n"
        ),
        "ValueError",
    ),
    "compressed": (with_member("wte", npy(WTE), zipfile.ZIP_DEFLATED), "not stored as it is"),
    "zip bomb": (
        with_member("wte", header((3, 2)) + bytes(10_000_000), zipfile.ZIP_DEFLATED),
        "not stored",
    ),
    "ten megabytes": (with_member("wte", header((3, 2)) + bytes(10_000_000)), "of more than"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_damaged_and_hostile_files_are_refused_in_one_line(what, tmp_path):
    data, reason = HOSTILE[what]
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    del data
    tracemalloc.start()
    with pytest.raises(
        ConfigError,
        match=rf"is not a trained method \(.*({reason}).*\); delete it and it is trained",
    ) as e:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(e.value)
    assert peak < 2_000_000  # bytes


def test_every_flipped_byte_is_refused_or_changes_nothing(tmp_path):
    """Zip keeps fields that nobody reads, such as dates; all that is read is compared or has a checksum."""
    path, whole, refused = tmp_path / "a.npz", saved(), 0
    path.write_bytes(whole)
    with path.open("r+b", buffering=0) as file:
        for at in range(len(whole)):
            os.pwrite(file.fileno(), bytes([whole[at] ^ (1 << at % 8)]), at)
            try:
                back = read(path)
            except ConfigError:
                refused += 1
            else:
                assert back.history == TRAINED.history
                for name, w in TRAINED.params.items():
                    np.testing.assert_array_equal(back.params[name], w)
            os.pwrite(file.fileno(), whole[at : at + 1], at)
    assert refused > 0.8 * len(whole)


def test_a_folder_or_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="not a file"):
        read(tmp_path)


def test_the_name_of_an_arm_does_not_matter(tmp_path):
    checkpoint.save(
        tmp_path / "a.npz", TRAINED, MADE | {"method": MADE["method"] | {"name": "another"}}
    )
    assert read(tmp_path / "a.npz").history == TRAINED.history


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    trap = np.array([Trap(tmp_path / "executed")], dtype=object)
    for bad in ({"wte": trap}, {"made": trap}, {"history": trap}):
        (tmp_path / "method.npz").write_bytes(saved(**bad))
        with pytest.raises(ConfigError, match="is not a trained method"):
            read(tmp_path / "method.npz")
    assert not (tmp_path / "executed").exists()


def test_a_file_appears_by_renaming_or_not_at_all(tmp_path, monkeypatch):
    def crash(part, path):
        assert part.read_text() == "new"  # complete before it gets its name
        raise OSError(5, "crash")

    checkpoint.write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(checkpoint.os, "replace", crash)
    with pytest.raises(OSError, match="crash"):
        checkpoint.write_atomic(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    checkpoint.write_atomic(path, "old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_key_of_a_trained_arm_holds_the_source_of_every_module_that_training_reads():
    code = "import sys, memsinks_np.train; print(*sorted(m for m in sys.modules if m.startswith('memsinks_np.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(
        f"memsinks_np.{file.stem}" for file in sources.files("memsinks_np.train")
    )
