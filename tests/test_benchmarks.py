"""The benchmark's own contestants still run and agree, so that a change of the step breaks here first."""

import numpy as np

from benchmarks import step
from benchmarks.peers import autograd_peer, ours
from memsinks_np.model import init_params


def test_our_contestants_agree_and_take_a_step():
    shape = step.Shape("tiny", n_shared=6, n_sink=9, n_active=2, B=5, T=4, C=8, L=2)
    cfg, index = shape.model(), step.sinks_of(shape)
    tokens = np.random.default_rng(2).integers(cfg.n_vocab, size=(shape.B, shape.T + 1))
    args = (cfg, init_params(cfg), tokens, index)
    peers = {step.OURS: ours(*args, masked=False, run=map), step.MASKED: ours(*args, masked=True, run=map)}
    step.must_agree(peers | {"autograd": autograd_peer(*args)})
    for peer in peers.values():
        before = peer.loss_and_grads()[0]
        peer.step()
        assert peer.loss_and_grads()[0] < before
