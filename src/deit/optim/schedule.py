"""The learning rate as a pure function of the step."""

import math

from deit.optim.config import ScheduleConfig


def learning_rate(
    step: int, *, peak_lr: float, config: ScheduleConfig, steps_per_epoch: int, epochs: int
) -> float:
    """Learning rate of step ``step``, counted from 0.

    Smooth (the default), with t = step / steps_per_epoch, w = warmup_epochs, E = epochs::

        t < w:  warmup_lr + (peak_lr - warmup_lr) * t / w
        else:   min_lr + (peak_lr - min_lr) * (1 + cos(pi * (t - w) / (E - w))) / 2

    With ``shape = "constant"`` the second line is ``peak_lr``.

    ``per_epoch`` gives the values that the reference code executes (timm's `CosineLRScheduler`
    stepped after each epoch): with t = max(epoch - 1, 0), the same warm-up, and a cosine over all E
    epochs, (1 + cos(pi * t / E)) / 2, which the warm-up hides at first. Its first two epochs both
    run at `warmup_lr`, and its peak is slightly below `peak_lr`. Decision record 0007.

    >>> config = ScheduleConfig(warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5, per_epoch=True)
    >>> [round(learning_rate(1251 * epoch, peak_lr=1e-3, config=config, steps_per_epoch=1251,
    ...     epochs=300), 7) for epoch in range(4)]
    [1e-06, 1e-06, 0.0002008, 0.0004006]
    """
    if config.per_epoch:
        time, begin = float(max(step // steps_per_epoch - 1, 0)), 0.0
    else:
        time, begin = step / steps_per_epoch, config.warmup_epochs
    if time < config.warmup_epochs:
        return config.warmup_lr + (peak_lr - config.warmup_lr) * time / config.warmup_epochs
    if config.shape == "constant":
        return peak_lr
    progress = min((time - begin) / max(epochs - begin, 1e-12), 1.0)
    return config.min_lr + (peak_lr - config.min_lr) * (1 + math.cos(math.pi * progress)) / 2
