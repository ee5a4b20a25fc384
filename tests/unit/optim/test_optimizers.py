"""Optimizers under Lightning's mixed precisions."""

import lightning
import pytest
import torch
from torch import nn

from muomni.optim.groups import parameter_groups
from muomni.optim.optimizers import adamw, muon


class Line(lightning.LightningModule):
    """A linear layer that learns from noise, and keeps the gradient norm that the optimizer met."""

    def __init__(self, make):
        super().__init__()
        self.layer, self.make, self.norms = nn.Linear(4, 4), make, []

    def training_step(self, batch, index):
        return 1000 * self.layer(batch).square().mean()

    def on_before_zero_grad(self, optimizer):
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        if gradients:
            self.norms.append(torch.stack([g.norm() for g in gradients]).norm().item())

    def configure_optimizers(self):
        return self.make(parameter_groups([("line", self.layer, 1.0)], weight_decay=0.1))

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4)


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: adamw(groups, lr=1e-3, betas=(0.9, 0.98)),
        lambda groups: muon(groups, lr=1e-3, betas=(0.9, 0.98), momentum=0.95, adam_ratio=0.5),
    ],
    ids=["adamw", "muon"],
)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_under_every_precision(make, precision, tmp_path):
    """Lightning refused to clip for a fused AdamW under bf16-mixed."""
    torch.manual_seed(0)
    line = Line(make)
    trainer = lightning.Trainer(
        accelerator="cpu", precision=precision, gradient_clip_val=1.0, max_steps=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(line)
    assert line.norms and all(norm == pytest.approx(1.0, abs=1e-3) for norm in line.norms)
