"""Shows what a stage makes of a few held-out samples at every validation, in TensorBoard and W&B: `<stage>/val/<view>`.

Which views there are is the evaluator's to say (`Evaluator.views`): continued texts, images with the rank of their caption,
spectrograms with transcripts whose errors are marked, alignments, use of the codes, spoken sentences. Nothing is computed
where no logger could show it. The generators of random numbers are afterwards as they were before.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks.random_state import read_state, write_state

Panels = dict[str, list[Any]]


def _show_tensorboard(logger: Any, panels: Panels, step: int) -> None:
    for name, views in panels.items():
        for number, view in enumerate(views):
            logger.experiment.add_text(f"{name}/{number}", view.caption, step)
            if view.image is not None:
                logger.experiment.add_image(f"{name}/{number}", view.image, step)
            if view.waveform is not None:
                logger.experiment.add_audio(f"{name}/{number}", view.waveform[None], step, sample_rate=view.sample_rate)


def _show_wandb(logger: Any, panels: Panels, step: int) -> None:
    for name, views in panels.items():
        images = [view for view in views if view.image is not None]
        sounds = [view for view in views if view.waveform is not None]
        if images:
            arrays = [view.image.permute(1, 2, 0).numpy() for view in images]
            logger.log_image(name, arrays, caption=[view.caption for view in images])
        if sounds:
            rates = [view.sample_rate for view in sounds]
            clips = [view.waveform.numpy() for view in sounds]
            logger.log_audio(name, clips, caption=[view.caption for view in sounds], sample_rate=rates)
        if not images and not sounds:
            logger.log_text(name, columns=["step", "text"], data=[[step, view.caption] for view in views])


#: Logger type -> function that shows panels of views.
SHOW: dict[type, Callable[[Any, Panels, int], None]] = {
    TensorBoardLogger: _show_tensorboard,
    WandbLogger: _show_wandb,
}


class Media(Callback):
    """Shows the first rows of the first batch of each validation of a training, on the first process."""

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        showing = [(logger, SHOW[type(logger)]) for logger in trainer.loggers if type(logger) in SHOW]
        if batch_idx or not showing or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        if isinstance(trainer.strategy, ModelParallelStrategy):  # the others would have to compute along
            return
        stage: Any = pl_module
        before = read_state(stage.device)
        with torch.autocast(stage.device.type, enabled=False), torch.no_grad():
            views = stage.evaluator.views(batch)
        write_state(before, stage.device)
        panels: Panels = defaultdict(list)
        for view in views:
            panels[f"{stage.name}/val/{view.name.replace(' ', '_')}"].append(view)
        for logger, show in showing:
            show(logger, panels, trainer.global_step)
