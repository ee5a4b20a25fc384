"""Architectures: nn.Modules, tensors in, one dataclass out. Importing it registers every one (`registry.ARCHITECTURES`)."""

from muomni.models import (
    audio,
    codec,
    conv_vision,
    fourier_codec,
    hf_audio,
    hf_codec,
    hf_vision,
    ocr,
    projector,
    talker,
    text_tower,
    thinker,
    vision,
    vocoder,
)

__all__ = [
    "audio",
    "codec",
    "conv_vision",
    "fourier_codec",
    "hf_audio",
    "hf_codec",
    "hf_vision",
    "ocr",
    "projector",
    "talker",
    "text_tower",
    "thinker",
    "vision",
    "vocoder",
]
