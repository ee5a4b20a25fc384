"""A linear probe: what a linear map can read out of frozen features (Alain & Bengio 2016, arXiv:1610.01644).

Legend: N examples, D features, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class LinearProbe:
    """Ridge regression onto one-hot classes, of standardised features: closed form, no tuning.

    Args:
        features: (N, D). labels: N names. ridge: weight of the penalty.
    """

    def __init__(self, features: Tensor, labels: Sequence[str], *, ridge: float) -> None:
        self.classes = sorted(set(labels))
        self.mean, self.std = features.mean(dim=0), features.std(dim=0) + 1e-5
        x = self._standardise(features)
        wanted = torch.tensor([self.classes.index(label) for label in labels], device=x.device)
        y = torch.nn.functional.one_hot(wanted, len(self.classes)).to(x.dtype)
        gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self.weight = torch.linalg.solve(gram, x.T @ y)

    def _standardise(self, features: Tensor) -> Tensor:
        x = (features - self.mean) / self.std
        return torch.cat((x, x.new_ones(len(x), 1)), dim=1).double()

    def accuracy(self, features: Tensor, labels: Sequence[str]) -> float:
        """Percent right of features (N, D)."""
        guesses = (self._standardise(features) @ self.weight).argmax(dim=1).tolist()
        right = sum(self.classes[guess] == label for guess, label in zip(guesses, labels, strict=True))
        return 100 * right / len(labels)
