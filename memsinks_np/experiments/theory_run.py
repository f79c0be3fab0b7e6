"""Three simulations, one for each formal result: co-adaptation, accumulation, entanglement (App. F, H, D)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from memsinks_np.experiments import Context
from memsinks_np.experiments import simulations as t

D, LR, STEPS = 12, 0.05, 3000  # co-adaptation
AFTER = (1, 10, 20, 50, 100, 300, 1000, 3000)
N_STEPS, PERIOD, WIDTH, WORDS = 1000, 40, 16, 50  # accumulation: k = 25 of 1,000 steps
RHOS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
LRS = {"gentle": 0.001, "usual": 0.3}
SEMANTIC, ONCE, DRAWS = 8, (0, 1, 2, 4, 8, 16, 32, 64, 128, 256), 40  # entanglement


def run(plan: Context) -> dict[str, Any]:
    """Three simulations for every seed; nothing is trained, so the preset does not matter."""
    draws = 4 if plan.quick else DRAWS
    return {
        "seeds": [
            {
                "coadaptation": coadapt(seed),
                "accumulation": accumulate(seed),
                "entanglement": entangle(seed, draws),
            }
            for seed in range(plan.seeds)
        ]
    }


def coadapt(seed: int) -> dict[str, Any]:
    """The distance in steps 0 to STEPS, its limit, and the bound; W_mem has norm 1."""
    data, labels = t.positive(STEPS, D, seed, 0), t.anywhere(STEPS, D, seed, 1)
    s_mem, x = t.positive(2, D, seed, 2)
    W_mem = np.outer(t.anywhere(1, D, seed, 3)[0], s_mem)
    seen = np.vstack([data, s_mem, x])
    c = float((seen @ seen.T).min())
    return {
        "distance": t.coadaptation(W_mem, data, labels, x, LR).tolist(),
        "limit": float(np.linalg.norm(W_mem @ x)),
        "bound": t.coadaptation_bound(np.arange(STEPS + 1), LR, c).tolist(),
    }


def accumulate(seed: int) -> dict[str, Any]:
    """The one-layer model at two learning rates, for every share of the others that has the sinks on."""
    out: dict[str, Any] = {}
    for name, lr in LRS.items():
        rows = []
        for rho in RHOS:
            a = t.accumulation(rho, N_STEPS, PERIOD, lr, WIDTH, WORDS, seed)
            bounds = t.Bounds(a.k, a.k + a.n_on, a.eps_sink[0], *a.c)
            rows.append(
                {"rho": rho, "shared": float(a.shared[-1]), "sink": float(a.sink[-1])}
                | {"threshold": t.Bounds(a.k, N_STEPS, a.eps_shared, *a.c).threshold()}
                | {"lower_printed": bounds.sink_lower(1.0, lr)}
                | {"lower": bounds._replace(eps=a.eps_sink[1]).sink_lower(1.0, lr)}
            )
        out[name] = rows
    a = t.accumulation(0.1, N_STEPS, PERIOD, LRS["usual"], WIDTH, WORDS, seed)
    return out | {"trace": {"shared": a.shared.tolist(), "sink": a.sink.tolist()}}


def entangle(seed: int, draws: int) -> dict[str, list[float]]:
    """The mean semantic share of the min-norm update beside N others, with private noise and without."""

    def share(n: int, noise: float) -> float:
        pairs = [
            (t.anywhere(1, SEMANTIC, seed, i, 0)[0], t.anywhere(n, SEMANTIC, seed, i, 1))
            for i in range(draws)
        ]
        return float(np.mean([t.semantic_share(mine, others, noise) for mine, others in pairs]))

    return {"noisy": [share(n, 1.0) for n in ONCE], "clean": [share(n, 0.0) for n in ONCE]}


def over(result: dict[str, Any], of: Callable[[dict[str, Any]], float]) -> list[float]:
    """A number for every seed."""
    return [float(of(seed)) for seed in result["seeds"]]


def mean(result: dict[str, Any], of: Callable[[dict[str, Any]], float]) -> float:
    return float(np.mean(over(result, of)))


def distance(n: int) -> Callable[[dict[str, Any]], float]:
    return lambda seed: seed["coadaptation"]["distance"][n]


def logit(rate: str, rho: float, field: str) -> Callable[[dict[str, Any]], float]:
    return lambda seed: seed["accumulation"][rate][RHOS.index(rho)][field]


def share(kind: str, n: int) -> Callable[[dict[str, Any]], float]:
    return lambda seed: seed["entanglement"][kind][ONCE.index(n)]


def lead(rho: float) -> Callable[[dict[str, Any]], float]:
    """How much more of the right word's logit comes from the sinks than from the shared neurons."""
    return lambda seed: logit("usual", rho, "sink")(seed) - logit("usual", rho, "shared")(seed)
