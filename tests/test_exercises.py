"""The graders accept what is right, refuse what is wrong, and never tell."""

import numpy as np

from memsinks_np.exercises import page01, page02, page12, verdict


def right(line):
    return line.startswith("right: ")


def test_a_verdict_is_one_printed_line(capsys):
    assert verdict(True, "yes", "look again") == "right: yes"
    assert verdict(False, "yes", "look again") == "not yet: look again"
    assert capsys.readouterr().out == "right: yes\nnot yet: look again\n"


def test_page_01():
    assert right(page01.check_sleeper("same"))
    assert not right(page01.check_sleeper("up"))
    assert right(page01.check_blind([[1, 1, 1], [-2, -2, -2]]))
    for dp in ([[1, 1, 1], [1, 1, 1]], [[1, 2, 3], [4, 5, 6]], [[1, 1], [-2, -2]], [[1, -2], [1, -2], [1, -2]]):
        assert not right(page01.check_blind(dp))

    def swish_backward(xp, dy, cache, second=1):
        x, sigma = cache
        return dy * (sigma + second * x * sigma * (1 - sigma))

    assert right(page01.check_swish(swish_backward))
    assert not right(page01.check_swish(lambda xp, dy, cache: swish_backward(xp, dy, cache, second=0)))
    assert not right(page01.check_swish(lambda xp, dy, cache: dy.sum()))


def test_page_02():
    assert right(page02.check_ones("zero"))
    assert not right(page02.check_ones("positive"))
    assert right(page02.check_scale(0.1))
    assert not right(page02.check_scale(1))

    def rmsnorm_backward(xp, dy, cache, mean=0):
        n, rstd, g = cache
        dn = dy * g
        dx = rstd * (dn - mean * dn.mean(axis=-1, keepdims=True) - n * (dn * n).mean(axis=-1, keepdims=True))
        return dx, np.sum(dy * n, axis=(0, 1))

    assert right(page02.check_rmsnorm(rmsnorm_backward))
    wrong = page02.check_rmsnorm(lambda xp, dy, cache: rmsnorm_backward(xp, dy, cache, mean=1))
    assert wrong.startswith("not yet: dx differs")


def test_page_12():
    assert right(page12.check_doubled(1, 2))
    assert not right(page12.check_doubled(2, 2))
    assert right(page12.check_shared(0.5))
    assert not right(page12.check_shared(1))
    assert right(page12.check_half(45))
    assert not right(page12.check_half(44))
    assert not right(page12.check_half(46))
