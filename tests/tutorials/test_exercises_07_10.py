"""Graders of pages 07 and 10: right answers pass, typical errors do not, and the solutions are true."""

import numpy as np

from memsinks_np._internal.ids import uniform
from memsinks_np.experiments import simulations as theory
from tutorials.graders import NOT_GIVEN, page07, page10


def right(line):
    return line.startswith("right: ")


def test_page_07():
    assert right(page07.check_faster("same"))
    assert right(page07.check_rarely_on(0.1))
    assert right(page07.check_cancelled(1 / 64))
    wrong = [page07.check_faster("larger"), page07.check_rarely_on(1), page07.check_rarely_on(0.01)]
    wrong += [page07.check_rarely_on(0.5), page07.check_cancelled(0.1), page07.check_faster("?")]
    assert not any(map(right, wrong))
    assert len(set(wrong)) == len(wrong)
    assert all(
        "mean of a hundred" in page07.check_rarely_on(one_run) for one_run in (0.055, 0.14, 0.2)
    )
    assert not any(right(page07.check_rarely_on(share)) for share in (0.05, 0.9, 0, 0.316, -0.1))


def test_page_07_solutions_are_true():
    """A faster rate ends at the same distance; a memory that is rarely on is cancelled in that share."""
    data, (s_mem, x) = theory.positive(6000, 6, 0), theory.positive(2, 6, 1)
    W_mem = np.outer(theory.anywhere(1, 6, 2)[0], s_mem)
    slow, fast = (theory.coadaptation(W_mem, data, data, x, lr)[-1] for lr in (0.05, 0.1))
    np.testing.assert_allclose([slow, fast], np.linalg.norm(W_mem @ x), rtol=0.02)


def rarely_on(seeds, n=1000, lr=0.05, rho=0.1):
    """Exercise 2 simulated with the page's numbers: the final share of ||W_mem x||, one for each seed of coins."""
    data, (s_mem, x) = theory.positive(n, 12, 0), theory.positive(2, 12, 1)
    W_mem = np.outer(theory.anywhere(1, 12, 2)[0], s_mem)
    coins = uniform(7, np.array(seeds)[:, None], np.arange(n)) < rho
    W_gen = np.zeros((len(seeds), *W_mem.shape))
    for s, on in zip(data, coins.T, strict=True):
        W_gen -= lr * ((W_gen + on[:, None, None] * W_mem) @ s)[..., None] * s
    return np.linalg.norm(W_gen @ x, axis=1) / np.linalg.norm(W_mem @ x)


def test_page_07_accepts_the_mean_of_a_hundred_runs_and_tells_one_run_what_to_do():
    found = rarely_on(range(300))
    assert all(right(page07.check_rarely_on(run.mean())) for run in found.reshape(3, 100))
    said = {page07.check_rarely_on(share).partition(":")[2] for share in found}
    assert len(said) == 2  # the praise, and the hint to take a mean
    assert any("mean of a hundred" in line for line in said)


def test_page_10():
    assert right(page10.check_more_often("higher"))
    assert right(page10.check_threshold(0.6531))
    assert right(page10.check_half_life(2310))
    wrong = [
        page10.check_more_often("same"),
        page10.check_more_often("?"),
        page10.check_threshold(0.6665),
    ]
    wrong += [
        page10.check_threshold(2 / 3),
        page10.check_threshold(0.9),
        page10.check_half_life(1667),
    ]
    wrong += [page10.check_half_life(6.58), page10.check_half_life(100)]
    assert not any(map(right, wrong))


def test_page_10_more_often_is_higher():
    held = [theory.accumulation(0.1, 1000, period, 0.3, 16, 50, 0).sink[-1] for period in (40, 20)]
    assert held[0] < held[1]


def test_nothing_given_is_said_so():
    graders = (page07.check_faster, page07.check_rarely_on, page07.check_cancelled)
    graders += (page10.check_more_often, page10.check_threshold, page10.check_half_life)
    assert {grader(None) for grader in graders} == {f"not yet: {NOT_GIVEN}"}
