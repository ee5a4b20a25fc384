"""Frequencies of rotary positions for texts that are longer than those of the training.

Named and written as in a Hugging Face config.json, whose numbers they repeat (tests/unit/nn/test_rope.py).

Legend: K head width.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Scaling = Mapping[str, Any]
ORIGINAL = "original_max_position_embeddings"  # tokens of the training


def scaled_frequencies(frequency: Tensor, scaling: Scaling, *, theta: float) -> tuple[Tensor, float]:
    """Frequencies (K/2) of plain rotary positions -> those of a table {rope_type: llama3 | yarn, factor: .., ...}, and the factor
    of cos and sin. Raises ValueError naming what is unknown or missing in the table."""
    kind = scaling.get("rope_type")
    if kind not in VARIANTS:
        raise ValueError(
            f"rope_scaling: unknown rope_type {kind!r}; known: {', '.join(VARIANTS)}, or a number (linear)"
        )
    compute, needed, optional = VARIANTS[kind]
    for key in scaling:
        if key not in (*needed, *optional, "rope_type"):
            raise ValueError(f"rope_scaling: {kind} has no {key!r}; it has {', '.join((*needed, *optional))}")
    for key in needed:
        if key not in scaling:
            raise ValueError(f"rope_scaling: {kind} needs {key!r}")
    for key, value in scaling.items():
        if key not in ("rope_type", "truncate") and not (isinstance(value, int | float) and value > 0):
            raise ValueError(f"rope_scaling: {key}={value!r}: a number above 0 is needed")
    return compute(frequency, scaling, theta)


def _llama3(frequency: Tensor, scaling: Scaling, theta: float) -> tuple[Tensor, float]:
    """Llama 3.1 (Grattafiori et al. 2024, arXiv:2407.21783): long waves are stretched by `factor`, short ones stay, those between
    are interpolated."""
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    if low >= high:
        raise ValueError(f"rope_scaling: low_freq_factor={low} must be below high_freq_factor={high}")
    turns = scaling[ORIGINAL] / (2 * math.pi / frequency)  # in the texts of the training
    smooth = (turns - low) / (high - low)
    between = (1 - smooth) * frequency / factor + smooth * frequency
    return torch.where(turns < low, frequency / factor, torch.where(turns > high, frequency, between)), 1.0


def _yarn(frequency: Tensor, scaling: Scaling, theta: float) -> tuple[Tensor, float]:
    """YaRN (Peng et al. 2023, arXiv:2309.00071): interpolation by dimension, and attention's temperature by cos and sin."""
    factor, half = scaling["factor"], frequency.shape[0]

    def dimension(turns: float) -> float:
        return half * math.log(scaling[ORIGINAL] / (turns * 2 * math.pi)) / math.log(theta)

    low, high = dimension(scaling.get("beta_fast", 32)), dimension(scaling.get("beta_slow", 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    steps = torch.arange(half, dtype=torch.float32, device=frequency.device)
    ramp = ((steps - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequency / factor * ramp + frequency * (1 - ramp), _yarn_magnitude(scaling)


def _yarn_magnitude(scaling: Scaling) -> float:
    if "attention_factor" in scaling:
        return float(scaling["attention_factor"])

    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(scaling["factor"]) + 1 if scaling["factor"] > 1 else 1.0

    if "mscale" in scaling and "mscale_all_dim" in scaling:
        return magnitude(scaling["mscale"]) / magnitude(scaling["mscale_all_dim"])
    return magnitude(1.0)


#: rope_type -> its function, and the keys that it needs and may have.
VARIANTS: dict[str, tuple[Callable[[Tensor, Scaling, float], tuple[Tensor, float]], tuple[str, ...], tuple[str, ...]]] = {
    "llama3": (_llama3, ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL), ()),
    "yarn": (
        _yarn, ("factor", ORIGINAL),
        ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate"),
    ),
}  # fmt: skip
