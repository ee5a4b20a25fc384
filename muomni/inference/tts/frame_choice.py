"""From the Talker's logits to the codes of a frame.

What is chosen is a function of the logits, of the frames of the utterance before, and of the number of the frame: so it is the
same alone, in a batch, and for a text that is spoken while it is written.

Shapes: B texts, W recent frames, K codebooks, E entries.
"""

import torch
from torch import Tensor

from muomni.inference.decoding.sampling import draw, uniforms
from muomni.inference.tts.options import GREEDY, SpeechOptions
from muomni.models.outputs import TalkerOutput

RECENT = 8  # frames at 12.5 Hz that a penalty counts, .64 s; a codec of more frames has as many more


def greedy_frames(out: TalkerOutput) -> Tensor:
    """Logits (B, 1, K, E) and stop (B, 1) of a frame -> the frames (B, K + 1): the most likely codes, and 1 where the utterance
    ends."""
    return torch.cat([out.logits[:, 0].argmax(dim=-1), (out.stop > 0).long()], dim=1)


def guided(logits: Tensor, blank: Tensor, guidance: float) -> Tensor:
    """Logits with the text and without it, of one shape -> those of a guidance."""
    return blank + guidance * (logits - blank)


def penalised(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """logits (B, K, E), less the penalty for each of the recent frames (B, W, K) in which the codebook has the code."""
    counts = torch.zeros_like(logits).scatter_add_(
        2, recent.transpose(1, 2), logits.new_ones(1).expand(recent.mT.shape)
    )
    return logits - penalty * counts


def drawn(logits: Tensor, *, temperature: float, seed: int, frame: int) -> Tensor:
    """logits (B, K, E) -> codes (B, K), each drawn by a random number of its own: number frame x K + k of the seed's stream, the
    same for all rows."""
    B, K, _ = logits.shape
    seeds = torch.full((K,), seed, device=logits.device)
    uniform = uniforms(seeds, frame * K + torch.arange(K, device=logits.device)).repeat(B)
    return draw((logits.float() / temperature).softmax(-1).flatten(0, 1), None, uniform).view(B, K)


class FrameChooser:
    """Callable: what the Talker says of the next frames, and what it says without the text -> the frames (B, K + 1).

    Args:
        pace: frames of the codec in the time of one at 12.5 Hz. codes: (B, T, K) of the utterances so far; None: they begin.
    """

    def __init__(self, options: SpeechOptions = GREEDY, *, pace: float = 1.0, codes: Tensor | None = None) -> None:
        self.options, self.window = options, round(RECENT * pace)
        self.frame = 0 if codes is None else codes.shape[1]
        self.recent = codes  # B W K, as long as a penalty counts them

    def __call__(self, out: TalkerOutput, blank: TalkerOutput | None = None) -> Tensor:
        """blank: needed if there is a guidance. The stop is that with the text."""
        options = self.options
        if options.is_greedy:
            return greedy_frames(out)
        logits = out.logits[:, 0]
        if blank is not None:
            logits = guided(logits, blank.logits[:, 0], options.guidance)
        if options.code_penalty and self.recent is not None:
            logits = penalised(logits, self.recent[:, -self.window :], options.code_penalty)
        if options.code_temperature:
            codes = drawn(logits, temperature=options.code_temperature, seed=options.code_seed, frame=self.frame)
        else:
            codes = logits.argmax(-1)
        self.frame += 1
        if options.code_penalty:
            so_far = codes[:, None] if self.recent is None else torch.cat([self.recent, codes[:, None]], dim=1)
            self.recent = so_far[:, -self.window :]
        return torch.cat([codes, (out.stop > 0).long()], dim=1)
