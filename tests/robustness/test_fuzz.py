"""Anything at all as input: accepted, or refused in one line.  Hypothesis makes up the input."""

import contextlib
import io
import json
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run_toy
from memsinks_np._internal import files as checkpoint
from memsinks_np._internal.ids import validate_ids
from memsinks_np.config import (
    ConfigError,
    DataConfig,
    Method,
    ModelConfig,
    Settings,
    SinkConfig,
    TrainConfig,
)
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.text import encode
from memsinks_np.model import init_params
from memsinks_np.train import Model

pytestmark = pytest.mark.slow
EXAMPLES = {"deadline": None, "derandomize": True, "database": None}
QUIET = {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}

ARM, SETTINGS = (
    Method(name="a", n_shared=2),
    Settings(data=DataConfig(n_ctx=2), train=TrainConfig(), d_model=4),
)
MADE = checkpoint.describe(ARM, SETTINGS)
LIKE = init_params(SETTINGS.model(ARM, 5))


def refused_in_one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) > 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("method") / "a.npz"
    checkpoint.save(path, Model(LIKE, [{"step": 0, "train": 1.5}]), MADE)
    return path.read_bytes()


@settings(max_examples=1500, **EXAMPLES, **QUIET)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 10**6), st.binary(max_size=9), st.integers(0, 9)), max_size=4
    ),
    data=st.data(),
)
def test_loader(whole, edits, data):
    """Bytes are cut out of a file of ours and others put in: it is refused, or loads what was saved."""
    file = bytearray(whole)
    for at, new, n in edits:
        at %= len(file)
        file[at : at + n] = new
    file = file[: data.draw(st.integers(0, len(file)) | st.just(len(file)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(file)
        try:
            params, _ = checkpoint.load(path, MADE, LIKE)
        except ConfigError as e:
            refused_in_one_line(e)
        else:
            for name, w in LIKE.items():
                np.testing.assert_array_equal(params[name], w)


ARRAYS = st.one_of(
    st.sampled_from(
        [
            np.ones(3),
            np.zeros((5, 4), np.float32),
            np.array("{}"),
            np.array(3),
            np.array([None], object),
        ]
    ),
    st.text(max_size=20).map(np.array),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
    .map(json.dumps)
    .map(np.array),
)


@settings(max_examples=500, **EXAMPLES, **QUIET)
@given(
    st.dictionaries(
        st.sampled_from(["made", "history", "wte", "h0.W_O", "extra"]), ARRAYS, min_size=1
    )
)
def test_loader_of_other_arrays(changes):
    """A sound .npz file with some arrays replaced by others."""
    members = {"made": json.dumps(MADE), "history": "[]", **LIKE, **changes}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        np.savez(path, **members)
        try:
            params, history = checkpoint.load(path, MADE, LIKE)
        except ConfigError as e:
            refused_in_one_line(e)
        else:
            assert all(isinstance(row, dict) for row in history)
            assert {name: w.shape for name, w in params.items()} == {
                name: w.shape for name, w in LIKE.items()
            }


@settings(max_examples=500, **EXAMPLES, **QUIET)
@given(
    st.binary(max_size=400)
    | st.text(max_size=400).map(lambda s: s.encode("utf-8", "surrogatepass"))
    | st.lists(st.sampled_from(["the ", "cat\r\n", "é", "\ufffd", "\0", "ab"]), max_size=300).map(
        lambda w: "".join(w).encode()
    ),
    st.integers(1, 9),
)
def test_corpus_reader(content, n_ctx):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(content)
        try:
            corpus = load_corpus(
                DataConfig(corpus=str(path), n_ctx=n_ctx, batch_size=4, n_repeated=2, n_heldout=2)
            )
        except ConfigError as e:
            refused_in_one_line(e)
        else:
            batch = corpus.batch(3)
            assert batch.tokens.shape == (4, n_ctx + 1)
            assert batch.tokens.max() < len(corpus.vocab) <= 96


@settings(max_examples=300, **EXAMPLES)
@given(st.text(max_size=300))
def test_encoding(text):
    vocab, tokens = encode(text)
    assert len(tokens) == len(text)
    assert all(vocab[t] == c or t == 0 for t, c in zip(tokens.tolist(), text, strict=True))


ODD = st.one_of(
    *(
        st.integers(),
        st.floats(),
        st.booleans(),
        st.none(),
        st.text(max_size=9),
        st.integers(-2, 70),
        st.floats(-1, 2),
    ),
    st.sampled_from(
        [2**31, 2**63, 10**400, np.float32(1), np.int64(3), (), (0.9, 0.9), [], SinkConfig(), "sgd"]
    ),
)
KINDS = [SinkConfig, ModelConfig, DataConfig, TrainConfig, Method]


@settings(max_examples=3000, **EXAMPLES)
@given(st.sampled_from(KINDS), st.data())
def test_configuration(kind, data):
    names = [field.name for field in fields(kind)]
    chosen = data.draw(st.dictionaries(st.sampled_from(names), ODD, max_size=3))
    needed = {"n_vocab": 9, "name": "a", "n_shared": 4}
    try:
        config = kind(**{name: value for name, value in needed.items() if name in names} | chosen)
    except ConfigError as e:
        refused_in_one_line(e)
    else:
        assert json.dumps(checkpoint.dataclasses.asdict(config), allow_nan=False)


@settings(max_examples=500, **EXAMPLES)
@given(st.recursive(ODD, lambda s: st.lists(s, max_size=3), max_leaves=9))
def test_ids(value):
    try:
        assert validate_ids(value).dtype == np.int64
    except ConfigError as e:
        refused_in_one_line(e)


FLAGS = [
    "--seeds",
    "--steps",
    "--lr",
    "--warmup",
    "--d-model",
    "--n-shared",
    "--n-sink",
    "--n-active",
    "--delete",
]
FLAGS += [
    "--corpus",
    "--preset",
    "--backend",
    "--workers",
    "--threads",
    "--out",
    "--quick",
    "--no-such-flag",
]
FLAGS += ["headline", "--"]
VALUES = st.one_of(
    st.text(max_size=12).filter(
        lambda text: "/" not in text
    ),  # nothing is written outside of the folder
    st.integers(-(10**30), 10**30).map(str),
    st.integers(-3, 300).map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "stories",
            "pydoc",
            "text",
            ".",
            "/dev/null",
            "/proc/none",
            "a\nb",
            "\0",
            "",
            "x" * 5000,
            "1e999",
        ]
    ),
)


@settings(max_examples=400, **EXAMPLES, **QUIET)
@given(
    words=st.lists(
        st.tuples(st.sampled_from(FLAGS), VALUES).map(list) | VALUES.map(lambda v: [v]), max_size=4
    )
)
def test_command_line(words):
    """No training: what is accepted is stopped where it would begin."""

    class WouldTrain(Exception):
        pass

    def stop(*_):
        raise WouldTrain

    argv = [word for pair in words for word in pair]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(run_toy, "experiment", stop)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = run_toy.main(argv)
            except WouldTrain:
                code = 0
            except SystemExit as e:
                code = e.code
        if code:
            assert code == 2, (argv, err.getvalue())
            assert err.getvalue().count("\n") == 1
            assert out.getvalue() == ""
            assert list(Path(folder).iterdir()) == []
