"""Phonemes of English words by espeak-ng, with the library of the package `espeakng-loader` (the extra `world`).

Each word is looked up alone, so that its phonemes depend neither on the text around it nor on what follows while a text is being
written, and words of a text and of its phonemes are the same.
"""

import ctypes
import functools

from muomni.frontends import espeak

#: What the engine writes of English (IPA; stress before its syllable), and the space between words.
ALPHABET = " abdefhijklmnoprstuvwxzæðŋɐɑɒɔəɚɛɜɡɪɫɬɹɾʃʊʌʒʔˈˌː̩̃θᵻ'"
VOICE = b"en-us"
UTF8, IPA = 1, 0x02  # of a text; of phonemes
NEEDS = "a Talker that reads phonemes (backbone.talker.reads)"


@functools.lru_cache(maxsize=100_000)
def word_phonemes(word: str) -> str:
    """The phonemes of a word, at least one: of one that the engine has none for its letters."""
    rest, parts = ctypes.c_char_p(word.encode()), list[str]()
    with espeak.engine(who=NEEDS) as (library, _):
        if library.espeak_SetVoiceByName(VOICE):
            raise RuntimeError(f"espeak-ng could not take the voice {VOICE.decode()}")
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        while rest.value is not None:  # the engine moves it on, clause by clause
            parts.append(library.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, IPA).decode())
    return "".join("".join(parts).split()) or word


def phonemes(text: str) -> str:
    """Words separated by single spaces -> their phonemes, likewise."""
    return " ".join(word_phonemes(word) for word in text.split())
