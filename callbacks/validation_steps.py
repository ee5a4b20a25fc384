"""`trainer.val_check_interval` counts optimizer steps, as the configuration says; Lightning counts batches, which are several a
step where gradients are accumulated, and may be fewer in the last step of an epoch."""

from typing import Any

from lightning import Trainer


def count_in_steps(trainer: Trainer) -> None:
    """Adapt the trainer in place, before training, so that a validation and its checkpoint never fall within a step."""
    interval = trainer.val_check_interval
    if trainer.accumulate_grad_batches == 1 or not isinstance(interval, int):
        return
    loop = trainer.fit_loop.epoch_loop

    def due(fetcher: Any) -> bool:
        if not loop._should_check_val_epoch() or loop._should_accumulate():
            return False
        steps = trainer.global_step
        if trainer.check_val_every_n_epoch is not None:  # then it counts those of the epoch
            steps = -(-loop.batch_progress.current.ready // trainer.accumulate_grad_batches)
        return steps % interval == 0

    loop._should_check_val_fx = due  # type: ignore[method-assign, assignment]
