"""Forced alignment: the frames of a text's characters and words on the best path of CTC's lattice.

Legend: T frames of the encoder, S symbols with the blank at 0, C characters.
"""

import re
from dataclasses import dataclass, field

import torch
import torchaudio
from torch import Tensor

from muomni.frontends.char_vocab import BLANK, ctc_frames_needed, encode_characters


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its start and end in seconds. confidence: of `character_log_probs`; the geometric mean over its characters."""

    text: str
    start: float
    end: float
    confidence: float = field(default=1.0, compare=False)


def character_spans(log_probs: Tensor, ids: list[int]) -> Tensor:
    """log_probs (T, S), ids of C > 0 characters -> (C, 2) first and last frame of each on the best path; if T is too short for
    them, evenly spread fractional frames."""
    if len(log_probs) < ctc_frames_needed(ids):
        frames = torch.linspace(0, len(log_probs) - 1, len(ids) + 2)[1:-1]
        return torch.stack([frames, frames], dim=1)
    path, _ = torchaudio.functional.forced_align(
        log_probs[None].float(), torch.tensor([ids], dtype=torch.int32), blank=BLANK
    )
    path = path[0]
    spoken = path != BLANK
    before, after = path.roll(1), path.roll(-1)
    before[0] = after[-1] = BLANK
    first, last = (spoken & (path != before)).nonzero()[:, 0], (spoken & (path != after)).nonzero()[:, 0]
    return torch.stack([first, last], dim=1).float()


def character_log_probs(log_probs: Tensor, ids: list[int], spans: Tensor) -> Tensor:
    """log_probs (T, S), ids of C characters and their spans (C, 2) -> (C) the log-posterior of each in the frame of its span
    where it is highest: CTC spells a character in one frame and may repeat it in others."""
    first, last = spans[:, 0].floor().long(), spans[:, 1].floor().long()
    return torch.stack(
        [
            log_probs[begin : end + 1, symbol].max()
            for symbol, begin, end in zip(ids, first.tolist(), last.tolist(), strict=True)
        ]
    )


def align_characters(log_probs: Tensor, ids: list[int]) -> Tensor:
    """log_probs (T, S), ids of C characters -> (C) fractional frame of each: the centre of its span."""
    return character_spans(log_probs, ids).mean(dim=1)


def align_words(
    log_probs: Tensor, text: str, *, frame_seconds: float, offset: float, characters: str | None = None
) -> list[Word]:
    """log_probs (T, S) of a clip that begins at `offset` seconds, and its text -> its words, each from the first frame of its
    first character to the end of the last frame of its last one. characters: the encoder's alphabet."""
    if not text.strip():
        return []
    ids = encode_characters(text, characters)
    spans = character_spans(log_probs, ids)
    certain = character_log_probs(log_probs, ids, spans)
    words: list[Word] = []
    for word in re.finditer(r"\S+", text):
        first, last = float(spans[word.start(), 0]), float(spans[word.end() - 1, 1])
        confidence = float(certain[word.start() : word.end()].mean().exp())
        times = offset + first * frame_seconds, offset + (last + 1) * frame_seconds
        words.append(Word(word.group(), *times, confidence=confidence))
    return words
