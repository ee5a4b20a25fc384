"""A voice from a clip: the vector of a speaker whom a Talker need not have heard in training.

It is made of the mean over the clip's frames of what the Talker embeds of their codes. Where a codec's features are sums of
entries of its codebooks, as those of residual quantizers, the mean of the features is a linear function of the same counts of
codes; so nothing of them is lost, any codec will do, and an export needs no further encoder. The order of the frames, which
holds what is said, does not enter; a Talker learns from another clip of the same speaker, so that the counts tell it the voice
alone.

Legend: B batch, T frames, D width.
"""

from torch import Tensor, nn

from muomni.nn.conv import frame_mask
from muomni.nn.norm import RMSNorm


class ReferenceEncoder(nn.Module):
    """Embedded frames of clips -> vectors of their speakers.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim, eps=1e-5)
        self.proj = nn.Linear(dim, dim)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B, T, D), of which the first `lengths` (B), at least one, are real -> (B, D)."""
        keep = frame_mask(lengths, frames.shape[1])[..., None]
        vectors: Tensor = self.proj(self.norm((frames * keep).sum(1) / lengths[:, None]))
        return vectors
