"""A Thinker -> the configuration and the tensors of a class of transformers, with the rows of its tokenizer's own vocabulary.

The class is that of the folder it was imported from, else the first that has all its options (thinker_families.py): a Thinker
with QK-norm is a Qwen3 (Yang et al. 2025, arXiv:2505.09388), one without a Llama, one with a window a Mistral. What no class has
is refused by the name of its option.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from muomni.frontends.vocabulary_map import VocabularyMap
from muomni.interop.hf.thinker import to_hf
from muomni.interop.hf.thinker_families import FAMILIES
from muomni.models.thinker import Thinker

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
LONGEST = ("max_position_embeddings", "n_positions")


@dataclass(frozen=True, slots=True)
class HFThinker:
    """config: of config.json, without what belongs to the tokenizer. tensors: by transformers' names, a tied head left out."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def to_transformers(
    thinker: Thinker, vocabulary: VocabularyMap | None = None, origin: Mapping[str, Any] | None = None
) -> HFThinker:
    """vocabulary: of its tokenizer; None: its rows are ours. origin: the fact `hf` of an imported Thinker.

    Raises ValueError naming the option that no class of transformers has.
    """
    options: dict[str, Any] = vars(thinker)["options"]
    origin = origin or {}
    if options.get("short_conv"):
        raise ValueError(
            f"short_conv={options['short_conv']}: no class of transformers or llama.cpp has this convolution; Thinkers of "
            "size=tiny, small and base leave (short_conv: 0), and one of size=nano that is trained with "
            "backbone.thinker.short_conv=0"
        )
    config, tensors = to_hf(thinker, origin.get("model_type"))
    layers = FAMILIES[config["model_type"]].names.layers
    if vocabulary is not None:
        config["vocab_size"] = vocabulary.rows
        for name in (f"{layers['embedding'][0]}.weight", f"{layers['head'][0]}.weight"):
            if name in tensors:
                tensors[name] = vocabulary.back(tensors[name])
    for key in LONGEST:
        if key in config and "max_position_embeddings" in origin:
            config[key] = origin["max_position_embeddings"]
    tensors, config["torch_dtype"] = _as_it_came(tensors, str(origin.get("dtype")))
    return HFThinker(config, tensors)


def _as_it_came(tensors: dict[str, Tensor], name: str) -> tuple[dict[str, Tensor], str]:
    """In the dtype of the imported folder, if that is lossless: after further training it stays float32."""
    if name not in HALF:
        return tensors, "float32"
    small = {key: value.to(HALF[name]) for key, value in tensors.items()}
    lossless = all(torch.equal(small[key].to(value.dtype), value) for key, value in tensors.items())
    return (small, name) if lossless else (tensors, "float32")
