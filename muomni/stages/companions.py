"""What helps a stage without being a part of it (a judge, a frozen speaker): no modules of the stage, so that they are neither
trained nor saved nor shared, but on its device whenever it computes."""

from collections.abc import Sequence
from typing import Protocol

import torch
from lightning import LightningModule


class Companion(Protocol):
    """Anything that can be moved."""

    def to(self, device: torch.device) -> object:
        """Move to a device, in place."""
        ...


class Accompanied(LightningModule):
    """Moves `companions` to the stage's device before it trains, validates or tests."""

    def companions(self) -> Sequence[Companion | None]:
        """What is moved along; None are passed over."""
        return ()

    def gather_companions(self) -> None:
        """To where the stage is."""
        for companion in self.companions():
            if companion is not None and hasattr(companion, "to"):  # a judge that is a function lies nowhere
                companion.to(self.device)

    def on_fit_start(self) -> None:
        """Training begins."""
        self.gather_companions()

    def on_validation_start(self) -> None:
        """A validation begins, perhaps without a training."""
        self.gather_companions()

    def on_test_start(self) -> None:
        """A test begins; after a training the stage has been on the CPU in between."""
        self.gather_companions()
