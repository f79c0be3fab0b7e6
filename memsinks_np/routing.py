"""Routing: which part of a batch an arm sees, with which sinks, and what each sequence may train."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memsinks_np.config import Arm, ModelConfig
from memsinks_np.data import Sequences
from memsinks_np.ids import mix, uniform
from memsinks_np.sinks import Selection, own

UNTIED, LABEL = 201, 202  # salts of the random sinks in the control arm, and of who carries a label


def seen_by(arm: Arm, batch: Sequences, step: int, seed: int) -> Sequences:
    """The part of a batch that an arm trains on, with the IDs that choose its sinks."""
    tokens, ids, repeated = batch
    if not arm.tied_ids:
        ids = mix(UNTIED, seed, step, np.arange(len(ids))).view(np.int64)
    if not arm.repeats:
        tokens, ids, repeated = tokens[~repeated], ids[~repeated], repeated[~repeated]
    return Sequences(tokens, ids, repeated)


class Part(NamedTuple):
    """Some sequences of a batch, which sinks they use, and what they may not train."""

    tokens: NDArray[np.int64]  # (B,T+1)
    selection: Selection
    share: float  # of the whole batch
    trains: Callable[[str], bool]  # by a parameter's name


def anything(name: str) -> bool:
    return True


def the_sinks(name: str) -> bool:
    return ".sink." in name


def all_but_the_sinks(name: str) -> bool:
    return ".sink." not in name


def all_but_the_shared_mlp(name: str) -> bool:
    return ".mlp." not in name


def parts_of(arm: Arm, cfg: ModelConfig, seen: Sequences) -> list[Part]:
    """A batch in parts, each with its sinks and with the parameters that it may train, by the arm's routing.

    "free"              two halves, everything trains everything: small enough for the processor's cache, and work
                        for two processes
    "gradient_masking"  paper, section 4: repeated sequences train the sinks and all others the shared MLP.  The paper
                        does not say more; here the output bias is shared, and all outside the MLPs learns from both
    "sgtm"              selective gradient masking (arXiv 2512.05648): labelled repeated sequences train the sinks
                        alone; labelled others run without sinks; unlabelled ones run and train everything.  Our
                        simplification: only MLPs have reserved neurons, attention has no reserved heads
    """
    if arm.routing == "gradient_masking":
        cut = [(seen.repeated, True, all_but_the_shared_mlp), (~seen.repeated, True, all_but_the_sinks)]
        parts = [(np.flatnonzero(rows), on, trains) for rows, on, trains in cut]
    elif arm.routing == "sgtm":
        known = uniform(LABEL, seen.ids) < arm.labelled
        cut = [(known & seen.repeated, True, the_sinks), (known & ~seen.repeated, False, all_but_the_sinks)]
        parts = [(np.flatnonzero(rows), on, trains) for rows, on, trains in (*cut, (~known, True, anything))]
    else:
        parts = [(half, True, anything) for half in np.array_split(np.arange(len(seen.ids)), 2)]
    return [
        Part(
            seen.tokens[i],
            own(cfg.sinks if on else None, seen.ids[i], cfg.n_layers),
            len(i) / len(seen.ids),
            trains,
        )
        for i, on, trains in parts
        if len(i)
    ]
