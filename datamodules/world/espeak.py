"""espeak-ng through ctypes, with the library and voices of the package `espeakng-loader` (the extra `world`, GPL).

The engine keeps state between utterances, so that the same text spoken twice would give different samples: the library
is terminated, unloaded and loaded afresh for each one (under a millisecond), which makes it bit-exact and independent
of the order. One engine to a process; never fork with it loaded.
"""

import ctypes
import importlib
import os
import tempfile
from _ctypes import dlclose
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

LONGEST_DATA_PATH = 158  # characters; the library fails over that
SYNCHRONOUS, DONT_EXIT = 2, 0x8000
UTF8, PHONEMES = 1, 0x100  # flags of a text: its encoding; [[..]] holds phonemes
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
INSTALL = "speech needs the package espeakng-loader: pip install 'muomni[world]'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """A voice: language (`en`, `en-us`), variant (`m3`, `f2`, ..), pitch and range 0..99, rate in words a minute."""

    language: str
    variant: str
    pitch: int
    range: int
    rate: int

    @property
    def name(self) -> str:
        """The name that the engine wants: language+variant."""
        return f"{self.language}+{self.variant}"


def loader() -> Any:
    """The package that carries the library. Raises ValueError naming the extra where it is not installed."""
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise ValueError(f"world: {INSTALL}") from error


@lru_cache(maxsize=1)
def data_path() -> str:
    """The engine's data folder, through a short link where its own path is too long for the engine."""
    path = str(loader().get_data_path())
    if len(path) <= LONGEST_DATA_PATH:
        return path
    link = Path(tempfile.mkdtemp(prefix="espeak")) / "data"
    os.symlink(path, link)
    return str(link)


@lru_cache(maxsize=1)
def listing() -> tuple[frozenset[str], frozenset[str]]:
    """(languages, variants) in the engine's data. A few languages (en-gb) belong to a voice of another name; the engine
    refuses these itself."""
    root = Path(data_path())
    languages = set()
    for path in (root / "lang").rglob("*"):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            languages |= {line.split()[1] for line in lines if line.startswith("language ")}
    return frozenset(languages), frozenset(path.name for path in (root / "voices" / "!v").iterdir())


def check_voice(voice: Voice) -> None:
    """Raise ValueError for a language or variant that the engine does not have (it would silently take another)."""
    languages, variants = listing()
    if voice.variant not in variants:
        raise ValueError(f"world: unknown voice variant {voice.variant!r}; variants are {', '.join(sorted(variants))}")
    if voice.language not in languages:
        english = ", ".join(sorted(name for name in languages if name.startswith("en")))
        raise ValueError(f"world: unknown voice language {voice.language!r}; the English ones are {english}")


def speak(text: str, voice: Voice) -> tuple[np.ndarray, int]:
    """(samples int16 (N,), sample rate) of the text in a voice; the same whatever was spoken before.

    Raises ValueError for an unknown voice or a missing package, RuntimeError where the engine fails.
    """
    check_voice(voice)
    library = ctypes.CDLL(str(loader().get_library_path()))
    try:
        return _speak(library, text, voice)
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)


def _speak(library: ctypes.CDLL, text: str, voice: Voice) -> tuple[np.ndarray, int]:
    _declare(library)
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, data_path().encode(), DONT_EXIT)
    if rate <= 0:
        raise RuntimeError(f"world: espeak-ng did not start with the data in {data_path()}")
    pieces: list[np.ndarray] = []

    def collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())  # the engine reuses its buffer
        return 0

    callback: Callable[..., int] = _CALLBACK(collect)  # kept alive until the engine has ended
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(f"world: espeak-ng has no voice {voice.name!r}; take the language en or en-us")
    for parameter, value in ((RATE, voice.rate), (PITCH, voice.pitch), (RANGE, voice.range)):
        _succeed(library.espeak_SetParameter(parameter, value, 0), f"set parameter {parameter} to {value}")
    encoded = text.encode() + b"\0"
    _succeed(library.espeak_Synth(encoded, len(encoded), 0, 0, 0, UTF8 | PHONEMES, None, None), f"speak {text!r}")
    _succeed(library.espeak_Synchronize(), "finish")
    if not pieces:
        raise RuntimeError(f"world: espeak-ng made no sound of {text!r} in voice {voice.name}")
    return np.concatenate(pieces), rate


def _declare(library: ctypes.CDLL) -> None:
    pointer, unsigned = ctypes.c_void_p, ctypes.c_uint
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, unsigned, ctypes.c_int, unsigned, unsigned, pointer, pointer,
    ]  # fmt: skip


def _succeed(code: int, what: str) -> None:
    if code != 0:
        raise RuntimeError(f"world: espeak-ng could not {what} (code {code})")
