"""Sharing a model among processes (FSDP2, Zhao et al. 2023, arXiv:2304.11277): each keeps a part of every weight.

The stage itself is the outermost unit and its training step its forward: so it reads any part of its model as if it were
whole. What is not trained stays whole in every process, the codebooks too, which are moved in place.
"""

from collections.abc import Iterable
from typing import cast

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method


def shard(stage: nn.Module, blocks: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """In place: every block gathers its weights when it is read, the stage the rest of them for a whole step."""
    frozen = {parameter for parameter in stage.parameters() if not parameter.requires_grad}
    for block in blocks:
        if any(parameter.requires_grad for parameter in block.parameters()):
            fully_shard(block, mesh=mesh, ignored_params=frozen)
    fully_shard(stage, mesh=mesh, ignored_params=frozen, reshard_after_forward=False)
    register_fsdp_forward_method(stage, "training_step")


def units(stage: nn.Module) -> list[FSDPModule]:
    """The modules that gather their weights, the stage included; none where nothing is shared."""
    return [cast("FSDPModule", module) for module in stage.modules() if isinstance(module, FSDPModule)]


def make_whole(stage: nn.Module) -> None:
    """Gather all weights, and keep them: each process can then read as many batches as it has."""
    for unit in units(stage):
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()


def share_again(stage: nn.Module) -> None:
    """Back to a part of every weight.

    FSDP2 remembers which unit read after which, to gather ahead in a backward pass, and forgets it only there. What it saw in
    a validation differs where a process had no batch of it: then one gathers ahead, the other does not, and both wait for ever.
    """
    for unit in units(stage):
        group = unit._get_fsdp_state()._fsdp_param_group
        if group is not None:
            group.comm_ctx.post_forward_order.clear()
            group._post_forward_indices.clear()
        unit.set_reshard_after_forward(unit is not stage, recurse=False)
        unit.reshard()
