"""FSDP2 (Zhao et al. 2023, arXiv:2304.11277): each process keeps a shard of every weight.

The stage itself is the outermost FSDP module and its training step is the forward, so that it may use any module of its model.
Frozen weights stay replicated, and so do the codebooks, which are updated in place.
"""

from collections.abc import Iterable
from typing import cast

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method


def shard(stage: nn.Module, blocks: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """In place: a block gathers its weights for its own forward and backward, the stage the remaining ones for a whole step."""
    frozen = {parameter for parameter in stage.parameters() if not parameter.requires_grad}
    for block in blocks:
        if any(parameter.requires_grad for parameter in block.parameters()):
            fully_shard(block, mesh=mesh, ignored_params=frozen)
    fully_shard(stage, mesh=mesh, ignored_params=frozen, reshard_after_forward=False)
    register_fsdp_forward_method(stage, "training_step")


def fsdp_modules(stage: nn.Module) -> list[FSDPModule]:
    """The FSDP modules, the stage included; empty if nothing is sharded."""
    return [cast("FSDPModule", module) for module in stage.modules() if isinstance(module, FSDPModule)]


def unshard(stage: nn.Module) -> None:
    """Gather all weights and keep them, so that each process can run as many batches as it has."""
    for module in fsdp_modules(stage):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def reshard(stage: nn.Module) -> None:
    """Free the gathered weights again.

    FSDP2 records the order of forwards, to prefetch in the backward pass, and clears the record only there. After a validation
    it differs where a process had no batch: one process would prefetch, the other not, and both would wait forever.
    """
    for module in fsdp_modules(stage):
        group = module._get_fsdp_state()._fsdp_param_group
        if group is not None:
            group.comm_ctx.post_forward_order.clear()
            group._post_forward_indices.clear()
        module.set_reshard_after_forward(module is not stage, recurse=False)
        module.reshard()
