"""Encoders of transformers as modules of ours: which architectures there are, what of their configuration counts, and how one is
built from it. transformers is imported when the first of them is.

Only classes of `FAMILIES` are built, from the values named there: nothing in a description is looked up as code, and values that
would switch transformers to kernels of a hub are not read. What belongs to a training (LayerDrop, SpecAugment) is off: that is a
stage's to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muomni.models.hf_build import build_config, build_model

MOST_LAYERS = 256
_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_IMAGE = (*_SHAPE, "hidden_act", "layer_norm_eps", "num_channels", "image_size", "patch_size")
_DROPOUTS = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
_WAVEFORM = (
    *_SHAPE, *_DROPOUTS, "hidden_act", "layer_norm_eps", "feat_extract_norm", "feat_extract_activation", "conv_dim",
    "conv_stride", "conv_kernel", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
    "do_stable_layer_norm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """model, config: names of transformers' classes. values: of the configuration that decide what the encoder computes; others
    keep their defaults, but for `fixed`. refused: values that must be off, since they need what is not here."""

    model: str
    config: str
    values: tuple[str, ...]
    fixed: Mapping[str, Any]
    refused: tuple[str, ...] = ()
    module: str = "transformers"  # that has the class of the model


_NO_MASKS = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "apply_spec_augment": False, "layerdrop": 0.0}
IMAGE_FAMILIES = {
    "clip_vision_model": Family("CLIPVisionModel", "CLIPVisionConfig", (*_IMAGE, "attention_dropout"), {}),
    "siglip_vision_model": Family(
        "SiglipVisionModel", "SiglipVisionConfig", (*_IMAGE, "attention_dropout", "vision_use_head"), {}
    ),
    "dinov2": Family(
        "Dinov2Model",
        "Dinov2Config",
        (
            *(name for name in _IMAGE if name != "intermediate_size"),
            "mlp_ratio",
            "qkv_bias",
            "use_swiglu_ffn",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "drop_path_rate",
        ),
        {"use_mask_token": False},
    ),
    "vit": Family(
        "ViTModel", "ViTConfig", (*_IMAGE, "qkv_bias", "hidden_dropout_prob", "attention_probs_dropout_prob"), {}
    ),
}
AUDIO_FAMILIES = {
    "whisper": Family(
        "WhisperEncoder",
        "WhisperConfig",
        (
            *("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins"),
            *("max_source_positions", "activation_function", "scale_embedding"),
            *("dropout", "attention_dropout", "activation_dropout"),
        ),
        {"encoder_layerdrop": 0.0},
        module="transformers.models.whisper.modeling_whisper",
    ),
    "wav2vec2": Family(
        "Wav2Vec2Model", "Wav2Vec2Config", _WAVEFORM, _NO_MASKS, refused=("add_adapter", "adapter_attn_dim")
    ),
    "hubert": Family(
        "HubertModel", "HubertConfig", (*_WAVEFORM, "feat_proj_layer_norm", "conv_pos_batch_norm"), _NO_MASKS
    ),
}
FAMILIES = IMAGE_FAMILIES | AUDIO_FAMILIES
_LAYERS = ("num_hidden_layers", "encoder_layers")


def check_config(model_type: str, config: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown encoder, a value that does not belong to it, or one out of bounds: before anything is
    built of a description that may come from anyone."""
    if model_type not in FAMILIES:
        raise ValueError(f"model_type={model_type!r}; available: {', '.join(FAMILIES)}")
    unknown = sorted(set(config) - set(FAMILIES[model_type].values))
    if unknown:
        raise ValueError(f"config.{unknown[0]}: no value of {model_type}")
    for name, value in config.items():
        most = MOST_LAYERS if name in _LAYERS else 1 << 16
        several = value if isinstance(value, list | tuple) else [value]
        if len(several) > 32 or not all(isinstance(one, str | bool) or _within(one, most) for one in several):
            raise ValueError(f"config.{name}={value!r:.60}: a name, true or false, or numbers from 0 to {most}")


def _within(value: Any, most: int) -> bool:
    return isinstance(value, int | float) and 0 <= value <= most


def config_of(model_type: str, config: Mapping[str, Any]) -> Any:
    """transformers' configuration of an encoder. Raises ValueError, and MissingPackage without transformers."""
    check_config(model_type, config)
    family = FAMILIES[model_type]
    built = build_config(family.config, {**config, **family.fixed})
    built._attn_implementation = "sdpa"
    return built


def build_encoder(model_type: str, config: Mapping[str, Any]) -> Any:
    """The encoder with random weights, attention by torch's own kernels. Raises as `config_of`."""
    family, built = FAMILIES.get(model_type), config_of(model_type, config)
    assert family is not None
    options = {"add_pooling_layer": False} if family.model == "ViTModel" else {}
    try:
        return build_model(family.model, built, module=family.module, **options)
    except KeyError as error:  # a name of an activation
        raise ValueError(f"config of {model_type}: {error} is no activation of transformers") from error
