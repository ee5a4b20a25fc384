"""The audio of a prompt: the speech in a recording, up to its share of the context. Limits are checked before anything is
computed, so that ten minutes of audio are rejected at once.

With `truncate` the waveform is cut before preprocessing: an encoder looks ahead, and the background is measured over the whole
waveform, so a later cut would let the dropped end change what is kept.

Legend: N samples, T mel frames, M mel bins.
"""

import logging
import math
from dataclasses import dataclass

from torch import Tensor

from muomni.frontends.hearing import Hearing, PreparedSpeech
from muomni.inference.errors import ContextLength

log = logging.getLogger(__name__)

#: Up to this multiple of the maximum length is searched for speech: a short question may be surrounded by silence.
SEARCH_FACTOR = 6
GROWTH = 1.5


class AudioTooLongError(ContextLength):
    """Audio with more tokens than its share of the context."""


@dataclass(frozen=True, kw_only=True)
class AudioLimit:
    """tokens: maximum per audio. frames_per_token: mel frames per token. truncate: cut longer audio instead of raising."""

    tokens: int
    frames_per_token: int
    truncate: bool

    @property
    def frames(self) -> int:
        """Maximum mel frames per audio."""
        return self.tokens * self.frames_per_token

    def seconds(self, hearing: Hearing) -> float:
        """Maximum seconds of a waveform that are searched for speech."""
        return self.frames / hearing.mel.frame_rate * (1 if hearing.spec is None else SEARCH_FACTOR)

    def check_seconds(self, seconds: float | None, hearing: Hearing, *, name: str) -> None:
        """Raises AudioTooLongError, naming the audio, if it is too long to be searched; None: unknown, passes."""
        if seconds is not None and not self.truncate and seconds > self.seconds(hearing):
            count = self._tokens(math.ceil(seconds * hearing.mel.frame_rate))
            raise self._error(f"{name}: {seconds:.1f} s, {count} audio tokens")

    def excerpt(self, hearing: Hearing, waveform: Tensor, *, name: str) -> Tensor:
        """Waveform (N) -> mel (T, M) of its speech, T <= `frames`. Raises AudioTooLongError if it is longer."""
        if self.truncate:
            return first_frames(hearing, waveform, frames=self.frames)
        heard = hearing(waveform)
        mel = heard.trimmed()
        if not heard.spans:
            log.warning("%s: no speech detected; all of it is used", name)
        if len(mel) > self.frames:
            raise self._error(f"{name}: {self._tokens(len(mel))} audio tokens")
        return mel

    def _tokens(self, frames: int) -> int:
        return -(-frames // self.frames_per_token)

    def _error(self, what: str) -> AudioTooLongError:
        return AudioTooLongError(
            f"{what}, at most {self.tokens} (a quarter of the context): shorten it, allow truncate=true, or transcribe all of it "
            "by transcribe",
            param="audio",
        )


def first_frames(hearing: Hearing, waveform: Tensor, *, frames: int) -> Tensor:
    """Waveform (N) -> mel (T, M) of the first `frames` frames of its speech, as if the waveform ended there."""
    hop, length = hearing.mel.hop, frames
    while length * hop < len(waveform):
        end = _end_of_speech(hearing(waveform[: length * hop]), frames)
        if end is not None:
            return hearing(waveform[: end * hop]).trimmed()[:frames]
        length = math.ceil(length * GROWTH)
    heard = hearing(waveform)
    end = _end_of_speech(heard, frames)
    return heard.trimmed()[:frames] if end is None else hearing(waveform[: end * hop]).trimmed()[:frames]


def _end_of_speech(heard: PreparedSpeech, frames: int) -> int | None:
    """The frame of the recording at which `frames` frames of speech are complete; None if there are fewer."""
    kept = 0
    for begin, end in heard.spans:
        if kept + end - begin >= frames:
            return begin + frames - kept
        kept += end - begin
    return None
