"""Architectures: nn.Modules, tensors in, one dataclass out. Importing it registers every one (`registry.ARCHITECTURES`)."""

from muomni.models import audio, codec, projector, talker, text_tower, thinker, vision, vocoder

__all__ = ["audio", "codec", "projector", "talker", "text_tower", "thinker", "vision", "vocoder"]
