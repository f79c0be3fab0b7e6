"""The graders of page 06."""

import pytest

from tutorials.graders import page06


@pytest.mark.parametrize(
    ("grade", "right", "wrong"),
    [
        (page06.check_silent_neuron, [0, 0.0], [1, 0.5]),
        (page06.check_completeness, [0.6, 0.599], [0.85, -0.6, 0.25, 0]),
        (page06.check_contrast_sign, ["+"], ["-", "0", "plus"]),
    ],
)
def test_page06_accepts_what_is_right_and_hints_at_the_rest(grade, right, wrong):
    assert all(grade(answer).startswith("right: ") for answer in right)
    told = [grade(answer) for answer in wrong]
    assert all(line.startswith("not yet: ") and len(line) > 30 for line in told)
    assert not any("0.6" in line for line in told)
