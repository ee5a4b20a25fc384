"""Speech -> characters: error rates of greedy decoding."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from muomni.batch import SpeechBatch
from muomni.evaluation.base import Evaluator, State
from muomni.evaluation.views import ROWS, View, heat_map, mark_errors
from muomni.losses.ctc import frames_needed
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.encoders import AudioEncoder

MAX_EXAMPLES = 4


@dataclass
class AudioState(State):
    """Transcripts with their references, and how many clips are too short for theirs."""

    transcripts: list[str] = field(default_factory=list)
    truth: list[str] = field(default_factory=list)
    too_short: int = 0


@dataclass(eq=False, repr=False, kw_only=True)
class AudioEvaluator(Evaluator[AudioState]):
    """`cer`, `wer` (percent, corpus level, greedy decoding), `cer_shuffled` (against other items' texts: what knowing the
    language alone would give), `too_short` (percent of clips whose frames cannot carry their transcript; they count in the
    error rates, and take no part in the loss).

    Args:
        model: the encoder with its head.
        decode: its output -> texts, with `characters=` where the model has its own.
    """

    model: AudioEncoder
    decode: Callable[..., list[str]]
    state_type = AudioState

    def __post_init__(self) -> None:
        if self.model.characters is not None:
            self.decode = functools.partial(self.decode, characters=self.model.characters)

    @torch.no_grad()
    def update(self, batch: SpeechBatch) -> None:
        output = self.model(batch.mel, batch.mel_lengths)
        texts = self.decode(output)
        needed = frames_needed(batch.characters, batch.character_lengths)
        state = self.state
        state.too_short += int((output.lengths < needed).sum())
        for row in range(min(MAX_EXAMPLES - len(state.examples), len(texts))):
            truth = batch.texts[row]
            self.show(batch, row, audio=batch.audio[row], question="transcribe", answer=texts[row], truth=truth)
        state.transcripts += texts
        state.truth += batch.texts

    @torch.no_grad()
    def views(self, batch: SpeechBatch) -> list[View]:
        """Spectrogram with transcript and truth, errors in brackets; and which symbol the head writes when (alignment)."""
        shown: list[View] = []
        for row in range(min(ROWS, len(batch.texts))):
            frames = int(batch.mel_lengths[row])
            output = self.model(batch.mel[row : row + 1, :frames], batch.mel_lengths[row : row + 1])
            text = f"{mark_errors(self.decode(output)[0], batch.texts[row])}   (truth: {batch.texts[row]})"
            shown.append(View("spectrogram", text, heat_map(batch.mel[row, :frames].T, scale=2)))
            shown.append(View("alignment", text, heat_map(output.logits[0].float().softmax(-1).T, scale=4)))
        return shown

    def compute(self) -> dict[str, float]:
        state = self.state
        return {
            **error_rates(state.transcripts, state.truth),
            "cer_shuffled": error_rates(state.transcripts, shuffled(state.truth))["cer"],
            "too_short": 100 * state.too_short / len(state.truth),
        }
