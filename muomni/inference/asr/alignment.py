"""Forced alignment: the frames of a text's characters and words on the best path of CTC's lattice.

Legend: T frames of the encoder, S symbols with the blank at 0, C characters.
"""

import re
from dataclasses import dataclass, field

import torch
import torchaudio
from torch import Tensor

from muomni.frontends.char_vocab import BLANK, ctc_frames_needed, encode_characters

REACH = 1.0  # frames of 40 ms: a character sounds so long before and after CTC spells it, where nothing else is spoken


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


def unit_ends(spans: Tensor, text: str, *, total: int) -> Tensor:
    """spans (C, 2) of a text's characters in a clip of `total` frames -> where its units end, (C + 2) frames, fractional, not
    falling: the silence before it, its characters, and the silence after it, which ends with the clip.

    CTC spells a character in a frame or two and is blank between. Neighbours share that evenly; but a blank next to a space is a
    pause, and that at the ends silence, of which a letter has `REACH` at most.
    """
    begins, stops = spans[:, 0], spans[:, 1] + 1
    ends = []
    for index in range(len(text) - 1):
        stop, begin = float(stops[index]), float(begins[index + 1])
        half = (begin - stop) / 2
        after, before = text[index + 1] == " ", text[index] == " "
        if after and not before:
            ends.append(stop + min(half, REACH))
        elif before and not after:
            ends.append(begin - min(half, REACH))
        else:
            ends.append(stop + half)
    edges = [max(0.0, float(begins[0]) - REACH), *ends, min(float(total), float(stops[-1]) + REACH), float(total)]
    return torch.tensor(edges).clamp(0, total).cummax(0).values


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
