"""The headline and its comparison on stories at full length."""

import pytest

from memsinks_np.experiments import headline, isolation
from memsinks_np.experiments.methods import PRESETS
from memsinks_np.experiments.registry import Context
from memsinks_np.experiments.runner.grid import Grid


def run(experiment, corpus, folder):
    """Run an experiment for one seed; hold its claims."""
    context = Context(PRESETS[corpus])
    result = experiment.result(context, Grid(folder)(experiment.jobs(context)))
    assert [claim for claim in experiment.claims(result) if not claim.holds] == []
    return result


@pytest.mark.slow
def test_every_claim_of_the_headline_holds(models):
    run(headline, "people", models)


@pytest.mark.slow
def test_every_claim_of_isolation_holds(models):
    mean = run(isolation, "stories", models).mean
    assert mean("standard", "repeated.own") <= 0.25
    assert mean("sinks", "repeated.own") <= 0.05
    assert 0.97 <= mean("sinks", "gold_gap_closed") <= 1.03
    extracted = (mean(method, "extraction.removed") for method in ("sinks", "retrained"))
    assert list(extracted) == [0, 0]
    deleted, never_seen = mean("sinks", "deleted_loss"), mean("retrained", "repeated.removed")
    assert abs(deleted - never_seen) <= 0.1
