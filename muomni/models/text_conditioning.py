"""The Talker's reading of a text: what each character contributes, and how long it is spoken.

conditioning=text: its embedding. hidden: the last state of a Thinker that reads the text, at the token that the character
belongs to, projected; characters of one token are then told apart by their neighbours alone. both: the sum of the two.

Legend: B batch, C characters, D width, H width of the Thinker.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from muomni.nn.conv import ConvNeXtBlock
from muomni.nn.norm import RMSNorm


class StateProjection(nn.Module):
    """States (..., H) of a Thinker -> (..., D); zeros stay zeros. Normalised: the scale of a Thinker's last norm is its own."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps=1e-5)
        self.proj = nn.Linear(width, dim, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """See the class."""
        projected: Tensor = self.proj(self.norm(states))
        return projected


class TextConditioning(nn.Module):
    """Character ids -> prefix embeddings: table, ConvNeXt blocks (a letter's sound depends on its neighbours), speaker.

    Args:
        num_symbols: of the character table, 0 is padding; the `silences` follow. num_speakers: 1 for a single voice. dim: D.
        num_layers, kernel: of the ConvNeXt blocks. A duration depends on num_layers x (kernel // 2) characters after it.
        durations: what the head of durations predicts -> frames. blank: there is a vector for a text that is dropped.
        conditioning: text | hidden | both. state_width: H, of the states; 0 with `text`, which takes none.
    """

    def __init__(
        self,
        *,
        num_symbols: int,
        num_speakers: int,
        dim: int,
        num_layers: int,
        kernel: int,
        durations: Callable[[Tensor], Tensor],
        silences: int = 0,
        blank: bool = False,
        conditioning: str = "text",
        state_width: int = 0,
    ) -> None:
        super().__init__()
        told = conditioning != "text"
        if told != (state_width > 0):
            fitting = (
                "at least 1, the width of the Thinker whose states it is told" if told else "0, it is told no states"
            )
            raise ValueError(f"conditioning={conditioning} state_width={state_width}: {fitting}, is needed")
        #: With `hidden` all characters have one embedding, the first; silences follow.
        self.one_embedding = num_symbols - 1 if conditioning == "hidden" else 0
        self.embedding = nn.Embedding(num_symbols + silences - self.one_embedding, dim)
        self.states = StateProjection(state_width, dim) if told else None
        self.speaker = nn.Embedding(num_speakers, dim) if num_speakers > 1 else None
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(dim, kernel=kernel, hidden=2 * dim, norm=lambda: RMSNorm(dim, eps=1e-5))
            for _ in range(num_layers)
        )
        self.norm = RMSNorm(dim, eps=1e-5)
        self.step = nn.Linear(dim, 1)
        self.durations = durations
        self.no_text = nn.Parameter(torch.zeros(dim)) if blank else None

    def forward(
        self, text: Tensor, keep: Tensor, speakers: Tensor, states: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """text (B, C) long, keep (B, C) bool -> embeddings (B, C, D) and durations (B, C) > 0. speakers: (B) long, numbers, or
        (B, D) float, vectors. states: (B, C, H), zeros where there is none (silences, padding)."""
        assert (states is None) == (self.states is None), "a Talker is told states unless conditioning=text"
        x = self.embedding((text - self.one_embedding).clamp_min(0) if self.one_embedding else text)
        if self.states is not None:
            x = x + self.states(states)
        if speakers.is_floating_point():
            x = x + speakers[:, None]
        elif self.speaker is not None:
            x = x + self.speaker(speakers)[:, None]
        for block in self.blocks:
            x = block(x, keep=keep)
        x = self.norm(x)
        return x, self.durations(self.step(x)[..., 0])

    def speaker_vectors(self, numbers: Tensor) -> Tensor:
        """numbers (B) long of speakers -> the vectors (B, D) that stand for them; of a single voice zeros."""
        if self.speaker is None:
            return self.step.weight.new_zeros(len(numbers), self.step.in_features)
        vectors: Tensor = self.speaker(numbers)
        return vectors

    def blank(self, speakers: Tensor) -> Tensor:
        """What stands for every character of a text that is dropped: (B, 1, D), which says who speaks. speakers: as of
        `forward`."""
        assert self.no_text is not None, "it was built without a blank"
        vectors = speakers if speakers.is_floating_point() else self.speaker_vectors(speakers)
        embedded: Tensor = self.norm(self.no_text + vectors)
        return embedded[:, None]
