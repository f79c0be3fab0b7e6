"""Any input at all is accepted, or refused in one line. Hypothesis invents the input."""

import io
import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, fields
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memsinks_np import config
from memsinks_np._internal.ids import validate_ids
from memsinks_np.config import ConfigError, DataConfig, Method, ModelConfig, SinkConfig, TrainConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.data.text import encode
from memsinks_np.experiments import cli
from memsinks_np.experiments.runner import cache
from memsinks_np.export import npz
from memsinks_np.model import init_params

pytestmark = pytest.mark.slow
EXAMPLES = {"deadline": None, "derandomize": True, "database": None}
QUIET = {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}

SETTINGS = config.Settings(data=DataConfig(n_ctx=2), train=TrainConfig(), d_model=4)
JOB = cache.Job(Method(name="a", n_shared=2), SETTINGS, measure=len)
META = {"made": cache.fingerprint(JOB), "history": []}
CORPUS = load_corpus(SETTINGS.data)
PARAMS = init_params(SETTINGS.model(JOB.method, len(CORPUS.vocab)))


def assert_one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) > 20


def load(path):
    """Return the parameters of a file in the cache, or None where it is refused in one line."""
    try:
        return cache.load_model(path, JOB, META["made"], CORPUS).params
    except ConfigError as e:
        assert_one_line(e)
        return None


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "a.npz"
    npz.save(path, PARAMS, META)
    assert load(path)
    return path.read_bytes()


EDIT = st.tuples(st.integers(0, 10**6), st.binary(max_size=9), st.integers(0, 9))


@settings(max_examples=1500, **EXAMPLES, **QUIET)
@given(edits=st.lists(EDIT, max_size=4), data=st.data())
def test_a_damaged_model_is_refused_or_unchanged(model_bytes, edits, data):
    file = bytearray(model_bytes)
    for at, new, n in edits:
        at %= len(file)
        file[at : at + n] = new
    file = file[: data.draw(st.integers(0, len(file)) | st.just(len(file)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(file)
        for name, w in (load(path) or {}).items():
            np.testing.assert_array_equal(PARAMS[name], w)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda s: st.lists(s) | st.dictionaries(st.text(), s),
)
WRONG = [np.ones(3), np.zeros((5, 4), np.float32), "{}", 3, np.array([None], object)]
ARRAYS = (st.sampled_from(WRONG) | st.text(max_size=20) | JSON.map(json.dumps)).map(np.array)


@settings(max_examples=500, **EXAMPLES, **QUIET)
@given(st.dictionaries(st.sampled_from(["meta", "wte", "h0.W_O", "extra"]), ARRAYS, min_size=1))
def test_a_model_with_other_arrays_is_refused(changes):
    meta = np.frombuffer(json.dumps(META).encode(), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        np.savez(path, **{"meta": meta, **PARAMS, **changes})
        assert load(path) is None


WORDS = st.sampled_from(["the ", "cat\r\n", "é", "\ufffd", "\0", "ab"])
TEXTS = (
    st.binary(max_size=400)
    | st.text(max_size=400).map(lambda s: s.encode("utf-8", "surrogatepass"))
    | st.lists(WORDS, max_size=300).map(lambda words: "".join(words).encode())
)


@settings(max_examples=500, **EXAMPLES, **QUIET)
@given(TEXTS, st.integers(1, 9))
def test_any_text_is_a_corpus_or_refused(content, n_ctx):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(content)
        sizes = {"n_ctx": n_ctx, "batch_size": 4, "n_repeated": 2, "n_heldout": 2}
        try:
            corpus = load_corpus(DataConfig(corpus=str(path), **sizes))
        except ConfigError as e:
            assert_one_line(e)
        else:
            batch = corpus.batch(3)
            assert batch.tokens.shape == (4, n_ctx + 1)
            assert batch.tokens.max() < len(corpus.vocab) <= 96


@settings(max_examples=300, **EXAMPLES)
@given(st.text(max_size=300))
def test_every_character_has_a_token(text):
    vocab, tokens = encode(text)
    assert len(tokens) == len(text)
    assert all(vocab[t] == c or t == 0 for t, c in zip(tokens.tolist(), text, strict=True))


VALUES = [
    2**31,
    2**63,
    10**400,
    np.float32(1),
    np.int64(3),
    (),
    (0.9, 0.9),
    [],
    SinkConfig(),
    "sgd",
]
ODD = (st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=9)) | (
    st.integers(-2, 70) | st.floats(-1, 2) | st.sampled_from(VALUES)
)
KINDS = [SinkConfig, ModelConfig, DataConfig, TrainConfig, Method]


@settings(max_examples=3000, **EXAMPLES)
@given(st.sampled_from(KINDS), st.data())
def test_any_setting_is_storable_or_refused(kind, data):
    names = [field.name for field in fields(kind)]
    chosen = data.draw(st.dictionaries(st.sampled_from(names), ODD, max_size=3))
    needed = {"n_vocab": 9, "name": "a", "n_shared": 4}
    try:
        made = kind(**{name: value for name, value in needed.items() if name in names} | chosen)
    except ConfigError as e:
        assert_one_line(e)
    else:
        assert json.dumps(asdict(made), allow_nan=False)


@settings(max_examples=500, **EXAMPLES)
@given(st.recursive(ODD, lambda s: st.lists(s, max_size=3), max_leaves=9))
def test_any_ids_are_int64_or_refused(value):
    try:
        assert validate_ids(value).dtype == np.int64
    except ConfigError as e:
        assert_one_line(e)


FLAGS = "--seeds --steps --lr --warmup --d-model --n-shared --n-sink --n-active --delete-id"
FLAGS += " --corpus --preset --backend --workers --fresh --out --quick --no-such-flag headline --"
ODD_WORDS = ["stories", "pydoc", "text", ".", "/dev/null", "/proc/none", "a\nb", "\0", "", "1e999"]
WORD = (
    st.text(max_size=12).filter(lambda text: "/" not in text)  # writes nothing outside the folder
    | (st.integers(-(10**30), 10**30) | st.integers(-3, 300) | st.floats()).map(str)
    | st.sampled_from([*ODD_WORDS, "x" * 5000])
)
PAIR = st.tuples(st.sampled_from(FLAGS.split()), WORD).map(list) | WORD.map(lambda word: [word])


class WouldTrain(Exception):
    """The command line is accepted."""


@settings(max_examples=400, **EXAMPLES, **QUIET)
@given(words=st.lists(PAIR, max_size=4))
def test_a_bad_command_line_is_one_line_and_no_file(words):
    """What is accepted is stopped where it would train."""

    stop = Mock(side_effect=WouldTrain)
    argv = [word for pair in words for word in pair]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(cli, "run_experiment", stop)
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                code = cli.main(argv)
            except WouldTrain:
                code = 0
            except SystemExit as e:
                code = e.code
        if code:
            assert code == 2, (argv, err.getvalue())
            assert err.getvalue().count("\n") == 1
            assert out.getvalue() == ""
            assert list(Path(folder).iterdir()) == []
