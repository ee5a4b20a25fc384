"""Text -> speech: Talker -> codes -> mel -> waveform. One decode loop for any number of texts.

Shapes: B texts, C characters, T frames, K codebooks, E entries, M mel bins, N samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.frontends.characters import encode_characters
from muomni.frontends.griffin_lim import GriffinLim
from muomni.inference.stats import Timings
from muomni.models.codec import Codec
from muomni.models.talker import Talker

FRAMES_A_TOKEN, FEWEST_FRAMES, MOST_FRAMES, FRAMES_WITHOUT_TOKENS = 30, 50, 1000, 200


def frame_limit(num_tokens: int) -> int:
    """Upper bound of an utterance in frames: clamp(30 x tokens, 50, 1000); 200 where the tokens are not known (0)."""
    if num_tokens == 0:
        return FRAMES_WITHOUT_TOKENS
    return min(max(FRAMES_A_TOKEN * num_tokens, FEWEST_FRAMES), MOST_FRAMES)


@dataclass(slots=True)
class Utterance:
    """One text as spoken."""

    waveform: Tensor  # N
    codes: Tensor  # T K
    truncated: bool  # the stop never came: the bound on frames ended it


class Speaker:
    """A Talker, its codec and a vocoder. Greedy: the same text gives the same utterance."""

    def __init__(self, talker: Talker, codec: Codec, vocoder: GriffinLim) -> None:
        self.talker, self.codec, self.vocoder = talker, codec, vocoder

    @torch.inference_mode()
    def speak(self, texts: list[str], *, limits: list[int], voices: list[int], timings: Timings) -> list[Utterance]:
        """Speak texts, each with at most `limits` frames, in the voice of that number. Raises ValueError for an empty
        text or an unknown voice."""
        codes, truncated = self.codes(texts, limits=limits, voices=voices, timings=timings)
        spoken: list[Utterance] = []
        with timings.span("speech"):
            for row, cut in zip(codes, truncated, strict=True):
                mel = self.codec.decode(row[None])[0]
                spoken.append(Utterance(waveform=self.vocoder(mel).cpu(), codes=row, truncated=cut))
                timings.audio_seconds += len(spoken[-1].waveform) / self.vocoder.spec.sample_rate
                if len(spoken) == 1:
                    timings.first_audio = timings.speech
        return spoken

    @torch.inference_mode()
    def codes(
        self, texts: list[str], *, limits: list[int], voices: list[int], timings: Timings
    ) -> tuple[list[Tensor], list[bool]]:
        """The Talker's codes (T_i, K) of each text, and whether its bound cut it off."""
        for text in texts:
            if not text.strip():
                raise ValueError("an empty text cannot be spoken")
        for voice in voices:
            if not 0 <= voice < self.talker.num_speakers:
                raise ValueError(f"unknown voice {voice}; this Talker has the voices 0..{self.talker.num_speakers - 1}")
        with timings.span("speech"):
            rows, truncated = self._decode(texts, limits, voices)
        timings.frames += sum(len(row) for row in rows)
        timings.first_audio = timings.speech
        return rows, truncated

    def say(self, texts: list[str], voices: list[int]) -> tuple[list[Tensor], list[bool]]:
        """`codes` with the bound of each text's number of words."""
        limits = [frame_limit(len(text.split())) for text in texts]
        return self.codes(texts, limits=limits, voices=voices, timings=Timings())

    def _decode(self, texts: list[str], limits: list[int], voices: list[int]) -> tuple[list[Tensor], list[bool]]:
        talker, device = self.talker, self.talker.start.device
        characters = [torch.tensor(encode_characters(text)) for text in texts]
        lengths = torch.tensor([len(row) for row in characters], device=device)
        padded = torch.nn.utils.rnn.pad_sequence(characters, batch_first=True).to(device)
        bounds = torch.tensor(limits, device=device).clamp_max(talker.max_frames)
        longest = int(bounds.max())
        cache = talker.new_cache(len(texts), padded.shape[1] + longest)
        out = talker.prefill(padded, lengths, speakers=torch.tensor(voices, device=device), cache=cache)
        ends = torch.zeros_like(bounds)  # frames of each row, 0 while it speaks
        stopped = torch.zeros_like(bounds, dtype=torch.bool)
        frames: list[Tensor] = []
        for frame in range(1, longest + 1):
            codes = out.logits.argmax(dim=-1)  # B 1 K
            frames.append(codes[:, 0])
            speaking = ends == 0
            stops = speaking & (out.stop[:, 0] > 0)
            stopped |= stops
            ends = torch.where(speaking & (stops | (bounds <= frame)), frame, ends)
            if bool((ends > 0).all()):
                break
            out = talker.decode_step(codes, frame=frame, cache=cache)
        spoken = torch.stack(frames, dim=1)  # B T K
        rows = [row[:end] for row, end in zip(spoken, ends.tolist(), strict=True)]
        return rows, (~stopped).tolist()
