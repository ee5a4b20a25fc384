"""Batches are pinned and copied without waiting, every tensor of them; optimizers run fused."""

from dataclasses import fields, is_dataclass

import pytest
import torch
from torch import Tensor, nn

from muomni.optim import optimizers
from tests.device.fake_cuda import CUDA, fake_cuda
from tests.device.stages import STAGES, build, folder  # noqa: F401


def tensors_of(value):
    """Of a batch, its mask and its runs."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from tensors_of(getattr(value, each.name, None))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_of(each)


@pytest.mark.parametrize(
    "name", [name for name in STAGES if name not in ("codec", "talker")]
)  # whose batches are audio's
def test_every_tensor_of_a_batch_is_pinned_and_copied_without_waiting(name, folder, monkeypatch):  # noqa: F811
    _, _, make = build(folder, name)
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(self.clone()) or pinned[-1])
    batch = make(True).pin_memory()
    found = list(tensors_of(batch))
    assert found
    assert {id(each) for each in found} <= {id(each) for each in pinned}
    with fake_cuda() as gpu:
        moved = list(tensors_of(batch.to(CUDA)))
        assert {each.device for each in moved} == {CUDA}
        assert gpu.counted() == {}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_adamw_is_one_kernel(name):
    layer = nn.Linear(4, 4)
    groups = [
        {
            "params": [layer.weight],
            "weight_decay": 0.0,
            "name": "m/matrices",
            "matrices": True,
            "stacked": False,
            "lr_scale": 1.0,
        },
        {
            "params": [layer.bias],
            "weight_decay": 0.0,
            "name": "m/vectors",
            "matrices": False,
            "stacked": False,
            "lr_scale": 1.0,
        },
    ]
    more = {"momentum": 0.9, "adam_ratio": 1.0} if name == "muon" else {}
    optimizer = getattr(optimizers, name)(groups, lr=1e-3, betas=(0.9, 0.98), **more)
    inner = optimizer._adamw if name == "muon" else optimizer
    assert all(group["fused"] for group in inner.param_groups)
    assert torch.optim.AdamW in type(inner).__mro__
