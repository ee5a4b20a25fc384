"""The Talker as a decoder of the generation loop: a token is a frame of codes.

Shapes: B texts, K codebooks, E entries.
"""

import torch
from torch import Tensor

from muomni.models.outputs import TalkerOutput
from muomni.models.talker import Talker, TalkerCache


def greedy_frames(out: TalkerOutput) -> Tensor:
    """Logits (B, 1, K, E) and stop (B, 1) of a frame -> the frames (B, K + 1): the most likely codes, and 1 where the utterance
    ends."""
    return torch.cat([out.logits[:, 0].argmax(dim=-1), (out.stop > 0).long()], dim=1)


class FrameDecoder:
    """The Talker's `Decoder`: a token is a frame (K + 1), the most likely codes and 1 if the utterance ends with it. spoken:
    frames that the cache holds already."""

    def __init__(self, talker: Talker, cache: TalkerCache, *, spoken: int = 0) -> None:
        self.talker, self.cache = talker, cache
        self.first = cache.position - spoken  # after the text and the start frame

    def __call__(self, tokens: Tensor) -> Tensor:
        """A frame (B, K + 1) -> the next one (B, 1, K + 1)."""
        frame = self.cache.position - self.first + 1
        out = self.talker.decode_step(tokens[:, None, :-1], frame=frame, cache=self.cache)
        return greedy_frames(out)[:, None]

    def ended(self, tokens: Tensor) -> Tensor:
        """A frame (B, K + 1) -> (B) bool."""
        return tokens[:, -1] > 0
