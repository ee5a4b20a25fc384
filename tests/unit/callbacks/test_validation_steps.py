"""The interval of validations counts optimizer steps, also where an epoch ends in a short one."""

import pytest
from lightning import Callback

from callbacks.validation_steps import count_in_steps


class Seen(Callback):
    def __init__(self):
        self.steps, self.half = [], []

    def on_validation_start(self, trainer, pl_module):
        self.steps.append(trainer.global_step)
        self.half.append(trainer.fit_loop.epoch_loop._should_accumulate())


@pytest.mark.parametrize(
    ("accumulate", "every", "steps"),
    [
        (1, None, [3, 6, 9, 12]),
        (2, None, [3, 6, 9]),  # three steps an epoch of six batches
        (4, None, [3, 6]),  # two steps an epoch: of four batches and of two
        (4, 1, [2, 4, 6]),  # of each epoch's steps every second one
    ],
)
def test_it_counts_steps(toy, accumulate, every, steps):
    seen = Seen()
    stage, data, trainer = toy(
        seen, accumulate_grad_batches=accumulate, check_val_every_n_epoch=every, val_check_interval=2 if every else 3,
        limit_val_batches=1, max_epochs=3 if accumulate > 1 else 2,
    )  # fmt: skip
    count_in_steps(trainer)
    trainer.fit(stage, datamodule=data)
    assert seen.steps == steps and not any(seen.half)
