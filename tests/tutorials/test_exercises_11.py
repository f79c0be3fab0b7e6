"""The graders of page 11."""

import numpy as np
import pytest

from memsinks_np.sinks import sink_mask
from tutorials.graders import page11


def share_lost(pool, ids, deleted):
    mine, gone = sink_mask(pool, ids), sink_mask(pool, deleted).max(axis=0)
    return (mine * gone).sum(axis=1) / mine.sum(axis=1)


@pytest.mark.parametrize(
    ("grade", "right", "wrong"),
    [
        (page11.check_half_gone, [44, 45, np.log(0.5) / np.log(63 / 64)], [32, 20, 64]),
        (page11.check_collateral_sign, ["-"], ["+", "0", "less"]),
        (
            page11.check_share_lost,
            [share_lost],
            [
                lambda pool, ids, deleted: 1 - share_lost(pool, ids, deleted),
                lambda pool, ids, deleted: sum(share_lost(pool, ids, [one]) for one in deleted),
                lambda pool, ids, deleted: share_lost(pool, ids, deleted)[:1],
                lambda pool, ids, deleted: np.zeros(len(ids)),
                lambda pool, ids, deleted: np.full(
                    len(ids), sink_mask(pool, deleted).max(axis=0).mean()
                ),
            ],
        ),
    ],
)
def test_page11_accepts_what_is_right_and_hints_at_the_rest(grade, right, wrong):
    assert all(grade(answer).startswith("right: ") for answer in right)
    told = [grade(answer) for answer in wrong]
    assert all(line.startswith("not yet: ") and len(line) > 25 for line in told)


def test_typical_errors_in_share_lost_have_hints_of_their_own():
    said = [
        page11.check_share_lost(
            lambda pool, ids, deleted: sum(share_lost(pool, ids, [one]) for one in deleted)
        ),
        page11.check_share_lost(lambda pool, ids, deleted: 1 - share_lost(pool, ids, deleted)),
        page11.check_share_lost(
            lambda pool, ids, deleted: np.full(
                len(ids), sink_mask(pool, deleted).max(axis=0).mean()
            )
        ),
    ]
    assert [
        word in line for word, line in zip(("union", "stays", "the pool"), said, strict=True)
    ] == [True] * 3
