"""The optimizer's rule for sinks, against its own definition.

An inactive sink is untouched: no weight decay, no momentum, to the last bit. An active one takes a
step of AdamW with its own step count, as if its inactive steps had not been.
"""

from typing import Any

import numpy as np

from memsinks_np import optim
from memsinks_np._internal.backend import to_device, to_host
from memsinks_np.config import TrainConfig
from memsinks_np.gradcheck import MIN_LIMITS, SAME, GradientError
from memsinks_np.gradcheck.diagnosis import pattern
from memsinks_np.sinks import RowGrad

NAME = "optimizer"
CFG = TrainConfig(lr=0.01, weight_decay=0.1)
N_SINKS = 6
ACTIVE = ([0, 2], [2, 5], [0, 5], [0, 2])  # in each of four steps; 1, 3 and 4 never are
ARRAYS = {"h0.sink.W_in": (N_SINKS, 3), "h0.sink.b_in": (N_SINKS,)}


def check_optimizer(seed: int = 0, dtype: Any = np.float64, xp: Any = np) -> list[GradientError]:
    """Take a few steps; return the largest error of inactive and of active sinks, per array."""
    rng: Any = np.random.default_rng(seed)
    min_limit = MIN_LIMITS[np.dtype(dtype).name]

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(dtype)

    params = to_device(xp, {name: draw(*shape) for name, shape in ARRAYS.items()})
    state = optim.init_state(xp, params)
    counts = np.zeros(N_SINKS, int)
    worst: dict[str, GradientError] = {}
    for active in ACTIVE:
        counts[active] += 1
        grads = {n: RowGrad(np.array(active), draw(2, *shape[1:])) for n, shape in ARRAYS.items()}
        before = {name: snapshot(params, state, name) for name in ARRAYS}
        optim.update(xp, params, to_device(xp, grads), state, CFG, CFG.lr)
        for name in ARRAYS:
            got, want = snapshot(params, state, name), defined_step(name, before, grads, counts)
            for what, rows, limit in (
                ("inactive", np.setdiff1d(np.arange(N_SINKS), active), 0.0),
                ("active", np.array(active), min_limit),
            ):
                result = compare(f"{what} {name.removeprefix('h0.')}", rows, got, want, limit)
                old = worst.setdefault(result.input, result)
                if result.errors["definition"] > old.errors["definition"]:
                    worst[result.input] = result
    return list(worst.values())


def snapshot(params: Any, state: optim.OptimState, name: str) -> list[Any]:
    """Return copies of an array's weights, first and second moments, in float64 on the host."""
    return [to_host(a).astype(np.float64) for a in (params[name], *state.moments[name])]


def defined_step(
    name: str, before: dict[str, list[Any]], grads: dict[str, RowGrad], counts: Any
) -> list[Any]:
    """Return weights and moments after a step of the active rows (Loshchilov & Hutter, alg. 2)."""
    rows, g = grads[name]
    decay = CFG.weight_decay if name.endswith("W_in") else 0.0
    (b1, b2), after = CFG.betas, [array.copy() for array in before[name]]
    w, m, v = (array[rows] for array in after)
    n = counts[rows].reshape(-1, *[1] * (w.ndim - 1))
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    step = (m / (1 - b1**n)) / (np.sqrt(v / (1 - b2**n)) + CFG.eps)
    for array, new in zip(after, (w - CFG.lr * (step + decay * w), m, v), strict=True):
        array[rows] = new
    return after


def compare(
    name: str, rows: Any, got: list[Any], want: list[Any], min_limit: float
) -> GradientError:
    """Return the largest error of some rows among weights and moments, with its pattern."""
    arrays = ("weights", "first moment", "second moment")
    errors = [float(np.abs(g - w)[rows].max()) for g, w in zip(got, want, strict=True)]
    i = int(np.argmax(errors))
    result = GradientError(NAME, name, {"definition": errors[i]}, {}, min_limit)
    if not result.ok:
        row = rows[np.abs(got[i] - want[i])[rows].reshape(len(rows), -1).max(axis=1).argmax()]
        how = pattern(got[i][rows], want[i][rows], {}, {}, max(SAME, min_limit))
        result.notes["pattern"] = f"{arrays[i]}: {how}"
        result.notes["worst"] = f"sink {row}"
    return result
