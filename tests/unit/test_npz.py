"""Models on disk: complete or absent, the same bytes each time, damaged files refused."""

import io
import json
import os
import tracemalloc
import warnings
import zipfile
from dataclasses import asdict

import numpy as np
import pytest

from memsinks_np import trained
from memsinks_np._internal import files
from memsinks_np.config import ConfigError, ModelConfig
from memsinks_np.export import npz

PARAMS = {"wte": np.arange(6, dtype=np.float32).reshape(2, 3).T, "h0.b_in": np.ones(2)}
META = {"history": [[0, None, 1.5]], "vocab": ["a", "é"]}
WTE = PARAMS["wte"]


def read(path):
    return npz.read_meta(path), npz.load(path, PARAMS)


def assert_unchanged(path):
    meta, params = read(path)
    assert meta == META
    assert list(params) == list(PARAMS)
    for name, w in PARAMS.items():
        np.testing.assert_array_equal(params[name], w)
        assert params[name].dtype == w.dtype


def test_round_trip_and_the_same_bytes_twice(tmp_path):
    for name in ("a.npz", "b.npz"):
        npz.save(tmp_path / "new" / name, PARAMS, META)
    a, b = sorted((tmp_path / "new").iterdir())
    assert a.read_bytes() == b.read_bytes()
    assert_unchanged(a)


# Damaged and hostile files


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape, descr="<f4"):
    """Return a .npy file that declares an array and does not hold it."""
    file, declared = io.BytesIO(), {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, declared)
    return file.getvalue()


def as_meta(text):
    return np.frombuffer(text.encode(), np.uint8)


def zipped(*more, method=zipfile.ZIP_STORED, **changes):
    """Return a saved model with some entries changed, or without those that are None."""
    entries = {npz.META: as_meta(json.dumps(META)), **PARAMS, **changes}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that comes twice
        for name, data in (*entries.items(), *more):
            if data is not None:
                z.writestr(f"{name}.npy", data if isinstance(data, bytes) else npy(data))
    return file.getvalue()


CODE = b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').abort()".ljust(63) + b"\n"
LONG = header((3, 2)) + bytes(10_000_000)
HOSTILE = {
    "empty": (b"", "BadZipFile"),
    "no zip": (b"hello", "BadZipFile"),
    "cut off at the end": (zipped()[:-30], "BadZipFile"),
    "missing parameter": (zipped(**{"h0.b_in": None}), "other arrays"),
    "missing metadata": (zipped(meta=None), "KeyError"),
    "one too many": (zipped(extra=np.ones(2)), "other arrays"),
    "one twice": (zipped(("wte", WTE)), "other arrays"),
    "wrong shape": (zipped(wte=WTE.T), "wte has shape"),
    "wrong type": (zipped(wte=WTE.astype(np.float64)), "wte has shape"),
    "other byte order": (zipped(wte=WTE.astype(">f4")), "wte has shape"),
    "objects": (zipped(wte=WTE.astype(object)), "wte is compressed or cut off"),
    "declared objects": (zipped(wte=header((3, 2), "|O") + bytes(48)), "wte is compressed"),
    "metadata is no text": (zipped(meta=np.ones(3)), "meta has shape"),
    "metadata is no JSON": (zipped(meta=as_meta("{")), "JSONDecodeError"),
    "metadata is no UTF-8": (zipped(meta=np.full(4, 255, np.uint8)), "UnicodeDecodeError"),
    "metadata is a list": (zipped(meta=as_meta("[]")), "not a dictionary"),
    "nested JSON": (zipped(meta=as_meta("[" * 9000)), "JSONDecodeError|RecursionError"),
    "a petabyte declared": (zipped(wte=header((1 << 48, 3))), "wte is compressed or cut off"),
    "huge metadata declared": (zipped(meta=header((1 << 48,), "|u1")), "meta is compressed"),
    "half of an array": (zipped(wte=npy(WTE)[:-4]), "wte is compressed or cut off"),
    "something after an array": (zipped(wte=npy(WTE) + b"more"), "wte is compressed or cut off"),
    "a header that is code": (zipped(wte=CODE), "ValueError"),
    "another .npy version": (zipped(wte=b"\x93NUMPY\x03\x00" + npy(WTE)[8:]), "another .npy"),
    "compressed": (zipped(method=zipfile.ZIP_DEFLATED), "is compressed or cut off"),
    "zip bomb": (zipped(wte=LONG, method=zipfile.ZIP_DEFLATED), "is compressed or cut off"),
    "ten megabytes": (zipped(wte=LONG), "wte is compressed or cut off"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_in_one_line(what, tmp_path):
    data, reason = HOSTILE[what]
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ConfigError, match=rf"is not a saved model \(.*({reason}).*\)") as e:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(e.value)
    assert peak < 2_000_000  # bytes


@pytest.mark.parametrize(
    "sizes",
    [{"n_shared": 1 << 24}, {"n_ctx": 1 << 24}, {"n_layers": 500, "d_model": 1, "n_heads": 1}],
    ids=lambda sizes: next(iter(sizes)),
)
def test_no_model_is_made_that_is_larger_than_its_file(sizes, tmp_path, monkeypatch):
    cfg = ModelConfig(n_vocab=2, **({"d_model": 16} | sizes))
    meta = {"cfg": asdict(cfg), "vocab": ["a", "b"], "separator": "", "history": []}
    npz.save(tmp_path / "a.npz", PARAMS, meta)
    monkeypatch.setattr(trained, "init_params", None)
    with pytest.raises(ConfigError, match=r"a.npz is not a saved model \(.* does not fit into its"):
        trained.load(tmp_path / "a.npz")


def test_the_size_of_metadata_is_limited(tmp_path, monkeypatch):
    npz.save(tmp_path / "a.npz", PARAMS, META)
    monkeypatch.setattr(npz, "MAX_META", 10)
    with pytest.raises(ConfigError, match="meta has shape"):
        npz.read_meta(tmp_path / "a.npz")


def test_every_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    """Zip files have fields that are never read, such as dates; all else has a checksum."""
    path, whole, refused = tmp_path / "a.npz", zipped(), 0
    path.write_bytes(whole)
    with path.open("r+b", buffering=0) as file:
        for at in range(len(whole)):
            os.pwrite(file.fileno(), bytes([whole[at] ^ (1 << at % 8)]), at)
            try:
                assert_unchanged(path)
            except ConfigError:
                refused += 1
            os.pwrite(file.fileno(), whole[at : at + 1], at)
    assert refused > 0.8 * len(whole)


@pytest.mark.parametrize("name", [".", "missing.npz"])
def test_what_is_not_a_file_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="not a file"):
        npz.read_meta(tmp_path / name)


class Trap:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["wte", "meta"])
def test_nothing_is_unpickled(name, tmp_path):
    trap = np.array([Trap(tmp_path / "executed")], dtype=object)
    (tmp_path / "a.npz").write_bytes(zipped(**{name: trap}))
    with pytest.raises(ConfigError, match="is not a saved model"):
        read(tmp_path / "a.npz")
    assert not (tmp_path / "executed").exists()


# Atomic writes


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_only_the_old_file(step, tmp_path, monkeypatch):
    def fail(part, *path):
        assert step == "fsync" or part.read_text() == "new"  # complete before it gets its name
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    files.write_atomic(path, "old")
    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
