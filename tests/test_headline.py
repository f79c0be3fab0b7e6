"""The run that the project is about: every claim of the headline holds, at full length."""

import pytest

from memsinks_np.arms import PRESETS
from memsinks_np.experiments import Plan, headline
from memsinks_np.grid import Grid


@pytest.mark.slow
def test_every_claim_of_the_headline_holds(tmp_path):
    result = headline.run(Plan(PRESETS["stories"], 1, False, Grid(tmp_path)))
    assert [claim for claim in headline.claims(result) if not claim.holds] == []
    mean = {name: entry["mean"] for name, entry in result["arms"].items()}
    assert mean["standard"]["repeated_own"] <= 0.25
    assert mean["memsinks"]["repeated_own"] <= 0.05
    assert 0.97 <= mean["memsinks"]["gold_gap_closed"] <= 1.03
    assert mean["memsinks"]["extraction_removed"] == mean["retrained_without"]["extraction_removed"] == 0
    assert abs(mean["memsinks"]["deleted_loss"] - mean["retrained_without"]["repeated_removed"]) <= 0.1
