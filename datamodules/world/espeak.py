"""Speech of the world by espeak-ng, bit-exact whatever was spoken before (`muomni/frontends/espeak.py`)."""

import ctypes
from typing import Any, NamedTuple

import numpy as np

from muomni.frontends.espeak import engine

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


def speak(text: str, voice: Voice) -> tuple[np.ndarray, int]:
    """(samples int16 (N,), sample rate) of the text in a voice; the same whatever was spoken before.

    Raises ValueError for a missing package, RuntimeError where the engine fails.
    """
    with engine(who="world: speech") as (library, rate):
        return _speak(library, text, voice), rate


def _speak(library: ctypes.CDLL, text: str, voice: Voice) -> np.ndarray:
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
    return np.concatenate(pieces)


def _succeed(code: int, what: str) -> None:
    if code != 0:
        raise RuntimeError(f"world: espeak-ng could not {what} (code {code})")
