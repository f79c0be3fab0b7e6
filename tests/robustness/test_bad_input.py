"""Every rule that input can break, one row each: one line that names the value and the remedy."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

from memsinks_np import config, sinks
from memsinks_np._internal.ids import id_of, validate_ids
from memsinks_np.config import ConfigError, DataConfig, ModelConfig, SinkConfig, TrainConfig
from memsinks_np.data.batches import interleave, make_batch, pack

DATA, TRAIN = DataConfig(), TrainConfig()
INT, FLOAT = "a Python int below 2\\*\\*63", "a finite Python number"
Vocab = partial(ModelConfig, n_vocab=9)
Method = partial(config.Method, name="a", n_shared=4)
Settings = partial(config.Settings, data=DATA, train=TRAIN)

CONFIGURATIONS = [
    (SinkConfig, {"n_sink": 0}, "n_sink=0 is too small; choose at least 1"),
    (SinkConfig, {"n_sink": 1 << 25}, "n_sink=33554432 is too large; choose at most"),
    (SinkConfig, {"n_sink": 1 << 70}, f"n_sink={1 << 70} cannot be used; give {INT}"),
    (SinkConfig, {"n_sink": 8.0}, f"n_sink=8.0 cannot be used; give {INT}"),
    (SinkConfig, {"n_sink": True}, f"n_sink=True cannot be used; give {INT}"),
    (SinkConfig, {"n_sink": "many"}, "n_sink='many' cannot be used"),
    (SinkConfig, {"n_sink": None}, "n_sink=None cannot be used"),
    (SinkConfig, {"n_sink": np.ones((9, 9))}, r"n_sink=array\(.*\.\.\. cannot be used"),
    (SinkConfig, {"n_active": 0}, "n_active=0 is not positive; use at least one"),
    (SinkConfig, {"n_active": 4096}, "n_active=4096 exceeds n_sink=2048; lower it"),
    (SinkConfig, {"n_active": 33}, "n_active=33 does not divide n_sink=2048; try n_sink=2046"),
    (SinkConfig, {"scheme": "random"}, "'random' cannot .*give one of stratified, disjoint, bern"),
    (SinkConfig, {"scheme": ["bernoulli"]}, "scheme=.'bernoulli'. cannot be used"),
    (SinkConfig, {"scheme": "bernoulli", "p": 0.0}, "p=0.0 is not a probability above 0; choose"),
    (SinkConfig, {"scheme": "bernoulli", "p": 1.5}, "p=1.5 is not a probability"),
    (SinkConfig, {"p": float("nan")}, f"p=nan cannot be used; give {FLOAT}"),
    (SinkConfig, {"seed": -1}, "seed=-1 is negative; choose 0 or more"),
    (SinkConfig, {"seed": 1 << 63}, "seed=9223372036854775808 cannot be used"),
    (ModelConfig, {"n_vocab": 0}, "n_vocab=0 is too small"),
    (Vocab, {"d_model": 65}, "n_heads=4 does not divide d_model=65; try d_model=64"),
    (Vocab, {"n_heads": 128}, "n_heads=128 does not divide d_model=64; try d_model=128"),
    (Vocab, {"n_layers": 0}, "n_layers=0 is too small"),
    (Vocab, {"n_layers": 1 << 20}, "other sizes make 3.4e.10 parameters; choose smaller"),
    (Vocab, {"d_model": 1 << 20}, "d_model=1048576 and the other sizes make .* parameters"),
    (Vocab, {"n_shared": 0}, "n_shared=0 is too small; choose at least 1"),
    (Vocab, {"sinks": 7}, "sinks=7 cannot be used"),
    (DataConfig, {"corpus": 3}, "corpus=3 cannot be used"),
    (DataConfig, {"n_ctx": 0}, "n_ctx=0 is too small"),
    (DataConfig, {"n_ctx": 1 << 24}, "n_ctx=16777216 and .* make 5.9e.09 tokens; choose smaller"),
    (DataConfig, {"batch_size": 0}, "batch_size=0"),
    (DataConfig, {"n_repeated": 0}, "n_repeated=0"),
    (DataConfig, {"n_heldout": -3}, "n_heldout=-3"),
    (DataConfig, {"show_every_n_passes": 0}, "show_every_n_passes=0"),
    (DataConfig, {"n_canaries": -1}, "n_canaries=-1 is too small; choose at least 0"),
    (DataConfig, {"repeat_fraction": 1.5}, "=1.5 is not a fraction; choose a number from 0 to 1"),
    (DataConfig, {"repeat_fraction": 1.0}, "leaves no once-seen sequence in a batch of 32; lower"),
    (DataConfig, {"id_noise": -0.1}, "id_noise=-0.1 is not a fraction"),
    (DataConfig, {"shuffled": None}, "shuffled=None"),
    (DataConfig, {"seed": -1}, "seed=-1"),
    (TrainConfig, {"steps": 0}, "steps=0 is too small"),
    (TrainConfig, {"steps": 1e3}, f"steps=1000.0 cannot be used; give {INT}"),
    (TrainConfig, {"lr": 0.0}, "lr=0.0 is not positive; try 3e-3"),
    (TrainConfig, {"lr": float("inf")}, f"lr=inf cannot be used; give {FLOAT}"),
    (TrainConfig, {"lr": 10**400}, "lr=10+... cannot be used"),
    (TrainConfig, {"warmup": -1}, "warmup=-1"),
    (TrainConfig, {"betas": (0.9, 1.0)}, r"are not both from 0 to below 1; try \(0.9, 0.99\)"),
    (TrainConfig, {"betas": (0.9,)}, r"betas=\(0.9,\) cannot be used; give tuple"),
    (TrainConfig, {"eps": 0.0}, "eps=0.0 is not positive; try 1e-8"),
    (TrainConfig, {"weight_decay": -0.1}, "weight_decay=-0.1 is negative; try 0.1"),
    (TrainConfig, {"clip": 0.0}, "clip=0.0 is not positive; try 1.0"),
    (TrainConfig, {"optimizer": "adam"}, "'adam' cannot .*; give one of lazy_adamw, adamw, sgd"),
    (TrainConfig, {"eval_every": 0}, "eval_every=0"),
    (TrainConfig, {"seed": -1}, "seed=-1"),
    (TrainConfig, {"backend": "tpu"}, "backend='tpu' cannot be used; give one of numpy, cupy"),
    (Method, {"name": 3}, "name=3 cannot be used"),
    (Method, {"n_shared": -1}, "n_shared=-1 is too small"),
    (Method, {"routing": "sgtm"}, "routing='sgtm' needs sinks; give the method a SinkConfig"),
    (Method, {"routing": "all"}, "routing='all' cannot be used; give one of free"),
    (Method, {"labelled": 2.0}, "labelled=2.0 is not a fraction"),
    (Settings, {"data": None}, "data=None cannot be used"),
    (Settings, {"n_layers": 0}, "n_layers=0 is too small"),
]


@pytest.mark.parametrize(("kind", "bad", "message"), CONFIGURATIONS)
def test_impossible_settings_are_refused_in_one_line(kind, bad, message):
    with pytest.raises(ConfigError, match=message) as e:
        kind(**bad)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 200


@pytest.mark.parametrize("kind", [SinkConfig, Vocab, DataConfig, TrainConfig, Method, Settings])
def test_no_field_takes_a_value_of_any_type(kind):
    """This also holds for fields that are added later."""
    for field in fields(kind()):
        with pytest.raises(ConfigError, match=f"{field.name}=<object"):
            replace(kind(), **{field.name: object()})


POOL = SinkConfig(n_sink=8, n_active=2)
TINY = Vocab(n_ctx=4, d_model=4, n_heads=2, n_shared=4, sinks=POOL)
TOKENS = np.zeros((2, 5), np.int64)
batch = partial(make_batch, TINY, sinks=sinks.NO_SINKS)
beyond_pool = partial(make_batch, TINY, sinks=sinks.Rows(np.array([[8], [0]])))

CALLS = [
    (validate_ids, [[1.0, 2.0]], r"must be integers, got .*1\.0.*; use int64"),
    (validate_ids, [[True]], r"must be integers, got .*True"),
    (validate_ids, [["lily"]], "must be integers, got .*lily"),
    (validate_ids, [np.array([2**63], np.uint64)], r"9223372036854775808 .* stay below 2\*\*63"),
    (validate_ids, [[2**63]], "9223372036854775808 .* does not fit into int64"),
    (validate_ids, [[2**64]], "18446744073709551616 .* does not fit|must be integers"),
    (validate_ids, [[[1], [2]]], r"have shape \(2, 1\); give one ID per sequence"),
    (validate_ids, [[[1], [2, 3]]], "must be integers, got lists of unequal lengths"),
    (validate_ids, [[None]], "must be integers, got None"),
    (sinks.active, [POOL, [0.5]], "must be integers, got .*0.5"),
    (sinks.sink_mask, [POOL, np.array([True])], "must be integers"),
    (sinks.own, [POOL, 3], r"must be a list .* got 3; use \[3\]"),
    (id_of, [np.zeros((2, 3))], "must be integers, got"),
    (batch, [TOKENS + 9], "token 9 .* of 9"),
    (batch, [TOKENS - 2], "token -2"),
    (batch, [TOKENS + 0.5], r"tokens must be integers, got .*0\.5.*; use int64"),
    (batch, [np.zeros((1, 6), int)], "do not fit n_ctx=4; use"),
    (batch, [np.zeros((1, 1), int)], "do not fit n_ctx=4; use 2 to 5"),
    (batch, [TOKENS[0]], r"shape \(5,\); give \(B,T\+1\)"),
    (beyond_pool, [TOKENS], "sink 0 or 8 is outside the pool of 8"),
    (interleave, [[[1], [2]], [1]], "2 documents with 1 IDs; give one"),
    (pack, [[[]], [[]]], "a row without documents; leave it out"),
]


@pytest.mark.parametrize(("call", "args", "message"), CALLS)
def test_impossible_arguments_are_refused_in_one_line(call, args, message):
    with pytest.raises(ConfigError, match=message) as e:
        call(*args)
    assert "\n" not in str(e.value)
