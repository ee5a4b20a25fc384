"""What the Thinker hears of a sound: what is said in it, no more than its share of the context; bounded before anything is
computed, so that ten minutes of sound cost no more than it takes to see that they are too long.

With `truncate` the end is cut off the waveform before it is heard: an encoder looks ahead, and a background is measured over
all that there is, so what is cut off would change what is kept.

Legend: N samples, T mel frames, M mel bins.
"""

import logging
import math
from dataclasses import dataclass

from torch import Tensor

from muomni.frontends.hearing import Heard, Hearing

log = logging.getLogger(__name__)

#: Times the longest sound are searched for speech: silence around a short question is no reason to refuse it.
SEARCHED = 6
GROWTH = 1.5


class AudioTooLongError(ValueError):
    """A sound of more audio tokens than a request may spend on it."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """tokens: most of one sound. frames_per_token: mel frames that a token stands for. truncate: what is longer is cut, else
    it is an error."""

    tokens: int
    frames_per_token: int
    truncate: bool

    @property
    def frames(self) -> int:
        """Most mel frames of one sound."""
        return self.tokens * self.frames_per_token

    def seconds(self, hearing: Hearing) -> float:
        """How much of a sound is looked at."""
        return self.frames / hearing.mel.frame_rate * (1 if hearing.spec is None else SEARCHED)

    def check_seconds(self, seconds: float | None, hearing: Hearing, *, name: str) -> None:
        """Raises AudioTooLongError, naming the sound, for one that is too long to look at; None: no one knows yet."""
        if seconds is not None and not self.truncate and seconds > self.seconds(hearing):
            count = self._tokens(math.ceil(seconds * hearing.mel.frame_rate))
            raise self._error(f"{name}: {seconds:.1f} s, {count} audio tokens")

    def excerpt(self, hearing: Hearing, waveform: Tensor, *, name: str) -> Tensor:
        """Waveform (N) -> mel (T, M) of what is said in it, T <= `frames`. Raises AudioTooLongError where it is more."""
        if self.truncate:
            return beginning(hearing, waveform, frames=self.frames)
        heard = hearing(waveform)
        mel = heard.trimmed()
        if not heard.spoken:
            log.warning("%s: nothing in it stands out as speech; all of it is heard", name)
        if len(mel) > self.frames:
            raise self._error(f"{name}: {self._tokens(len(mel))} audio tokens")
        return mel

    def _tokens(self, frames: int) -> int:
        return -(-frames // self.frames_per_token)

    def _error(self, what: str) -> AudioTooLongError:
        return AudioTooLongError(
            f"{what}, at most {self.tokens} (a quarter of the context): cut it shorter, allow truncate=true, or have all of "
            "it written down by transcribe"
        )


def beginning(hearing: Hearing, waveform: Tensor, *, frames: int) -> Tensor:
    """Waveform (N) -> mel (T, M) of the first `frames` frames of what is said in it, as if nothing came behind them."""
    hop, length = hearing.mel.hop, frames
    while length * hop < len(waveform):
        end = _reached(hearing(waveform[: length * hop]), frames)
        if end is not None:
            return hearing(waveform[: end * hop]).trimmed()[:frames]
        length = math.ceil(length * GROWTH)
    heard = hearing(waveform)
    end = _reached(heard, frames)
    return heard.trimmed()[:frames] if end is None else hearing(waveform[: end * hop]).trimmed()[:frames]


def _reached(heard: Heard, frames: int) -> int | None:
    """The frame of the recording with which `frames` frames of speech are together, None where there are fewer."""
    kept = 0
    for begin, end in heard.spans:
        if kept + end - begin >= frames:
            return begin + frames - kept
        kept += end - begin
    return None
