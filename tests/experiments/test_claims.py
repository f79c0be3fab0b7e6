"""How numbers are told: intervals with the coverage that they claim."""

import re
from math import gamma, pi
from statistics import mean, stdev

import numpy as np
import pytest

from memsinks_np.experiments.report.claims import estimate, to_json

VALUES = np.random.default_rng(2).normal(0.4, 0.8, size=31).tolist()


def coverage(t, degrees):
    """P(|T| < t) of Student's t, by its density."""
    x, d = np.linspace(-t, t, 20_001), degrees
    density = (
        gamma((d + 1) / 2) / gamma(d / 2) / (d * pi) ** 0.5 * (1 + x * x / d) ** (-(d + 1) / 2)
    )
    return np.trapezoid(density, x)


@pytest.mark.parametrize("n", range(2, 32))
def test_an_estimate_is_the_mean_and_the_interval_that_holds_it_95_times_in_100(n):
    values = VALUES[:n]
    middle, low, high = map(float, re.findall(r"-?[\d.]+", estimate(values, digits=7)))
    assert middle == pytest.approx(mean(values), abs=1e-6)
    assert high - middle == pytest.approx(middle - low, abs=1e-6)
    t = (high - low) / 2 / (stdev(values) / n**0.5)
    assert coverage(t - 0.0006, n - 1) < 0.95 < coverage(t + 0.0006, n - 1)


def test_an_estimate_of_one_seed_has_no_interval_and_a_sign_is_shown_where_it_is_asked_for():
    assert estimate([0.1234]) == "0.123"
    assert estimate([0.1234], 2, "+") == "+0.12"
    assert estimate([1.0, -1.0], 1, "+") == "+0.0 [-12.7, +12.7]"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_know_is_not_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"rows": [{"loss": value}]})
