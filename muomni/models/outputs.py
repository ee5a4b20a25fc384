"""What each architecture's forward returns: one dataclass each, tensors with their shapes.

Legend: B batch, T time, N samples, V vocabulary, D width, P patches, M mel bins, K codebooks, E entries of a codebook.
"""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(slots=True)
class ThinkerOutput:
    """logits (B, T, V); hidden (B, T, D), after the final norm; router_logits (B, T, experts) of each layer with a mixture of
    experts, else empty."""

    logits: Tensor
    hidden: Tensor
    router_logits: list[Tensor] = field(default_factory=list)


@dataclass(slots=True)
class VisionOutput:
    """cls (B, 1, D) and grid (B, P, D), both after the final norm; P patches in raster order."""

    cls: Tensor
    grid: Tensor


@dataclass(slots=True)
class TextTowerOutput:
    """pooled (B, D) of a whole text; tokens (B, T, D), anything where `keep` (B, T) is False. Not normalised."""

    pooled: Tensor
    tokens: Tensor
    keep: Tensor


@dataclass(slots=True)
class AudioOutput:
    """hidden (B, T, D) after the final norm; lengths (B) of valid frames; logits (B, T, characters) of the CTC head;
    intermediate: logits of earlier blocks, where they were requested."""

    hidden: Tensor
    lengths: Tensor
    logits: Tensor
    intermediate: list[Tensor] = field(default_factory=list)


@dataclass(slots=True)
class CodecOutput:
    """mel (B, T, M) rebuilt; codes (B, T', K) long; commitment: scalar loss."""

    mel: Tensor
    codes: Tensor
    commitment: Tensor


@dataclass(slots=True)
class WaveformCodecOutput:
    """waveform (B, N) rebuilt, float32; codes (B, T, K) long; commitment: scalar loss, 0 without codebooks."""

    waveform: Tensor
    codes: Tensor
    commitment: Tensor


@dataclass(slots=True)
class TalkerOutput:
    """logits (B, T, K, E) of each frame's codes; stop (B, T): logit that this frame is the last;
    durations (B, C): predicted frames from the character before to each (None in `decode_step`)."""

    logits: Tensor
    stop: Tensor
    durations: Tensor | None = None


@dataclass(slots=True)
class OcrOutput:
    """logits (B, C, V): of what follows BOS and each character."""

    logits: Tensor


@dataclass(slots=True)
class VocoderOutput:
    """waveform (B, N) float32, about [-1, 1]."""

    waveform: Tensor


@dataclass(slots=True)
class DiscriminatorOutput:
    """scores: high for real audio, each of a section of a clip; features: the layers' outputs. Shapes differ by discriminator."""

    scores: Tensor
    features: list[Tensor]
