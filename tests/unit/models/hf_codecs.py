"""Codecs of transformers' own classes, as small as they come, with random weights and codebooks."""

from typing import Any

import torch
from torch import nn

CONFIGS: dict[str, dict[str, Any]] = {
    "mimi": {
        "hidden_size": 32, "num_filters": 4, "upsampling_ratios": [4, 2], "codebook_size": 32, "codebook_dim": 16,
        "num_quantizers": 4, "vector_quantization_hidden_dimension": 16, "num_hidden_layers": 2, "intermediate_size": 48,
        "num_attention_heads": 2, "num_key_value_heads": 2, "upsample_groups": 32, "sliding_window": 8, "sampling_rate": 1600,
        "layer_scale_initial_scale": 1.0,
    },
    "encodec": {
        "hidden_size": 16, "num_filters": 4, "upsampling_ratios": [4, 2], "codebook_size": 32, "target_bandwidths": [2.0, 4.0],
        "sampling_rate": 1600,
    },
    "dac": {
        "encoder_hidden_size": 4, "downsampling_ratios": [2, 5], "decoder_hidden_size": 32, "n_codebooks": 4,
        "codebook_size": 32, "codebook_dim": 4, "sampling_rate": 1600,
    },
}  # fmt: skip


def random_codec(model_type: str, **changes: Any) -> Any:
    """transformers' model of `CONFIGS[model_type]`, in eval mode."""
    import transformers

    name = {"mimi": "Mimi", "encodec": "Encodec", "dac": "Dac"}[model_type]
    config = getattr(transformers, f"{name}Config")(**(CONFIGS[model_type] | changes))
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(config).eval()
    for key, buffer in model.named_buffers():
        if key.endswith((".embed", ".embed_sum")):  # codebooks of zeros would hide everything else
            buffer.normal_()
    for key, parameter in model.named_parameters():
        if "alpha" in key:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif key.endswith("weight.original0"):  # of a weight norm
            nn.init.constant_(parameter, 1.5)
        elif "bias" in key:
            nn.init.normal_(parameter, std=0.1)
        elif model_type == "dac" and parameter.dim() > 1:
            nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
    return model
