"""A seed means the same on every machine: masks and data to the last bit, losses within 1e-4."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from memsinks_np.config import DataConfig, Method, SinkConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments.methods import PRESETS, methods_of
from memsinks_np.sinks import active, placebo, sink_mask
from memsinks_np.train import train, visible_sequences

IDS = np.array([0, 1, -1, 2**31, 2**63 - 1, -(2**63)], np.int64)


@pytest.fixture(params=["int64", "int32"])
def default_integer(request, monkeypatch):
    """NumPy's default integer; it has 32 bits on some platforms."""
    real = np.arange

    def arange(*args, dtype=None):
        numbers = real(*args, dtype=dtype)
        default = dtype is None and numbers.dtype == np.int64
        return numbers.astype(request.param) if default else numbers

    monkeypatch.setattr(np, "arange", arange)


def digest(*arrays):
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    return hashlib.sha256(data).hexdigest()[:16]


@pytest.mark.usefixtures("default_integer")
@pytest.mark.parametrize(
    ("cfg", "want"),
    [
        (SinkConfig(), "fa431536668109b1"),
        (SinkConfig(scheme="disjoint", n_sink=96, n_active=8), "3abb17efe75d697c"),
        (SinkConfig(scheme="bernoulli", n_sink=77, p=0.3, seed=5), "af460194bac7e056"),
        (SinkConfig(scheme="released", n_sink=96, p=0.3), "883ee41b3d112c71"),
        (SinkConfig(n_sink=4096, n_active=128, seed=2), "eedc4a0cbbb1c440"),
    ],
    ids=["stratified", "disjoint", "bernoulli", "released", "stratified, seed 2"],
)
def test_masks_are_the_same_everywhere(cfg, want):
    rows, mask = [] if cfg.is_random else [active(cfg, IDS)], sink_mask(cfg, IDS)
    assert digest(*rows, *rows, mask, mask) == want  # in each of two layers


@pytest.mark.usefixtures("default_integer")
def test_ids_of_controls_are_the_same_everywhere():
    assert digest(placebo(SinkConfig(), IDS).index) == "3b444ffb40e53ae5"
    batch = load_corpus(DataConfig(n_repeated=20)).batch(0)
    method = Method(name="random", n_shared=8, sinks=SinkConfig(), random_sinks=True)
    assert digest(visible_sequences(method, batch, step=7, seed=1).ids) == "b36b3035541987f0"


@pytest.mark.usefixtures("default_integer")
@pytest.mark.parametrize(
    ("corpus", "want"),
    [
        ("stories", "8769d45ee64bb780"),
        ("domains", "9940d2560f4092d9"),
        ("text", "09f91610010825f5"),
        ("people", "2eb9df4202cd905d"),
        ("authors", "e6bb80925bd47f6f"),
    ],
)
def test_data_is_the_same_everywhere(corpus, want, tmp_path):
    if corpus == "text":
        stories = load_corpus(DataConfig(n_ctx=999, n_heldout=64))
        corpus = tmp_path / "text.txt"
        corpus.write_text("\n".join(stories.text(tokens) for tokens in stories.heldout))
    sizes = {"n_canaries": 3, "n_repeated": 20}
    if corpus in ("people", "authors"):
        sizes = {"n_ctx": 29, "n_repeated": 254}
    data = load_corpus(DataConfig(corpus=str(corpus), id_noise=0.1, seed=1, **sizes))
    drawn = [data.batch(step) for step in (0, 7, 10**6)]
    batches = [array for b in drawn for array in (b.tokens, b.ids, b.repeated)]
    arrays = [data.repeated, data.repeated_ids, data.heldout, data.heldout_ids, *batches]
    if data.facts:
        arrays += [data.facts.documents(k) for k in data.facts.new]
    assert digest(*arrays) == want


LOSSES = """
standard         4.65329 4.37618 4.14242 3.99943 3.83644 3.66569 3.47498 3.30027 3.12246 3.03845
retrained        4.65547 4.38724 4.15315 4.01844 3.87035 3.72126 3.56123 3.44464 3.28251 3.18593
gradient_masking 4.65053 4.38902 4.13902 3.98325 3.83544 3.65846 3.47740 3.29425 3.11780 3.02531
sinks            4.63826 4.39802 4.16293 4.00932 3.84776 3.68623 3.51307 3.35655 3.20778 3.12156
paper_sinks      4.66500 4.41148 4.15550 4.00120 3.85274 3.68071 3.51334 3.35154 3.20221 3.11120
"""


@pytest.mark.parametrize("line", LOSSES.strip().splitlines(), ids=lambda line: line.split()[0])
def test_the_first_20_losses_are_the_same_within_rounding(line):
    """Means of two steps; other processors and versions of NumPy add in another order."""
    name, *want = line.split()
    preset = PRESETS["stories"]
    data = replace(preset.settings.data, n_repeated=8, n_heldout=8)
    short = replace(preset.settings.train, steps=20, warmup=10, eval_every=2)
    settings = replace(preset.settings, data=data, train=short)
    history = train(methods_of(preset)[name], settings, load_corpus(data)).history
    losses = [row.train for row in history[1:]]
    np.testing.assert_allclose(losses, list(map(float, want)), rtol=0, atol=1e-4)
