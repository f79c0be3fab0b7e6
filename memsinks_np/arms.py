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


def headline_arms(preset: Preset) -> list[Arm]:
    """The six rivals, at matched data, order, seed and steps.

    gradient_masking       paper, section 4: g=0.7 of the width is shared, the rest is trained by repeats alone
    memsinks_paper         paper, section 5: g=0.7, Bernoulli sinks with p=0.3
    """
    width = preset.width
    n_shared = round(0.7 * width)
    pool = width - n_shared
    return [
        Arm(name="standard", n_shared=width),
        Arm(name="retrained_without", n_shared=width, repeats=False),
        Arm(
            name="gradient_masking",
            n_shared=n_shared,
            sinks=SinkConfig(n_sink=pool, n_active=pool),
            routed=True,
        ),
        Arm(name="memsinks", n_shared=preset.n_shared, sinks=preset.sinks),
        Arm(
            name="memsinks_paper",
            n_shared=n_shared,
            sinks=SinkConfig(n_sink=pool, n_active=pool, scheme="bernoulli", p=0.3),
        ),
        Arm(name="untied", n_shared=preset.n_shared, sinks=preset.sinks, tied_ids=False),
    ]


def jobs_of(preset: Preset, seed: int) -> list[Job]:
    """The headline's arms under one seed, which chooses the data, the initial weights and the sinks."""
    s = preset.settings
    s = replace(s, data=replace(s.data, seed=seed), train=replace(s.train, seed=seed))
    arms = headline_arms(preset)
    return [Job(replace(a, sinks=a.sinks and replace(a.sinks, seed=seed)), s) for a in arms]
