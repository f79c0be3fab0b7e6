"""The benchmark's own contestants still run and agree, so that a change of the step breaks here first."""

import threading

import numpy as np

from benchmarks import ratios, step
from benchmarks.peers import autograd_peer, ours
from memsinks_np.model import init_params


def test_our_contestants_agree_and_take_a_step():
    shape = step.Shape("tiny", n_shared=6, n_sink=9, n_active=2, B=5, T=4, C=8, L=2)
    cfg, index = shape.model(), step.sinks_of(shape)
    tokens = np.random.default_rng(2).integers(cfg.n_vocab, size=(shape.B, shape.T + 1))
    args = (cfg, init_params(cfg), tokens, index)
    peers = {ratios.OURS: ours(*args, masked=False, run=map), ratios.MASKED: ours(*args, masked=True, run=map)}
    step.must_agree(peers | {"autograd": autograd_peer(*args)})
    for peer in peers.values():
        before = peer.loss_and_grads()[0]
        peer.step()
        assert peer.loss_and_grads()[0] < before


def test_every_number_of_threads_is_measured_in_one_run():
    shape = step.Shape("tiny", n_shared=6, n_sink=9, n_active=2, B=5, T=4, C=8, L=2)
    rows = step.measure(shape, [1, 2], seconds=0.1, peers_too=False)
    assert [(r["threads"], r["implementation"]) for r in rows] == [
        (n, it) for n in (1, 2) for it in (ratios.OURS, "floor")
    ]
    assert all(0 < r["min_ms"] <= r["median_ms"] for r in rows)


def test_a_step_is_run_by_as_many_threads_as_its_row_says(monkeypatch):
    """Each job of a step waits until all are there, so that no thread can do two of them."""

    def contestants(shape, threads, run, peers_too):
        meet = threading.Barrier(threads, timeout=10)
        return {"meet": lambda: list(run(lambda _: meet.wait(), range(threads)))}

    monkeypatch.setattr(step, "contestants", contestants)
    rows = step.measure(step.Shape("tiny"), [2, 1, 3], seconds=0.1, peers_too=False)
    assert [r["threads"] for r in rows] == [2, 1, 3]


def test_the_table_divides_the_right_numbers():
    found = {(ratios.OURS, 1): 6.0, (ratios.OURS, 2): 4.0, ("floor", 1): 4.5, ("floor", 2): 2.5, (ratios.TORCH, 2): 5.0}
    rows = [{"shape": "tiny", "implementation": it, "threads": n, "median_ms": ms} for (it, n), ms in found.items()]
    head, _, line = ratios.tell(rows, 2).splitlines()
    cells = dict(zip(*([cell.strip() for cell in row.split("|")] for row in (head, line)), strict=True))
    got = [cells[name] for name in ("speed-up from 1", "the floor's", "/ floor", "/ torch gathered", "/ autograd")]
    assert got == ["1.50", "1.80", "1.60", "0.80", "-"]
