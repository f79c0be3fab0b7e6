"""The attacks: on small models against their parts, and claims on planted numbers."""

import numpy as np
import pytest

from memsinks_np.baselines.attacks import guided_extraction, log_probs, round_weights
from memsinks_np.baselines.localize import ablate_until_forgotten
from memsinks_np.baselines.unlearn import Unlearning, unlearn
from memsinks_np.config import SinkConfig
from memsinks_np.data.corpus import load_corpus
from memsinks_np.experiments import attacks
from memsinks_np.experiments.attacks import BITS, CUT, PROMPTS, REMOVALS, WEIGHTS, Rounded
from memsinks_np.experiments.methods import PRESETS, job, methods_of, quick, with_settings
from memsinks_np.experiments.registry import Context
from memsinks_np.metrics import mean_loss
from memsinks_np.sinks import NO_SINKS, active, own
from memsinks_np.train import train

QUICK = with_settings(quick(PRESETS["stories"], steps=3), d_model=8, n_layers=1)
QUICK = QUICK._replace(sinks=SinkConfig(n_sink=64, n_active=8), baseline_width=8, n_shared=8)


def trained(name):
    method, settings, _ = job(QUICK, methods_of(QUICK)[name], 0, len)
    return train(method, settings, load_corpus(settings.data))


@pytest.fixture(scope="module")
def standard():
    return trained("standard")


@pytest.mark.parametrize("update", [None, Unlearning(beta=0.1, max_steps=1)])
def test_a_removal_is_rounded_and_guided_by_the_model_from_before(standard, update):
    params, cfg, corpus = standard.params, standard.cfg, standard.corpus
    got = attacks.attack_removal(standard, update)
    after = ablate_until_forgotten(params, cfg, corpus)
    if update:
        after, _ = unlearn(params, cfg, corpus, update)
    four = round_weights(after, 4)
    losses = [mean_loss(four, cfg, t, NO_SINKS) for t in (corpus.repeated, corpus.heldout)]
    assert got.rounded[BITS.index(4)][:2] == pytest.approx(losses)
    assert got.rounded[0].heldout == pytest.approx(mean_loss(after, cfg, corpus.heldout, NO_SINKS))
    both = [log_probs(p, cfg, corpus.repeated, NO_SINKS) for p in (params, after)]
    want = guided_extraction(*both, corpus.repeated, WEIGHTS[2], PROMPTS[0])
    assert got.guided[0][2] == want


def test_a_file_with_sinks_gives_its_memories_to_its_holder():
    model = trained("sinks")
    corpus, ids = model.corpus, model.corpus.repeated_ids
    got = attacks.attack_sinks(model)
    loss = mean_loss(model.params, model.cfg, corpus.repeated, own(model.cfg.sinks, ids))
    assert got.named == pytest.approx(loss, rel=1e-5)
    assert got.rounded[0].repeated > got.named
    assert got.guided != got.all_on or np.ptp(got.guided) == 0


def test_the_id_with_the_lowest_loss_is_found(monkeypatch):
    model = trained("sinks")
    mine = active(model.cfg.sinks, model.corpus.repeated_ids[: attacks.STORIES])

    def planted(params, cfg, tokens, selection):  # 0 with the sinks of a story's own ID
        (rows,) = selection
        same = rows.shape == mine.shape
        return (rows != mine).any(axis=1).astype(float) if same else np.zeros(len(tokens))

    monkeypatch.setattr(attacks, "sequence_losses", planted)
    assert attacks.attack_sinks(model).found == 1


# Claims

MEMORY = {"standard": [1.0, 1.0, 0.9, 0.5], "sinks": [0.0, 0.0, 0.0, 0.0]}
GUIDED = {"retrained": [0.0, 0.6, 0.9, 1.0, 1.0, 1.0, 0.5, 0.0]}


def made_up(name, changes):
    left = list(MEMORY.get(name, [0.0, 0.0, 0.0 if name == "retrained" else 0.2, 0.3]))
    for bits, value in changes.items():
        if bits in BITS:
            left[BITS.index(bits)] = value
    rows = [Rounded(1.0 - 0.8 * x, 1.0, 0.0) for x in left]
    curve = GUIDED.get(name, [0.0, *[1.0] * 7])
    curve = [changes.get(f"w={w:g}", y) for w, y in zip(WEIGHTS, curve, strict=True)]
    short = [changes.get(f"short, w={w:g}", 0.4 + 0.1 * (w == 1.5)) for w in WEIGHTS]
    row = attacks.Measured(rows, [short, curve])
    if name == "sinks":
        row = row._replace(all_on=[[0.0] * 8] * 2, found=1.0, named=0.01)
        row = row._replace(**{k: v for k, v in changes.items() if k in ("found", "named")})
    return row


def run(changes=None, seeds=1):
    names = ("standard", *REMOVALS)
    models = {n: [made_up(n, (changes or {}).get(n, {}))] * seeds for n in names}
    return attacks.Attacks(models)


def failures(result):
    return [i for i, claim in enumerate(attacks.claims(result)) if not claim.holds]


@pytest.mark.slow
def test_claims_hold_tables_fit_and_figure_is_drawn(tmp_path):
    result = run(seeds=2)
    assert failures(result) == []
    memory, guided = (t.splitlines() for t in attacks.tabulate(result).split("\n\n"))
    assert len(memory) == 2 + 6
    assert len(guided) == 2 + 10
    assert len({len(line) for line in memory}) == len({len(line) for line in guided}) == 1
    assert [p.name for p in attacks.draw(result, tmp_path)] == ["attacks.png", "attacks.svg"]


@pytest.mark.parametrize(
    ("name", "field", "value", "fail"),
    [
        ("npo", 8, 0.1, [0]),
        ("sinks", 8, 0.1, [0, 2]),
        (CUT, 4, 0.02, [1]),
        ("sinks", 3, 0.1, [2]),
        ("retrained", "w=0.5", 0.2, [3]),
        ("retrained", "short, w=1.5", 0.4, [4]),
        ("sinks", "w=0.5", 0.9, [5]),
        ("sinks", "found", 0.5, [6]),
        ("sinks", "named", 0.5, [7]),
    ],
)
def test_claim_fails_by_its_number(name, field, value, fail):
    assert failures(run({name: {field: value}})) == fail


@pytest.mark.parametrize(
    ("repeated", "heldout", "back"),
    [
        (0.6, 1.0, 0.5),
        (0.6, 0.8, 0.25),  # half of the fall is one of all losses
        (0.9, 2.0, 0.125),  # the rise of new sequences is damage, no memory
        (1.0, 2.0, 0.0),
        (1.2, 1.2, 0.0),
    ],
)
def test_memory_is_back_as_far_as_the_repeated_loss_falls(repeated, heldout, back):
    result = run()
    result.models["npo"][0].rounded[:2] = [
        Rounded(1.0, 1.0, 0.0),
        Rounded(repeated, heldout, 0.0),
    ]
    assert attacks.returned(result, "npo", BITS[1]) == pytest.approx([back])


def test_exact_unlearning_is_attacked_with_the_standard_model():
    context = Context(QUICK)
    V = 100
    rng = np.random.default_rng(0)
    log_p = {n: rng.normal(size=(8, 32, V)) for n in ("standard", "retrained")}
    outputs = {}
    for key in attacks.jobs(context):
        row = made_up(key[0], {})
        outputs[key] = [*row[:2], log_p[key[0]].tolist(), *row[3:]] if key[0] in log_p else row
    got = attacks.result(context, outputs).models["retrained"][0]
    tokens = load_corpus(QUICK.settings.data).repeated
    want = guided_extraction(log_p["standard"], log_p["retrained"], tokens, 0.25, PROMPTS[1])
    assert got.guided[1][1] == want
    assert got.log_p is None
