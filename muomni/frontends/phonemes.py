"""Phonemes of English words by espeak-ng, with the library of the package `espeakng-loader` (the extra `world`).

Each word is looked up alone, so that its phonemes depend neither on the text around it nor on what follows while a text is being
written, and words of a text and of its phonemes are the same.
"""

import ctypes
import functools
import importlib
from typing import Any

#: What the engine writes of English (IPA; stress before its syllable), and the space between words.
ALPHABET = " abdefhijklmnoprstuvwxzæðŋɐɑɒɔəɚɛɜɡɪɫɬɹɾʃʊʌʒʔˈˌː̩̃θᵻ'"
VOICE = b"en-us"
SYNCHRONOUS, DONT_EXIT = 2, 0x8000
UTF8, IPA = 1, 0x02  # of a text; of phonemes


@functools.lru_cache(maxsize=1)
def _engine() -> Any:
    """The engine, in memory from the first word on."""
    try:
        loader = importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise ValueError(
            "a Talker that reads phonemes (backbone.talker.reads) needs the package espeakng-loader: pip install 'muomni[world]'"
        ) from error
    library = ctypes.CDLL(str(loader.get_library_path()))
    data = str(loader.get_data_path()).encode()
    started = library.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT) > 0
    if not started or library.espeak_SetVoiceByName(VOICE):
        raise RuntimeError(f"espeak-ng did not start with the data in {data.decode()}")
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    return library


@functools.lru_cache(maxsize=100_000)
def word_phonemes(word: str) -> str:
    """The phonemes of a word, at least one: of one that the engine has none for its letters."""
    engine, rest, parts = _engine(), ctypes.c_char_p(word.encode()), list[str]()
    while rest.value is not None:  # the engine moves it on, clause by clause
        parts.append(engine.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, IPA).decode())
    return "".join("".join(parts).split()) or word


def phonemes(text: str) -> str:
    """Words separated by single spaces -> their phonemes, likewise."""
    return " ".join(word_phonemes(word) for word in text.split())
