"""What a stage does in a run of several processes: modules that its share of a batch does not reach, and sharded weights."""

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from muomni.distributed import collectives
from muomni.distributed.fsdp import reshard, shard, unshard
from muomni.nn.transformer import Transformer


class DistributedStage(LightningModule):
    """The base of `Stage`. In a run of one process it does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._used: set[str] = set()

    # --- what a subclass may define -----------------------------------------------------------------------------------

    def optional_modules(self) -> dict[str, nn.Module]:
        """Trained modules that some batches do not reach, as a projector of a modality that they do not hold, by name.
        With several processes each parameter needs a gradient in each of them."""
        return {}

    def used_modules(self, batch: Any) -> set[str]:
        """Which of `optional_modules` a batch reaches."""
        return set()

    def sharded_modules(self) -> list[nn.Module]:
        """Modules that each gather their weights by themselves, when processes share them; every batch must reach them."""
        return self.transformer_blocks()

    # --- what they share -----------------------------------------------------------------------------------------

    def transformer_blocks(self) -> list[nn.Module]:
        """Of all transformers, in their order."""
        return [block for each in self.modules() if isinstance(each, Transformer) for block in each.blocks]

    def configure_model(self) -> None:
        """Share the model among processes, where the trainer's strategy asks for it, while it is trained."""
        if self.device_mesh is not None and self.trainer.state.fn == TrainerFn.FITTING:
            shard(self, self.sharded_modules(), self.device_mesh["data_parallel"])

    def on_validation_start(self) -> None:
        """Processes have different batches: what is shared is made whole."""
        unshard(self)

    def on_validation_end(self) -> None:
        """Go on sharing."""
        self.share()

    def share(self) -> None:
        """Each process keeps its shard of every weight, where processes share them."""
        reshard(self)

    def add_zero_grad_term(self, total: Tensor, batch: Any) -> Tensor:
        """The loss, with a term of zero for what this share of the batch does not reach."""
        modules = self.optional_modules()
        if not modules:
            return total
        used = self.used_modules(batch)
        here = torch.tensor([name in used for name in modules], device=total.device).float()
        somewhere = collectives.all_reduce_sum(here) > 0
        self._used |= {name for name, yes in zip(modules, somewhere.tolist(), strict=True) if yes}
        for name in modules.keys() - used:
            for parameter in modules[name].parameters():
                if parameter.requires_grad:
                    total = total + 0.0 * parameter.sum()
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """What no process reached since the last step has no gradient, as in a run of one: a gradient of zeros would move
        it by its momentum."""
        modules = self.optional_modules()
        if collectives.num_processes() > 1:
            for name in modules.keys() - self._used:
                for parameter in modules[name].parameters():
                    parameter.grad = None
            self._used = set()

    def is_spare(self, split: str) -> bool:
        """Whether this process, one of several, has no share of a held-out split."""
        return collectives.num_processes() > 1 and split in self.trainer.datamodule.spare  # type: ignore[attr-defined]
