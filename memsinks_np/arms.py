"""What is compared: the headline's arms, and the presets of everything that they share."""

from dataclasses import replace
from typing import NamedTuple

from memsinks_np.config import Arm, DataConfig, Settings, SinkConfig, TrainConfig
from memsinks_np.grid import Job


class Preset(NamedTuple):
    """A kind of comparison: the settings, and the widths of its arms."""

    settings: Settings
    width: int  # MLP neurons of the arms without a pool
    n_shared: int  # G of the memorization sinks
    sinks: SinkConfig


PRESETS = {
    "stories": Preset(
        settings=Settings(data=DataConfig(), train=TrainConfig()),
        width=256,
        n_shared=128,
        sinks=SinkConfig(n_sink=2048, n_active=32),
    ),
    "text": Preset(
        settings=Settings(data=DataConfig(corpus="pydoc", n_ctx=64), train=TrainConfig(steps=2500), d_model=96),
        width=256,
        n_shared=224,
        sinks=SinkConfig(n_sink=4096, n_active=128),
    ),
}


def quick(preset: Preset, steps: int = 40) -> Preset:
    """Small and short: shows that everything works, not what it finds."""
    s = preset.settings
    data = replace(s.data, n_repeated=8, n_heldout=16)
    return preset._replace(
        settings=replace(s, data=data, train=replace(s.train, steps=steps, warmup=10, eval_every=10))
    )


HEADLINE = ("standard", "retrained_without", "gradient_masking", "memsinks", "memsinks_paper", "untied")


def rivals(preset: Preset) -> dict[str, Arm]:
    """Every arm by its name, at matched data, order, seed and steps.

    standard               all of the width, all of the data
    retrained_without      never sees the repeated sequences: the gold reference of any removal
    gradient_masking       paper, section 4: 0.7 of the width is shared (tuned there), repeats alone train the rest
    memsinks               our sinks: sparse, a fixed number on per sequence
    memsinks_paper         paper, section 5: g=0.7, Bernoulli sinks with p=0.3
    untied                 control: as many sinks, drawn anew at every occurrence
    disjoint               every ID a slice of the pool of its own, until the slices are used up
    sgtm, sgtm_half        selective gradient masking, with labels for all, for half of the sequences
    narrow                 control: only the shared width of memsinks, no pool
    dropout                control: as dense as memsinks, but all neurons save one are drawn anew at every occurrence;
                           evaluated with all on, scaled: ordinary dropout, one draw a sequence

    An arm of your own: a line here, its name in HEADLINE for the table, and for the figure a line in GONE or KEPT of
    experiments/headline.py and a colour in plots.COLORS.
    """
    width, G, pool = preset.width, preset.n_shared, preset.sinks
    g = round(0.7 * width)
    reserved = SinkConfig(n_sink=width - g, n_active=width - g)
    on = G + pool.n_active
    as_dense = SinkConfig(n_sink=on * round((G + pool.n_sink) / on), n_active=on)
    arms = [
        Arm(name="standard", n_shared=width),
        Arm(name="retrained_without", n_shared=width, repeats=False),
        Arm(name="gradient_masking", n_shared=g, sinks=reserved, routing="gradient_masking"),
        Arm(name="memsinks", n_shared=G, sinks=pool),
        Arm(name="memsinks_paper", n_shared=g, sinks=SinkConfig(n_sink=width - g, scheme="bernoulli", p=0.3)),
        Arm(name="untied", n_shared=G, sinks=pool, tied_ids=False),
        Arm(name="disjoint", n_shared=G, sinks=replace(pool, scheme="disjoint")),
        Arm(name="sgtm", n_shared=g, sinks=reserved, routing="sgtm"),
        Arm(name="sgtm_half", n_shared=g, sinks=reserved, routing="sgtm", labelled=0.5),
        Arm(name="narrow", n_shared=G),
        Arm(name="dropout", n_shared=1, sinks=as_dense, tied_ids=False),
    ]
    return {arm.name: arm for arm in arms}


def seeded(preset: Preset, arm: Arm, seed: int) -> Job:
    """An arm under one seed, which chooses the data, the initial weights and the sinks."""
    s = preset.settings
    s = replace(s, data=replace(s.data, seed=seed), train=replace(s.train, seed=seed))
    return Job(replace(arm, sinks=arm.sinks and replace(arm.sinks, seed=seed)), s)


def jobs_of(preset: Preset, seed: int) -> list[Job]:
    """The headline's arms under one seed."""
    arms = rivals(preset)
    return [seeded(preset, arms[name], seed) for name in HEADLINE]
