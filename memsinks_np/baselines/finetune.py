"""Train a model further, step by step; unlearning and relearning use it."""

from collections.abc import Callable, Iterator
from itertools import count

from memsinks_np import optim
from memsinks_np._internal.backend import namespace_of
from memsinks_np._internal.typing import Params
from memsinks_np.config import TrainConfig


def descend(
    params: Params, train: TrainConfig, gradient: Callable[[Params, int], Params]
) -> Iterator[Params]:
    """Yield the parameters before the first step, and after each step along gradient(params, step).

    The optimizer starts with zero moments, clips the gradient, and keeps its learning rate. The
    caller's arrays are not changed. Each step overwrites the arrays that were yielded: copy them
    to keep them.
    """
    xp = namespace_of(params["wte"])
    params = {name: w + 0.0 for name, w in params.items()}
    state = optim.init_state(xp, params)
    for step in count():
        yield params
        grads = gradient(params, step)
        _, scale = optim.clip_scale(xp, grads, train.clip)
        optim.update(xp, params, grads, state, train, train.lr, scale)
