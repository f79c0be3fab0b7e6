"""The benchmark's own contestants still run and agree, so that a change of the step breaks here first."""

import os
import subprocess
from contextlib import ExitStack

import numpy as np
import pytest

from benchmarks import ratios, step
from benchmarks.peers import autograd_peer, ours, ours_by
from memsinks_np.model import init_params


def test_our_contestants_agree_and_take_a_step():
    shape = step.Shape("tiny", n_shared=6, n_sink=9, n_active=2, B=5, T=4, C=8, L=2)
    cfg, index = shape.model(), step.sinks_of(shape)
    tokens = np.random.default_rng(2).integers(cfg.n_vocab, size=(shape.B, shape.T + 1))
    args = (cfg, init_params(cfg), tokens, index)
    peers = {ratios.OURS: ours(*args, masked=False), ratios.MASKED: ours(*args, masked=True)}
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


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_is_run_by_as_many_processes_as_its_row_says(threads):
    shape = step.Shape("tiny", n_shared=6, n_sink=9, n_active=2, B=5, T=4, C=8, L=2)
    cfg, index = shape.model(), step.sinks_of(shape)
    tokens = np.random.default_rng(2).integers(cfg.n_vocab, size=(shape.B, shape.T + 1))
    alone = ours(cfg, init_params(cfg), tokens, index, False)
    with ExitStack() as stack:
        peer = ours_by(threads, stack, cfg, init_params(cfg), tokens, index, False)
        listed = ["ps", "-o", "args=", "--ppid", str(os.getpid())]
        children = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
        assert children.count("memsinks_np.crew") == threads - 1
        for _ in range(3):
            peer.step()
            alone.step()
        assert peer.loss_and_grads()[0] == alone.loss_and_grads()[0]


def test_the_table_divides_the_right_numbers():
    found = {
        (ratios.OURS, 1): 6.0,
        (ratios.OURS, 2): 4.0,
        ("floor", 1): 4.5,
        ("floor", 2): 2.5,
        (ratios.TORCH, 2): 5.0,
    }
    rows = [
        {"shape": "tiny", "implementation": it, "threads": n, "median_ms": ms}
        for (it, n), ms in found.items()
    ]
    head, _, line = ratios.tell(rows, 2).splitlines()
    cells = dict(
        zip(*([cell.strip() for cell in row.split("|")] for row in (head, line)), strict=True)
    )
    got = [
        cells[name]
        for name in ("speed-up from 1", "the floor's", "/ floor", "/ torch gathered", "/ autograd")
    ]
    assert got == ["1.50", "1.80", "1.60", "0.80", "-"]


@pytest.mark.parametrize("argv", ["--threads 0", "--threads", "--shapes huge", "--out /dev/null/x"])
def test_the_command_refuses_before_it_measures(argv, capsys, monkeypatch):
    monkeypatch.setattr(step, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as e:
        step.main(argv.split())
    assert e.value.code == 2
    assert argv.split()[0] in capsys.readouterr().err


def test_the_share_of_choosing_sinks_is_none_where_the_largest_pool_was_not_measured():
    """NaN would be no JSON: the file could not be written."""
    rows = [
        {
            "shape": "default",
            "implementation": step.OURS,
            "threads": 2,
            "median_ms": 15.0,
            "min_ms": 14.0,
        }
    ]
    assert step.selection_share(rows) is None
    assert 0 < step.selection_share([*rows, rows[0] | {"shape": "pool-65536"}]) < 1
