"""What a codec or a narrow channel leaves of a recording: encoded and decoded in memory.

Legend: N samples.
"""

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import mu_law_decoding, mu_law_encoding

from muomni.frontends.audio_io import resample, through_format

LINE = 8000  # Hz of a telephone line
LEVELS = 256  # of mu-law's eight bits
FORMATS = {  # format, subtype, and how much is thrown away (0 to 1), where that is a choice
    "gsm": ("WAV", "GSM610", None),
    "adpcm": ("WAV", "IMA_ADPCM", None),
    "mp3": ("MP3", "MPEG_LAYER_III", 0.99),
    "vorbis": ("OGG", "VORBIS", 1.0),
}
TELEPHONE = ("mulaw", "gsm", "adpcm")
CODECS = ("band", "mulaw", *FORMATS)


def through_codec(x: np.ndarray, rate: int, name: str) -> np.ndarray:
    """x (N) float32 at `rate` Hz -> (N): low-passed at a quarter of the rate ("band"), a telephone's codec at 8 kHz ("mulaw" of
    8 bits, "gsm" of 13 kbit/s, "adpcm" of 4 bits), or the lowest quality of "mp3" or "vorbis". (Opus takes ten
    times as long.)"""
    narrow = min(rate, LINE) if name in TELEPHONE else rate // 2 if name == "band" else rate
    there = resample(torch.from_numpy(x), rate, narrow)
    if name == "mulaw":
        there = mu_law_decoding(mu_law_encoding(there.clamp(-1, 1), LEVELS), LEVELS)
    elif name != "band":
        container, subtype, loss = FORMATS[name]
        there = through_format(there, narrow, container, subtype, loss=loss)
    back: np.ndarray = _fit(resample(there, narrow, rate), len(x)).numpy()
    return back


def _fit(x: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(x[:length], (0, max(0, length - len(x))))
