"""Intervals have the coverage that they claim, and JSON holds only finite numbers."""

import re
from math import gamma, pi
from statistics import mean, stdev

import numpy as np
import pytest

from memsinks_np.config import ConfigError
from memsinks_np.experiments.report.claims import above, below, estimate, minus, to_json


def coverage(t, degrees):
    """Return P(|T| < t) of Student's t, by integrating its density."""
    x, d = np.linspace(-t, t, 20_001), degrees
    scale = gamma((d + 1) / 2) / gamma(d / 2) / (d * pi) ** 0.5
    return np.trapezoid(scale * (1 + x * x / d) ** (-(d + 1) / 2), x)


@pytest.mark.parametrize("n", range(2, 32))
def test_estimate_is_the_mean_with_its_95_percent_interval(n):
    values = np.random.default_rng(n).normal(0.4, 0.8, size=n).tolist()
    middle, low, high = map(float, re.findall(r"-?[\d.]+", estimate(values, digits=7)))
    assert middle == pytest.approx(mean(values), abs=1e-6)
    assert high - middle == pytest.approx(middle - low, abs=1e-6)
    t = (high - low) / 2 / (stdev(values) / n**0.5)
    assert coverage(t - 0.0006, n - 1) < 0.95 < coverage(t + 0.0006, n - 1)


def test_an_interval_that_holds_the_bound_is_not_above_it():
    assert above([0.1])
    assert above([0.10, 0.11, 0.12])
    assert not above([-0.1, 0.2, 0.3])
    assert above([0.10, 0.11, 0.12], 0.08)
    assert not above([0.10, 0.11, 0.12], 0.09)
    assert not above([-0.1])


def test_below_is_above_from_the_other_side():
    values = [0.1, 0.2, 0.3]  # 0.2 [-0.05, 0.45]
    assert [below(values, bound) for bound in (0.2, 0.44, 0.46)] == [False, False, True]
    assert below([0.1], 0.2)
    assert not below([0.1], 0.1)


def test_numbers_that_do_not_exist_are_neither_above_nor_below():
    assert not above([None, 2.0], 1)
    assert not below([None, 0.0], 1)
    assert minus([3.0, 2.0], [1.0, 2.5]) == [2.0, -0.5]
    assert np.isnan(minus([None], [1.0]))


def test_estimate_shows_signs_and_no_interval_of_one_seed():
    assert estimate([0.1234], 3, "") == "0.123"
    assert estimate([0.1234], 2, "+") == "+0.12"
    assert estimate([1.0, -1.0], 1, "+") == "+0.0 [-12.7, +12.7]"
    assert estimate([0.5, None]) == "-"
    assert estimate([-0.0001]) == "0.000"
    assert estimate([-0.0001], sign="+") == "+0.000"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_infinite_numbers_are_not_written(value):
    with pytest.raises(ConfigError, match="not finite"):
        to_json({"rows": [{"loss": value}]})
