"""Sinks beside SGTM: claims and figure on planted numbers, and the compute penalty."""

import pytest

from memsinks_np.experiments import recall, sgtm
from memsinks_np.experiments.methods import PRESETS
from memsinks_np.experiments.recall import KS, MANY
from memsinks_np.experiments.registry import Context
from memsinks_np.metrics import BySinks, HistoryRow, compute_penalty

# repeated, own sinks on; removed; new, removed; recall at k = 1; at k >= 16; of common facts
NUMBERS = {
    "standard": (0.2, 0.2, 1.0, 0.8, 1.0, 1.0),
    "retrained": (0.9, 0.9, 0.95, 0.03, 0.03, 1.0),
    "filter_half": (0.5, 0.5, 0.98, 0.4, 0.6, 1.0),
    "sgtm": (0.6, 0.9, 1.02, 0.03, 0.04, 1.0),
    "sgtm_half": (0.4, 0.7, 1.02, 0.3, 0.5, 1.0),
    "sgtm_wrong": (0.5, 0.88, 1.04, 0.1, 0.4, 1.0),
    "sgtm_joint": (0.3, 0.7, 1.05, 0.1, 0.2, 1.0),
    "sinks": (0.01, 0.9, 0.97, 0.1, 1.0, 1.0),
}


def made_up(job, changes):
    """Return what a worker might return, with some numbers changed: (method, index) -> value."""
    numbers = list(NUMBERS[job.method.name])
    for (name, i), value in changes.items():
        if name == job.method.name:
            numbers[i] = value
    own, removed, new, single, many, common = numbers
    losses = [[own, removed, None], [None, new, None]]
    history = [[0, None, [5.0] * 3, [5.0] * 3], [500, 1.0, [1.2] * 3, [1.2] * 3]]
    history = [[*row, [], []] for row in (*history, [1000, 1.0, *losses])]
    if job.measure is recall.measure:
        at = dict.fromkeys(KS, single) | dict.fromkeys(MANY, many) | {0: common}
        return [[[at[k]] * 5 for k in KS], [0.99] * 7, [1.0] * 8, history]
    return [[*losses, [0.0] * 3], [None, None], history, [0.9, 0.9]]


def run(changes=(), seeds=1):
    context = Context(PRESETS["stories"], seeds)
    outputs = {key: made_up(job, dict(changes)) for key, job in sgtm.jobs(context).items()}
    return sgtm.result(context, outputs)


def failures(result):
    return [i for i, claim in enumerate(sgtm.claims(result)) if not claim.holds]


@pytest.mark.slow
def test_claims_hold_table_fits_and_figure_is_drawn(tmp_path):
    result = run(seeds=2)
    assert failures(result) == []
    stories, facts = sgtm.tabulate(result).split("\n\n")
    for table in (stories, facts):
        lines = table.splitlines()
        assert len(lines) == 2 + len(sgtm.METHODS)
        assert {len(line) for line in lines} == {len(lines[0])}
    assert [p.name for p in sgtm.draw(result, tmp_path)] == ["sgtm.png", "sgtm.svg"]


@pytest.mark.parametrize(
    ("method", "i", "value", "fail"),
    [
        ("sgtm", 1, 0.8, [0]),
        ("sgtm", 2, 1.3, [0]),
        ("sgtm_joint", 1, 0.9, [1]),
        ("sinks", 1, 0.8, [2]),
        ("sinks", 2, 1.1, [2]),
        ("filter_half", 1, 0.7, [3]),
        ("sgtm_wrong", 1, 0.8, [4]),
        ("sgtm", 0, 0.05, [5]),
        ("sgtm_joint", 0, 0.05, [5]),
        ("sinks", 4, 0.8, [6, 7]),
        ("sgtm", 4, 0.5, [6]),
        ("sgtm_joint", 4, 0.95, [7]),
    ],
)
def test_claim_fails_by_its_number(method, i, value, fail):
    assert failures(run({(method, i): value})) == fail


@pytest.mark.parametrize(
    ("loss", "want"),
    [
        (6.0, 1.0),
        (5.0, 1.0),
        (4.0, 0.9),
        (3.0, 0.8),
        (2.0, 0.4),
        (1.5, 0.3),
        (1.25, 0.0),
        (1.0, 0.0),
    ],
)
def test_compute_penalty_is_the_part_not_needed(loss, want):
    none = BySinks(None, None)
    losses = {0: 5.0, 20: 3.0, 60: 2.0, 80: 1.0, 90: 1.5, 100: 1.25}  # rises again at the end
    history = [HistoryRow(s, None, none, BySinks(None, x)) for s, x in losses.items()]
    assert compute_penalty(history, loss) == pytest.approx(want)


def test_compute_penalty_follows_a_rise_before_the_crossing():
    none, losses = BySinks(None, None), {20: 3.0, 40: 4.5, 60: 2.0, 100: 1.0}
    history = [HistoryRow(s, None, none, BySinks(None, x)) for s, x in losses.items()]
    assert compute_penalty(history, 2.5) == pytest.approx(1 - 0.56)
