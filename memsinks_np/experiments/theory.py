"""The paper's three formal results, simulated: what holds, and where it stops (App. D, F, H)."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memsinks_np._internal.ids import integers
from memsinks_np._internal.tables import number, table
from memsinks_np.experiments import simulations as t
from memsinks_np.experiments.registry import Context, Jobs, Outputs
from memsinks_np.experiments.report import plots
from memsinks_np.experiments.report.claims import Claim, estimate

D, LR, STEPS = 12, 0.05, 3000  # co-adaptation
AFTER = [1, 10, 20, 50, 100, 300, 1000, 3000]
N_STEPS, PERIOD, WIDTH, N_WORDS = 1000, 40, 16, 50  # accumulation: k = 25 of 1,000 steps
RHOS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
RARE, ALWAYS = RHOS.index(0.1), RHOS.index(1.0)
SLOW, FAST = 0.001, 0.3  # learning rates
SEMANTIC, ONCE_SEEN, DRAWS = 8, (0, 1, 2, 4, 8, 16, 32, 64, 128, 256), 40  # entanglement

Numbers = dict[str, Any]
Theory = dict[str, list[Any]]  # each of the numbers of `simulate`, seed by seed


def jobs(context: Context) -> Jobs:
    """Return no jobs: nothing is trained, and the preset does not matter."""
    return {}


def result(context: Context, outputs: Outputs) -> Theory:
    """Run the simulations under every seed."""
    draws = 4 if context.quick else DRAWS
    runs = [simulate(seed, draws) for seed in range(context.seeds)]
    return {name: [np.asarray(run[name]).tolist() for run in runs] for name in runs[0]}


def simulate(seed: int, draws: int) -> Numbers:
    """Run the three simulations under one seed.

    distance       from a model that never had the memory, after steps 0 to STEPS
    limit          of the distance
    bound          on the distance (Theorem F.1)
    shared, sink   the two parts of the right word's logit at the end, for each of RHOS
    trace          both parts, step by step, where rho = 0.1
    threshold      of rho, by the bounds of Theorem H.3, in that run
    slow           the sinks' part where rho = 1 and the learning rate is small
    lower          bounds on it, with the smallest product of activations (paper) and the largest
    noisy, clean   semantic fraction for each of ONCE_SEEN, with noise of their own or without
    """
    noisy, clean = ([entangle(seed, draws, n, noise) for n in ONCE_SEEN] for noise in (1.0, 0.0))
    return coadapt(seed) | accumulate(seed) | {"noisy": noisy, "clean": clean}


def coadapt(seed: int) -> Numbers:
    """Simulate co-adaptation to a memory of norm 1."""
    data, labels = t.positive(STEPS, D, seed, 0), t.anywhere(STEPS, D, seed, 1)
    s_mem, x = t.positive(2, D, seed, 2)
    W_mem = np.outer(t.anywhere(1, D, seed, 3)[0], s_mem)
    inputs = np.vstack([data, s_mem, x])
    return {
        "distance": t.coadaptation(W_mem, data, labels, x, LR),
        "limit": np.linalg.norm(W_mem @ x),
        "bound": t.coadaptation_bound(integers(STEPS + 1), LR, (inputs @ inputs.T).min()),
    }


def accumulate(seed: int) -> Numbers:
    """Train the one-layer model: fast for each of RHOS, and slowly with sinks always active."""
    run = partial(t.accumulation, steps=N_STEPS, period=PERIOD, n_words=N_WORDS, seed=seed)
    fast = [run(rho, lr=FAST, width=WIDTH) for rho in RHOS]
    rare, slow = fast[RARE], run(1.0, lr=SLOW, width=WIDTH)
    lower = [t.Bounds(slow.k, N_STEPS, eps, *slow.c).sink_lower(1.0, SLOW) for eps in slow.eps_sink]
    return {
        "shared": [a.shared[-1] for a in fast],
        "sink": [a.sink[-1] for a in fast],
        "trace": [rare.shared, rare.sink],
        "threshold": t.Bounds(rare.k, N_STEPS, rare.eps_shared, *rare.c).threshold(),
        "slow": slow.sink[-1],
        "lower": lower,
    }


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
    """Return three theorems, sentence by sentence: F.1 and 4.1, H.3, D.3."""
    mean: Numbers = {name: np.mean(values, axis=0).tolist() for name, values in result.items()}
    at, limit, bound = mean["distance"], mean["limit"], mean["bound"]
    b, sink, shared = t.COUNTEREXAMPLE, mean["sink"], mean["shared"]
    lead = np.subtract(result["sink"], result["shared"]).min(axis=0)
    leads = [rho for rho, value in zip(RHOS, lead, strict=True) if value > 0]
    logit, (printed, lower) = mean["slow"], mean["lower"]
    noisy, clean = (dict(zip(ONCE_SEEN, mean[k], strict=True)) for k in ("noisy", "clean"))
    return [
        Claim(
            "general neurons co-adapt: they learn to cancel a memory that they may not learn",
            "Theorem F.1",
            f"distance {at[1]:.3f}, {at[10]:.3f}, {at[100]:.3f} after 1, 10, 100 steps "
            f"(the memory: {limit:.3f})",
            at[1] < at[10] < at[100] and at[100] > 0.9 * limit,
        ),
        Claim(
            "the damage grows in proportion to the number of steps, without end",
            "Theorem 4.1, informal: at least c N",
            f"{at[1000]:.3f} after 1,000 steps, {at[3000]:.3f} after 3,000",
            at[3000] > 2 * at[1000],
            f"it saturates at ||W_mem x|| = {limit:.3f}, where the memory is cancelled; c N is "
            "right for N well below 1/lr",
        ),
        Claim(
            "N lr (1 - lr)^N c^2 bounds the damage from below (for a W_mem of norm 1)",
            "Theorem F.1",
            f"true at every step; largest, {max(bound):.4f}, at N = {np.argmax(bound)}; "
            f"{bound[300]:.0e} at N = 300",
            bool(np.greater_equal(result["distance"], result["bound"]).all()),
        ),
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
            "ours, for equal eps",
            f"at rho = 0.44: {b.sink_lower(0.44):.2f} against {b.shared_upper():.2f}",
            b.sink_lower(0.44) > b.shared_upper(),
        ),
        Claim(
            "memory accumulates in sinks that other sequences rarely activate",
            "App. H",
            f"logit from sinks {sink[RARE]:.2f}, from shared neurons {shared[RARE]:.2f} (rho = "
            f"0.1); {sink[ALWAYS]:.2f} and {shared[ALWAYS]:.2f} where the sinks are always active",
            sink[RARE] > 2 * shared[RARE] and sink[ALWAYS] < 1.2 * shared[ALWAYS],
        ),
        Claim(
            "the sinks' lower bound holds with eps_mem, the smallest similarity to others",
            "Theorem H.3, (2)",
            f"logit {logit:.4f}, bound {printed:.4f}; {lower:.4f} with the largest similarity",
            logit >= printed,
            "the most similar sequence lowers the logit most, so the bound needs the largest value",
        ),
        Claim(
            "the condition is sufficient but not necessary: memory also accumulates without it",
            "ours",
            f"lr = {FAST}: threshold {mean['threshold']:.3f}, but sinks lead up to "
            f"rho = {max(leads, default=None)}",
            mean["threshold"] < 0 and 0.5 in leads,
        ),
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
            f"{clean[8]:.0%} with 8 that have no noise",
            noisy[16] > noisy[64] > noisy[256] < 0.01 and clean[8] < 0.001,
        ),
    ]


def tabulate(result: Theory) -> str:
    """Return three tables: co-adaptation, the one-layer model, entanglement."""

    def rows(first: Iterable[str], *columns: Any) -> list[Sequence[str]]:
        """Return a row for each of the first cells: estimates of numbers, (seeds,rows)."""
        cells = (map(estimate, np.transpose(column)) for column in columns)
        return list(zip(first, *cells, strict=True))

    after = (np.array(result[name])[:, AFTER] for name in ("distance", "bound"))
    tables: list[tuple[list[str], list[Sequence[str]]]] = [
        (
            ["steps with the memory", "distance from a model without it", "bound of F.1"],
            [*rows([f"{n:,}" for n in AFTER], *after), ("limit", estimate(result["limit"]), "")],
        ),
        (
            ["rho", "logit from shared neurons", "from sinks"],
            rows([number(rho, 1) for rho in RHOS], result["shared"], result["sink"]),
        ),
        (
            ["once-seen sequences", "semantic fraction", "without noise"],
            rows(map(str, ONCE_SEEN), result["noisy"], result["clean"]),
        ),
    ]
    return "\n\n".join(table(header, body) for header, body in tables)


def draw(result: Theory, folder: Path) -> list[Path]:
    """Draw four panels, of seed 0."""
    seed: Numbers = {name: values[0] for name, values in result.items()}
    with plots.style():
        fig, axes = plots.subplots(2, 2, figsize=(12.5, 8.4))
        draw_coadaptation(axes[0, 0], seed)
        draw_trace(axes[0, 1], *seed["trace"])
        draw_threshold(axes[1, 0], t.COUNTEREXAMPLE)
        draw_entanglement(axes[1, 1], seed)
        return plots.save(fig, folder, "theory")


def draw_coadaptation(ax: Any, seed: Numbers) -> None:
    """Draw the distance between its limit and its bound."""
    n = range(1, STEPS + 1)
    title, ylabel = "Co-adaptation: how far does it go?", "distance from a model without it"
    plots.frame(ax, title, ylabel, "steps with the memory")
    ax.set(xscale="log", ylim=(0, 1))
    lines = [
        (n, seed["distance"][1:], "distance", "gradient_masking", "-"),
        (n, [seed["limit"]] * STEPS, "$||W_{mem}\\,x||$", "retrained", ":"),
        (n, seed["bound"][1:], "bound of\nTheorem F.1", "retrained", "-"),
    ]
    plots.labelled_lines(ax, lines)


def draw_trace(ax: Any, shared: list[float], sink: list[float]) -> None:
    """Draw what sinks and shared neurons remember, step by step."""
    title, steps = "Learning and forgetting: what lasts?", range(N_STEPS)
    plots.frame(ax, title, "logit of the right word", "training step")
    lines = [
        (steps, sink, "sinks, active for\n10 % of others", "sinks", "-"),
        (steps, shared, "shared neurons", "standard", "-"),
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


def draw_entanglement(ax: Any, seed: Numbers) -> None:
    """Draw the semantic fraction against the number of other sequences."""
    title, ylabel = "Entanglement: is it always there?", "semantic fraction of the update"
    plots.frame(ax, title, ylabel, "once-seen sequences")
    ax.set_xscale("symlog", linthresh=1)
    ticks = [0, 1, 4, 16, 64, 256]
    ax.set_xticks(ticks, map(str, ticks))
    ax.set_ylim(0, 0.6)
    lines = [
        (ONCE_SEEN, seed["noisy"], "each with its\nown noise", "standard", "-o"),
        (ONCE_SEEN, seed["clean"], "without noise", "retrained", "-o"),
    ]
    plots.labelled_lines(ax, lines)
