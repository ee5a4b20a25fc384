"""Architectures: nn.Modules, tensors in, one dataclass out."""
