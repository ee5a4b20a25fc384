"""Talker: text -> codes of the frozen codec, judged by what a recogniser hears.

Where in the recording each character lies, a recogniser's alignment says; the Talker learns to predict it.

Teacher forcing with disturbed history: the codes of a previous frame are replaced by random ones with a probability, so
that the Talker leans on the text and recovers from its own errors (scheduled sampling's aim, Bengio et al. 2015,
arXiv:1506.03099, without its cost).

Legend: B batch, T mel frames, M mel bins, T' code frames, K codebooks, E entries, N samples.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from muomni.batch import SpeechBatch
from muomni.checkpoints.export import weights_fingerprint
from muomni.losses.codec import duration_loss, talker_losses
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.stages.base import Stage
from muomni.stages.codec import Judge

SHOWN = 3  # sentences of a split that `samples` gives
RUNAWAY = 2.0  # longer than this many times the recording


class InWords(Protocol):
    """A text as it is said, and the characters that have no words (muomni/frontends/text_normalizer.py)."""

    text: str
    left_out: str


class Voice(Protocol):
    """What speaks with the Talker (muomni/inference/tts/speaker.py): texts -> codes, and whether the limit cut each."""

    def in_words(self, text: str) -> InWords:
        """A written text as `say` takes it: numbers and signs in words."""
        ...

    def say(self, texts: list[str], voices: list[int]) -> tuple[list[Tensor], list[bool]]:
        """Codes (T', K) of each text, truncated or not."""
        ...


class Aligner(Judge, Protocol):
    """A judge that also finds the characters of a text in a recording."""

    def align(self, paths: list[str], texts: list[str]) -> list[Tensor]:
        """Files and texts -> the time of each character (C) in seconds, rising."""
        ...


def corrupt_history(codes: Tensor, *, probability: float, size: int) -> Tensor:
    """codes (B, T', K): all codes of a frame become random ones in 0..size-1 with the given probability."""
    hit = torch.rand(codes.shape[:2], device=codes.device) < probability
    return torch.where(hit[..., None], torch.randint_like(codes, size), codes)


class TalkerStage(Stage):
    """Cross-entropy of the next frame's codes and of the stop.

    Metrics of a split: `cer`, `wer` (percent, of what the judge hears), `cer_shuffled` (against other items' texts),
    `runaway` (percent longer than twice the recording), `truncated` (percent cut by the limit on frames),
    `duration_ratio` (spoken over recorded, mean), `cer_recorded`, `cer_codec` (recordings, and the codec's
    resynthesis of them with as many codebooks as the Talker speaks).

    Args:
        model: the Talker. codec: the export of stage=codec (`parts["codec"]`, `facts`, `folder`).
        voice: Talker and codec -> `Voice`. vocoder: mel (T, M) -> waveform (N). judge: a recogniser.
        disturbance: probability that a previous frame is replaced. jitter: standard deviation, in frames, of a clip's
            shift of all characters' times while training, since predicted times are not exact.
        mel: facts of the spectrogram, which must be the codec's.
    """

    name = "talker"
    gathered = ("_truth", "_heard", "_ratios", "_cut")

    def __init__(
        self,
        *,
        model: Talker,
        codec: Any,
        voice: Callable[[Talker, Codec], Voice],
        vocoder: Callable[[Tensor], Tensor],
        judge: Aligner,
        disturbance: float,
        jitter: float,
        mel: Mapping[str, Any],
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.model, self.mel = model, dict(mel)
        self.codec: Codec = codec.parts["codec"].requires_grad_(False)
        self.codec_facts = codec.facts
        self._check_codec(str(codec.folder))
        self.voice = voice(self.model, self.codec)
        self.vocoder, self.judge, self.disturbance = vocoder, judge, disturbance
        self.jitter = jitter
        self.frame_rate = self.mel["sample_rate"] / self.mel["hop"] / self.codec.stride
        self._aligned: dict[tuple[str, str], Tensor] = {}  # by recording and text: ids of two manifests may be the same

    def _check_codec(self, folder: str) -> None:
        if self.codec_facts["mel"] != self.mel:
            raise ValueError(f"{folder}: the codec's mel {self.codec_facts['mel']} is not this run's {self.mel}")
        size, own = self.codec.codebook_size, self.model.codebook_size
        if size != own or self.codec.num_codebooks < self.model.num_codebooks:
            raise ValueError(
                f"{folder}: the codec has {self.codec.num_codebooks} codebooks of {size}, the Talker speaks "
                f"{self.model.num_codebooks} of {own}; set backbone.talker.num_codebooks and codebook_size"
            )

    def train(self, mode: bool = True) -> "TalkerStage":
        """The codec stays as it is: frozen, and out of its training mode."""
        super().train(mode)
        self.codec.eval()
        return self

    def companions(self) -> list[Any]:
        """The judge."""
        return [self.judge]

    def sharded_modules(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.model.transformer.blocks)

    def compiled_modules(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.model.transformer.blocks)

    def _codes(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """(B, T', K) of the codebooks that the Talker speaks, and their lengths."""
        with torch.no_grad():
            codes = self.codec.encode(batch.mel, batch.mel_lengths)[..., : self.model.num_codebooks]
        return codes, self.codec.code_lengths(batch.mel_lengths)

    def _char_times(self, batch: SpeechBatch) -> Tensor:
        """(B, C) in code frames; each clip is aligned once, and remembered. Padding goes on rising.

        Alone: among others its last bits would depend on them, and a resumed run, which has yet to align all, would differ.
        """
        keys = list(zip(batch.audio, batch.texts, strict=True))
        for key in keys:
            if key not in self._aligned:
                (seconds,) = self.judge.align([key[0]], [key[1]])
                self._aligned[key] = seconds * self.frame_rate
        B, C = batch.characters.shape
        times = torch.zeros(B, C)
        for row, key in enumerate(keys):
            known = self._aligned[key]
            times[row, : len(known)] = known
            times[row, len(known) :] = known[-1] + torch.arange(1, C - len(known) + 1)
        return times.to(self.device, non_blocking=True)

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Losses by codebook, of the stop, and of the durations (`place`)."""
        codes, lengths = self._codes(batch)
        history = codes
        if self.training and self.disturbance:
            history = corrupt_history(codes, probability=self.disturbance, size=self.model.codebook_size)
        times = self._char_times(batch)
        used = times + self.jitter * torch.randn(len(times), 1, device=self.device) if self.training else times
        output = self.model(
            batch.characters, batch.character_lengths, history, speakers=batch.speakers, char_times=used
        )
        duration = duration_loss(output.durations, times, batch.character_lengths)
        return {**talker_losses(output, codes, lengths), "place": duration}

    def loss_names(self) -> tuple[str, ...]:
        """See `step`."""
        return (*(f"codebook_{k}" for k in range(self.model.num_codebooks)), "stop", "place")

    def target_counts(self, batch: SpeechBatch) -> dict[str, Any]:
        """Rows of codes, clips to stop, characters."""
        frames = self.codec.code_lengths(batch.mel_lengths).sum()
        codebooks = dict.fromkeys((f"codebook_{k}" for k in range(self.model.num_codebooks)), frames)
        return {**codebooks, "stop": len(batch.sample_ids), "place": batch.character_lengths.sum()}

    def begin_split(self, split: str) -> None:
        """Nothing said yet."""
        self._truth: list[str] = []
        self._heard: dict[str, list[str]] = {"recorded": [], "codec": [], "spoken": []}
        self._ratios: list[float] = []
        self._cut: list[bool] = []
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    @torch.no_grad()
    def test_batch(self, batch: SpeechBatch, split: str) -> None:
        """Say the texts; let the judge hear them beside the recordings and the codec's resynthesis."""
        codes, lengths = self._codes(batch)
        voices = [min(speaker, self.model.num_speakers - 1) for speaker in batch.speakers.tolist()]
        said, cut = self.voice.say(batch.texts, voices)
        rebuilt = [row[:length] for row, length in zip(codes, lengths.tolist(), strict=True)]
        sounds: dict[str, list[Tensor]] = {"codec": self._sound(rebuilt), "spoken": self._sound(said)}
        heard = {kind: self.judge(waveforms) for kind, waveforms in sounds.items()}
        sounds["recorded"], heard["recorded"] = self.judge.read(batch.audio)
        heard = {kind: [self.voice.in_words(text).text for text in texts] for kind, texts in heard.items()}
        self._show(batch, sounds, heard, split)
        for kind, texts in heard.items():
            self._heard[kind] += texts
        self._truth += batch.texts
        self._cut += cut
        self._ratios += [len(row) / length for row, length in zip(said, lengths.tolist(), strict=True)]

    def _sound(self, rows: list[Tensor]) -> list[Tensor]:
        """Codes (T', K) -> waveforms (N)."""
        return [self.vocoder(self.codec.decode(row[None])[0]).cpu() for row in rows]

    def _show(
        self, batch: SpeechBatch, sounds: dict[str, list[Tensor]], heard: dict[str, list[str]], split: str
    ) -> None:
        for row in range(min(SHOWN - len(self._truth), len(batch.texts))):
            truth = batch.texts[row]
            for kind in ("recorded", "codec", "spoken"):
                answer = heard[kind][row]
                source = {"split": split, "id": batch.sample_ids[row], "question": truth, "truth": truth}
                sound = {"kind": kind, "waveform": sounds[kind][row], "sample_rate": self.mel["sample_rate"]}
                self._shown.append({**source, **sound, "answer": answer, **error_rates([answer], [truth])})

    def finish_split(self, split: str) -> dict[str, float]:
        """Error rates, lengths and stops."""
        count = len(self._truth)
        return {
            **error_rates(self._heard["spoken"], self._truth),
            "cer_shuffled": error_rates(self._heard["spoken"], shuffled(self._truth))["cer"],
            "cer_codec": error_rates(self._heard["codec"], self._truth)["cer"],
            "cer_recorded": error_rates(self._heard["recorded"], self._truth)["cer"],
            "truncated": 100 * sum(self._cut) / count,
            "runaway": 100 * sum(r > RUNAWAY and not c for r, c in zip(self._ratios, self._cut, strict=True)) / count,
            "duration_ratio": sum(self._ratios) / count,
        }

    def samples(self) -> list[dict[str, Any]]:
        """Recorded, rebuilt and spoken sounds of the same sentences, with what the judge heard."""
        return self._shown

    def export_parts(self) -> dict[str, nn.Module]:
        """The Talker and its codec."""
        return {"talker": self.model, "codec": self.codec}

    def export_facts(self) -> dict[str, Any]:
        """The codec's spectrogram and fingerprint: other codes would be noise."""
        own = {} if self.model.characters is None else {"characters": self.model.characters}
        return {"stage": self.name, "codec_mel": self.mel, "codec": weights_fingerprint(self.codec), **own}
