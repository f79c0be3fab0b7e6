"""The paper's three formal results, simulated: what holds, and where it stops (App. D, F, H)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np._internal.ids import integers
from memsinks_np._internal.tables import number, table
from memsinks_np.experiments import simulations as t
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

D, LR, STEPS = 12, 0.05, 3000  # co-adaptation
AFTER = (1, 10, 20, 50, 100, 300, 1000, 3000)
N_STEPS, PERIOD, WIDTH, N_WORDS = 1000, 40, 16, 50  # accumulation: k = 25 of 1,000 steps
RHOS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
SLOW, FAST = 0.001, 0.3  # learning rates
SEMANTIC, ONCE_SEEN, DRAWS = 8, (0, 1, 2, 4, 8, 16, 32, 64, 128, 256), 40  # entanglement


class Coadaptation(NamedTuple):
    """The distance from a model that never had the memory, after steps 0 to STEPS."""

    distance: list[float]
    limit: float  # of the distance
    bound: list[float]  # Theorem F.1


class Logits(NamedTuple):
    """The right word's logit at the end of the one-layer model, and the bounds of Theorem H.3.

    One number for each of RHOS.
    """

    shared: list[float]  # the shared neurons' part
    sink: list[float]
    threshold: list[float]  # of rho, by the two bounds
    lower: list[float]  # bound on `sink`, with the largest product of activations
    lower_printed: list[float]  # with the smallest product, as in the paper


class Trace(NamedTuple):
    """The two parts of the right word's logit, step by step."""

    shared: list[float]
    sink: list[float]


@dataclass(frozen=True)
class Simulated:
    """The three simulations under one seed."""

    coadaptation: Coadaptation
    slow: Logits
    fast: Logits
    trace: Trace  # rho = 0.1, fast
    noisy: list[float]  # semantic fraction for each of ONCE_SEEN, each with noise of its own
    clean: list[float]  # without noise


@dataclass(frozen=True)
class Theory:
    """The simulations under every seed."""

    seeds: list[Simulated]

    def values(self, get: Callable[[Simulated], Any]) -> NDArray[np.float64]:
        """Return numbers of every seed, (seeds, ...)."""
        return np.array([get(seed) for seed in self.seeds], float)

    def mean(self, get: Callable[[Simulated], Any]) -> NDArray[np.float64]:
        """Return numbers, mean over seeds."""
        mean: NDArray[np.float64] = self.values(get).mean(axis=0)
        return mean


def jobs(context: Context) -> Jobs:
    """Return no jobs: nothing is trained, and the preset does not matter."""
    return {}


def result(context: Context, outputs: Outputs) -> Theory:
    """Run the simulations under every seed."""
    draws = 4 if context.quick else DRAWS
    return Theory([simulate(seed, draws) for seed in range(context.seeds)])


def simulate(seed: int, draws: int) -> Simulated:
    """Run the three simulations under one seed."""
    run = t.accumulation(0.1, N_STEPS, PERIOD, FAST, WIDTH, N_WORDS, seed)
    return Simulated(
        coadapt(seed),
        accumulate(SLOW, seed),
        accumulate(FAST, seed),
        Trace(run.shared.tolist(), run.sink.tolist()),
        [entangle(seed, draws, n, 1.0) for n in ONCE_SEEN],
        [entangle(seed, draws, n, 0.0) for n in ONCE_SEEN],
    )


def coadapt(seed: int) -> Coadaptation:
    """Simulate co-adaptation to a memory of norm 1."""
    data, labels = t.positive(STEPS, D, seed, 0), t.anywhere(STEPS, D, seed, 1)
    s_mem, x = t.positive(2, D, seed, 2)
    W_mem = np.outer(t.anywhere(1, D, seed, 3)[0], s_mem)
    inputs = np.vstack([data, s_mem, x])
    c = float((inputs @ inputs.T).min())
    return Coadaptation(
        t.coadaptation(W_mem, data, labels, x, LR).tolist(),
        float(np.linalg.norm(W_mem @ x)),
        t.coadaptation_bound(integers(STEPS + 1), LR, c).tolist(),
    )


def accumulate(lr: float, seed: int) -> Logits:
    """Train the one-layer model for each of RHOS."""
    rows = []
    for rho in RHOS:
        run = t.accumulation(rho, N_STEPS, PERIOD, lr, WIDTH, N_WORDS, seed)
        threshold = t.Bounds(run.k, N_STEPS, run.eps_shared, *run.c).threshold()
        printed, lower = (
            float(t.Bounds(run.k, run.k + run.n_active, eps, *run.c).sink_lower(1.0, lr))
            for eps in run.eps_sink
        )
        rows.append((float(run.shared[-1]), float(run.sink[-1]), threshold, lower, printed))
    return Logits(*map(list, zip(*rows, strict=True)))


def entangle(seed: int, draws: int, n: int, noise: float) -> float:
    """Return the semantic fraction of the update that leaves n others as they are, a mean."""
    fractions = [
        t.semantic_fraction(
            t.anywhere(1, SEMANTIC, seed, i, 0)[0], t.anywhere(n, SEMANTIC, seed, i, 1), noise
        )
        for i in range(draws)
    ]
    return float(np.mean(fractions))


def claims(result: Theory) -> list[Claim]:
    """Return three theorems, sentence by sentence."""
    return [
        *claims_on_coadaptation(result),
        *claims_on_bounds(t.COUNTEREXAMPLE),
        *claims_on_accumulation(result),
        *claims_on_entanglement(result),
    ]


def claims_on_coadaptation(result: Theory) -> list[Claim]:
    """Return Theorems 4.1 and F.1."""
    limit = result.mean(lambda s: s.coadaptation.limit)
    at = result.mean(lambda s: s.coadaptation.distance)
    bound = result.mean(lambda s: s.coadaptation.bound)
    slack = result.values(lambda s: np.subtract(s.coadaptation.distance, s.coadaptation.bound))
    return [
        Claim(
            "general neurons co-adapt: they learn to cancel a memory that they may not learn",
            "Theorem F.1",
            f"distance {at[1]:.3f}, {at[10]:.3f}, {at[100]:.3f} after 1, 10, 100 steps "
            f"(the memory: {limit:.3f})",
            bool(at[1] < at[10] < at[100] and at[100] > 0.9 * limit),
        ),
        Claim(
            "the damage grows in proportion to the number of steps, without end",
            "Theorem 4.1, informal: at least c N",
            f"{at[1000]:.3f} after 1,000 steps, {at[3000]:.3f} after 3,000",
            bool(at[3000] > 2 * at[1000]),
            f"it saturates at ||W_mem x|| = {limit:.3f}, where the memory is cancelled; c N is "
            "right for N well below 1/lr",
        ),
        Claim(
            "N lr (1 - lr)^N c^2 bounds the damage from below (for a W_mem of norm 1)",
            "Theorem F.1",
            f"true at every step; largest, {bound.max():.4f}, at N = {bound.argmax()}; "
            f"{bound[300]:.0e} at N = 300",
            bool(slack.min() >= 0),
        ),
    ]


def claims_on_bounds(b: t.Bounds) -> list[Claim]:
    """Return the threshold of Theorem H.3: as printed, and as its two bounds give it."""
    return [
        Claim(
            "the bounds separate sinks from shared neurons below the printed threshold",
            f"Theorem H.3: rho < {b.printed_threshold():.4f}",
            f"at rho = 0.48: sinks at least {b.sink_lower(0.48):.2f}, "
            f"shared at most {b.shared_upper():.2f}",
            b.sink_lower(0.48) > b.shared_upper(),
            "solving the two bounds for rho gives 1 / (eps c_max) in the second term, "
            "which is missing in the paper",
        ),
        Claim(
            f"they do below the threshold that follows from the bounds, rho < {b.threshold():.4f}",
            "ours",
            f"at rho = 0.44: {b.sink_lower(0.44):.2f} against {b.shared_upper():.2f}",
            b.sink_lower(0.44) > b.shared_upper(),
        ),
    ]


def claims_on_accumulation(result: Theory) -> list[Claim]:
    """Return what App. H says about training, compared with the one-layer model."""
    sink, shared = result.mean(lambda s: s.fast.sink), result.mean(lambda s: s.fast.shared)
    lead = result.values(lambda s: np.subtract(s.fast.sink, s.fast.shared)).min(axis=0)
    leads = [rho for rho, value in zip(RHOS, lead, strict=True) if value > 0]
    rare, always = RHOS.index(0.1), RHOS.index(1.0)
    threshold = result.mean(lambda s: s.fast.threshold[rare])
    logit, lower, printed = result.mean(
        lambda s: [s.slow.sink[always], s.slow.lower[always], s.slow.lower_printed[always]]
    )
    return [
        Claim(
            "memory accumulates in sinks that other sequences rarely activate",
            "App. H",
            f"logit from sinks {sink[rare]:.2f}, from shared neurons {shared[rare]:.2f} (rho = "
            f"0.1); {sink[always]:.2f} and {shared[always]:.2f} where the sinks are always active",
            bool(sink[rare] > 2 * shared[rare] and sink[always] < 1.2 * shared[always]),
        ),
        Claim(
            "the sinks' lower bound holds with eps_mem, the smallest similarity to others",
            "Theorem H.3, (2)",
            f"logit {logit:.4f}, bound {printed:.4f}; {lower:.4f} with the largest similarity",
            bool(logit >= printed),
            "the most similar sequence lowers the logit most, so the bound needs the largest value",
        ),
        Claim(
            "the condition is sufficient but not necessary: memory also accumulates without it",
            "ours",
            f"lr = {FAST}: threshold {threshold:.3f}, but sinks lead up to "
            f"rho = {max(leads, default=None)}",
            bool(threshold < 0 and 0.5 in leads),
        ),
    ]


def claims_on_entanglement(result: Theory) -> list[Claim]:
    """Return Theorem D.3, and what it depends on."""
    noisy = dict(zip(ONCE_SEEN, result.mean(lambda s: s.noisy).tolist(), strict=True))
    clean = result.mean(lambda s: s.clean[ONCE_SEEN.index(8)])
    return [
        Claim(
            "the smallest update that stores a sequence also uses features of other sequences",
            "Theorem D.3",
            f"semantic fraction {noisy[0]:.0%} alone, {noisy[8]:.0%} with 8 others",
            noisy[8] > 0.05,
        ),
        Claim(
            "the more other sequences there are, the less it uses their features: entanglement can "
            "be preferred, but need not be",
            "ours; the theorem assumes that an entangled solution exists",
            f"{noisy[16]:.0%}, {noisy[64]:.1%}, {noisy[256]:.1%} with 16, 64, 256 others; "
            f"{clean:.0%} with 8 that have no noise",
            noisy[16] > noisy[64] > noisy[256] and noisy[256] < 0.01 and bool(clean < 0.001),
        ),
    ]


def tabulate(result: Theory) -> str:
    """Return three tables: co-adaptation, the one-layer model, entanglement."""

    def rows(first: Iterable[str], *get: Callable[[Simulated], Any]) -> list[list[str]]:
        """Return a row for each of the first cells: estimates of each number."""
        columns = [map(estimate, result.values(one).T) for one in get]
        return [list(row) for row in zip(first, *columns, strict=True)]

    coadaptation = rows(
        [f"{n:,}" for n in AFTER],
        lambda s: np.take(s.coadaptation.distance, AFTER),
        lambda s: np.take(s.coadaptation.bound, AFTER),
    )
    coadaptation.append(["limit", estimate(result.values(lambda s: s.coadaptation.limit)), ""])
    rhos = [number(rho, 1) for rho in RHOS]
    logits = rows(rhos, lambda s: s.fast.shared, lambda s: s.fast.sink)
    fractions = rows(map(str, ONCE_SEEN), lambda s: s.noisy, lambda s: s.clean)
    tables = [
        (
            ["steps with the memory", "distance from a model without it", "bound of F.1"],
            coadaptation,
        ),
        (["rho", "logit from shared neurons", "from sinks"], logits),
        (["once-seen sequences", "semantic fraction", "without noise"], fractions),
    ]
    return "\n\n".join(table(header, body) for header, body in tables)


def draw(result: Theory, folder: Path) -> list[Path]:
    """Draw four panels, of seed 0."""
    seed = result.seeds[0]
    with plots.style():
        grid = {"wspace": 0.75, "hspace": 0.5}
        fig, axes = plots.subplots(2, 2, figsize=(12.5, 8.4), gridspec_kw=grid)
        draw_coadaptation(axes[0, 0], seed.coadaptation)
        draw_trace(axes[0, 1], seed.trace)
        draw_threshold(axes[1, 0], t.COUNTEREXAMPLE)
        draw_entanglement(axes[1, 1], seed)
        return plots.save(fig, folder, "theory")


def draw_coadaptation(ax: Any, run: Coadaptation) -> None:
    """Draw the distance between its limit and its bound."""
    n = np.arange(1, len(run.distance))
    title, ylabel = "Co-adaptation: how far does it go?", "distance from a model without it"
    plots.frame(ax, title, ylabel, "steps with the memory")
    ax.set(xscale="log", ylim=(0, 1))
    lines = [
        (n, run.distance[1:], "distance", "gradient_masking", "-"),
        (n, np.full(len(n), run.limit), "$||W_{mem}\\,x||$", "retrained", ":"),
        (n, run.bound[1:], "bound of\nTheorem F.1", "retrained", "-"),
    ]
    plots.labelled_lines(ax, lines)


def draw_trace(ax: Any, trace: Trace) -> None:
    """Draw what sinks and shared neurons remember, step by step."""
    title, steps = "Learning and forgetting: what lasts?", range(len(trace.sink))
    plots.frame(ax, title, "logit of the right word", "training step")
    lines = [
        (steps, trace.sink, "sinks, active for\n10 % of others", "sinks", "-"),
        (steps, trace.shared, "shared neurons", "standard", "-"),
    ]
    plots.labelled_lines(ax, lines)


def draw_threshold(ax: Any, b: t.Bounds) -> None:
    """Draw both bounds, and where they cross."""
    rho = np.linspace(0.4, 0.55, 50)
    title, xlabel = "Where do the bounds separate?", "rho: fraction of others with active sinks"
    plots.frame(ax, title, "bound on the logit, per lr", xlabel)
    thresholds = (b.threshold(), "ours", "right"), (b.printed_threshold(), "paper", "left")
    for at, text, side in thresholds:
        ax.axvline(at, color="#444444", linestyle=":", linewidth=1.3)
        place = {"xycoords": ax.get_xaxis_transform(), "ha": side, "fontsize": 11}
        ax.annotate(f" {text} {at:.4f} ", (at, 0.97), **place)
    ax.set_xticks([0.4, 0.45, 0.5, 0.55])
    shared = np.full(len(rho), b.shared_upper())
    lines = [
        (rho, shared, "shared neurons,\nat most", "standard", "-"),
        (rho, b.sink_lower(rho), "sinks, at least", "sinks", "-"),
    ]
    plots.labelled_lines(ax, lines)


def draw_entanglement(ax: Any, seed: Simulated) -> None:
    """Draw the semantic fraction against the number of other sequences."""
    title, ylabel = "Entanglement: is it always there?", "semantic fraction of the update"
    plots.frame(ax, title, ylabel, "once-seen sequences")
    ax.set_xscale("symlog", linthresh=1)
    ticks = [0, 1, 4, 16, 64, 256]
    ax.set_xticks(ticks, map(str, ticks))
    ax.set_ylim(0, 0.6)
    lines = [
        (ONCE_SEEN, seed.noisy, "each with its\nown noise", "standard", "-o"),
        (ONCE_SEEN, seed.clean, "without noise", "retrained", "-o"),
    ]
    plots.labelled_lines(ax, lines)
