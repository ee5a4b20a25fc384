"""What a Talker reads of a text: its letters, or the phonemes of its words; and when each of these is spoken.

Legend: C letters, P symbols, U = C + 2 units.
"""

import torch
from torch import Tensor

from muomni.frontends.char_vocab import encode_characters
from muomni.frontends.phonemes import ALPHABET, phonemes, word_phonemes


def symbols_of(text: str, reads: str) -> str:
    """A text in words -> what is read of it. reads: letters | phonemes."""
    return text if reads == "letters" else phonemes(text)


def encode_symbols(text: str, *, reads: str, characters: str | None) -> list[int]:
    """A text in words -> the ids of its symbols, one each. characters: the model's own, of letters."""
    if reads == "letters":
        return encode_characters(text, characters)
    return encode_characters(phonemes(text), ALPHABET)


def symbol_letters(text: str, reads: str) -> list[int]:
    """The index of the letter of a text in words that each symbol read of it belongs to: phonemes of a word share its letters
    evenly."""
    if reads == "letters":
        return list(range(len(text)))
    at, found = 0, list[int]()
    for word in text.split(" "):
        count, size = len(word_phonemes(word)), len(word)
        found += [at + number * size // count for number in range(count)]
        at += size + 1
        found.append(at - 1)  # the space; nothing after the last word
    return found[:-1]


def symbol_centres(text: str, centres: Tensor) -> Tensor:
    """When the letters of a text are spoken, centres (C), not falling -> the same of its phonemes (P): those of a word are spread
    evenly over the letters of the word."""
    at, found = 0, list[Tensor]()
    for word in text.split(" "):
        count, size = len(word_phonemes(word)), len(word)
        place = ((torch.arange(count) + 0.5) / count * size - 0.5).clamp(0, size - 1)
        low, high = place.floor().long(), place.ceil().long()
        own = centres[at : at + size]
        found.append(own[low] + (own[high] - own[low]) * (place - low))
        found.append(centres[at + size : at + size + 1])  # the space; nothing after the last word
        at += size + 1
    return torch.cat(found)


def symbol_ends(text: str, ends: Tensor) -> Tensor:
    """Where the units of a text end, (C + 2): the silence before it, its letters, the silence after it -> the same of its
    phonemes (P + 2)."""
    at, found = 1, [ends[:1]]
    for word in text.split(" "):
        count, size = len(word_phonemes(word)), len(word)
        begin, end = ends[at - 1], ends[at + size - 1]
        found.append(begin + (end - begin) * torch.arange(1, count + 1) / count)
        found.append(ends[at + size : at + size + 1])  # the space, or the silence after the text
        at += size + 1
    return torch.cat(found)


def known_symbols(text: str, letters: int, reads: str) -> int:
    """Symbols of the beginning of a text that its first `letters` letters tell: of phonemes those of whole words."""
    if reads == "letters" or letters < 1:
        return max(letters, 0)
    begin = text[:letters]
    if text[letters : letters + 1] not in ("", " "):
        begin = begin.rpartition(" ")[0]
    return len(phonemes(begin))
