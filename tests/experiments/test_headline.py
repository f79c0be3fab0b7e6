"""The run that the project is about: every claim of the headline holds, at full length."""

import pytest

from memsinks_np.experiments import Context, headline
from memsinks_np.experiments.methods import PRESETS
from memsinks_np.experiments.runner.grid import Grid


@pytest.mark.slow
def test_every_claim_of_the_headline_holds(tmp_path):
    result = headline.run(Context(PRESETS["stories"], 1, False, Grid(tmp_path)))
    assert [claim for claim in headline.claims(result) if not claim.holds] == []
    mean = {name: entry["mean"] for name, entry in result["methods"].items()}
    assert mean["standard"]["repeated_own"] <= 0.25
    assert mean["sinks"]["repeated_own"] <= 0.05
    assert 0.97 <= mean["sinks"]["gold_gap_closed"] <= 1.03
    assert mean["sinks"]["extraction_removed"] == mean["retrained"]["extraction_removed"] == 0
    assert abs(mean["sinks"]["deleted_loss"] - mean["retrained"]["repeated_removed"]) <= 0.1
