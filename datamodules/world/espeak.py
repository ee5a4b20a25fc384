"""espeak-ng through ctypes, with the library and voices of the package `espeakng-loader` (the extra `world`, GPL).

The engine keeps state between utterances, so that the same text spoken twice would give different samples: the library
is terminated, unloaded and loaded again for each one (under a millisecond), which makes it bit-exact and independent
of the order. One engine to a process; never fork with it loaded.
"""

import ctypes
import importlib
import os
import tempfile
from _ctypes import dlclose
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LONGEST_DATA_PATH = 158  # characters; the library fails over that
SYNCHRONOUS, DONT_EXIT = 2, 0x8000
UTF8, PHONEMES = 1, 0x100  # flags of a text: its encoding; [[..]] holds phonemes
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER
SEED = 0  # of the noise in breathy voices, which the time would seed
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Voice(NamedTuple):
    """A voice: language (`en`, `en-us`), variant (`m3`, `f2`, ..), pitch and range 0..99, rate in words a minute."""

    language: str
    variant: str
    pitch: int
    range: int
    rate: int


def loader() -> Any:
    """The package that carries the library. Raises ValueError naming the extra where it is not installed."""
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise ValueError("world: speech needs the package espeakng-loader: pip install 'muomni[world]'") from error


@lru_cache(maxsize=1)
def data_path() -> str:
    """The engine's data folder, through a short link where its own path is too long for the engine."""
    path = str(loader().get_data_path())
    if len(path) <= LONGEST_DATA_PATH:
        return path
    link = Path(tempfile.mkdtemp(prefix="espeak")) / "data"
    os.symlink(path, link)
    return str(link)


def speak(text: str, voice: Voice) -> tuple[np.ndarray, int]:
    """(samples int16 (N,), sample rate) of the text in a voice; the same whatever was spoken before.

    Raises ValueError for a missing package, RuntimeError where the engine fails.
    """
    library = ctypes.CDLL(str(loader().get_library_path()))
    try:
        return _speak(library, text, voice)
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)


def _speak(library: ctypes.CDLL, text: str, voice: Voice) -> tuple[np.ndarray, int]:
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, data_path().encode(), DONT_EXIT)
    if rate <= 0:
        raise RuntimeError(f"world: espeak-ng did not start with the data in {data_path()}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(SEED))
    pieces: list[np.ndarray] = []

    def collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())  # the engine reuses its buffer
        return 0

    callback = _CALLBACK(collect)  # kept alive until the engine has ended
    library.espeak_SetSynthCallback(callback)
    name = f"{voice.language}+{voice.variant}"
    _succeed(library.espeak_SetVoiceByName(name.encode()), f"take the voice {name}")
    for parameter, value in ((RATE, voice.rate), (PITCH, voice.pitch), (RANGE, voice.range)):
        _succeed(library.espeak_SetParameter(parameter, value, 0), f"set parameter {parameter} to {value}")
    encoded = text.encode() + b"\0"
    size = ctypes.c_size_t(len(encoded))
    _succeed(library.espeak_Synth(encoded, size, 0, 0, 0, UTF8 | PHONEMES, None, None), f"speak {text!r}")
    _succeed(library.espeak_Synchronize(), "finish")
    if not pieces:
        raise RuntimeError(f"world: espeak-ng made no sound of {text!r} in voice {name}")
    return np.concatenate(pieces), rate


def _succeed(code: int, what: str) -> None:
    if code != 0:
        raise RuntimeError(f"world: espeak-ng could not {what} (code {code})")
