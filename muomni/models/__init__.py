"""Architectures: nn.Modules, tensors in, one dataclass out. Importing it registers every one (`registry.ARCHITECTURES`)."""

from muomni.models import audio, codec, conv_vision, hf_codec, projector, talker, text_tower, thinker, vision, vocoder

__all__ = [
    "audio",
    "codec",
    "conv_vision",
    "hf_codec",
    "projector",
    "talker",
    "text_tower",
    "thinker",
    "vision",
    "vocoder",
]
