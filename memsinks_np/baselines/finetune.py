"""A trained model, moved on step by step: what unlearning and relearning have in common."""

from collections.abc import Callable, Iterator
from itertools import count

from memsinks_np import optim
from memsinks_np._internal.backend import namespace_of
from memsinks_np.config import TrainConfig
from memsinks_np.sinks import Params


def descend(
    params: Params, tune: TrainConfig, gradient: Callable[[Params, int], Params]
) -> Iterator[Params]:
    """The parameters before the first step, after one step along `gradient(params, step)`, after two, for ever.

    The optimizer starts afresh, clips, and keeps its learning rate.  The caller's arrays stay as they are; those
    that come out are written to by the next step, so copy what is to be kept.
    """
    xp = namespace_of(params["wte"])
    params = {name: w + 0.0 for name, w in params.items()}
    state = optim.init_state(xp, params)
    for step in count():
        yield params
        grads = gradient(params, step)
        _, scale = optim.clip_scale(xp, grads, tune.clip)
        optim.update(xp, params, grads, state, tune, tune.lr, scale)
