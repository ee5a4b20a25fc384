"""Vocoder: log-mel -> waveform, first by spectral losses alone, then against discriminators.

Generator and discriminators train in one step of one optimizer, by one backward: the discriminators see made-up sounds
detached from the generator, the generator sees copies of the discriminators that learn nothing. Each parameter gets the
gradient that it would get in turns (of the weights before the step), is clipped with its own side alone, and all that holds for
other stages holds here: accumulation, guards, precision, schedule, exact resume. Manual optimisation would lose most of them.
Until they join in, the discriminators have no gradients: zeros would count as steps of their moments.

Legend: B batch, T frames, M mel bins, N samples.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from muomni.batch import WaveformBatch
from muomni.checkpoints.export import check_same
from muomni.distributed import collectives
from muomni.losses.adversarial import discriminator_loss, feature_loss, generator_loss
from muomni.losses.spectral import spectral_loss
from muomni.metrics.error_rates import error_rates
from muomni.metrics.sound import match_level, need_stoi, stoi
from muomni.models.discriminators import Discriminators
from muomni.models.outputs import VocoderOutput
from muomni.models.vocoder import Vocoder
from muomni.stages.base import Stage
from muomni.stages.codec import Judge

SHOWN = 3  # recordings of a split that `samples` gives

Waveforms = Callable[[Tensor], Tensor]


class Correction(Protocol):
    """Brings the mel of a waveform nearer to a wanted one (muomni/inference/tts/mel_correction.py)."""

    def __call__(self, waveform: Tensor, mel: Tensor, *, iterations: int) -> Tensor:
        """waveform (B, N), mel (B, T, M) -> waveform (B, N)."""
        ...


class Frontend(Protocol):
    """The spectrogram (muomni/frontends/mel.py)."""

    def transform(self, clips: Tensor) -> Tensor:
        """clips (B, N) -> mel (B, T, M)."""
        ...


class VocoderStage(Stage):
    """Spectral, adversarial and feature losses.

    Metrics of a split, of the vocoder and with the prefix `griffin_lim_` of Griffin-Lim on the same mels:
    `log_mel_distance` (mean absolute difference of log-mels at equal level, in their standard deviations), `stoi`,
    `real_time_factor` (seconds of computing a second of sound), and with a judge `cer`. With a codec the same of its
    resynthesis, `codec_*` and `griffin_lim_codec_*`. `cer_recorded`: of the recordings.

    Args:
        model: the vocoder. correction: what it makes always passes it. discriminators: trained beside it.
        corrections, corrections_in_training: iterations of the correction.
        griffin_lim: mel (T, M) -> waveform (N).
        log_mel: the spectrogram of `mel`.
        codec: the export of stage=codec whose mels the vocoder shall also make audible, or None.
        judge: a recogniser, or None. n_ffts: resolutions of the spectral loss.
        adversarial_from: share (0 to 1) of `max_steps` after which the discriminators join in; 1: never.
        discriminator_rate: their learning rate, as a factor. mel: facts of the spectrogram.
    """

    name = "vocoder"
    gathered = ("_truth", "_heard", "_distances", "_seconds", "_sound_seconds")

    def __init__(
        self,
        *,
        model: Vocoder,
        discriminators: Discriminators,
        correction: Correction,
        corrections: int,
        corrections_in_training: int,
        griffin_lim: Waveforms,
        log_mel: Frontend,
        codec: Any | None,
        judge: Judge | None,
        n_ffts: Sequence[int],
        adversarial_from: float,
        max_steps: int,
        discriminator_rate: float,
        mel: Mapping[str, Any],
        **how: Any,
    ) -> None:
        super().__init__(**how)
        need_stoi()
        self.model, self.discriminators, self.mel = model, discriminators, dict(mel)
        self.correction, self.griffin_lim, self.log_mel, self.judge = correction, griffin_lim, log_mel, judge
        self.codec: nn.Module | None = None
        if codec is not None:
            check_same(codec.facts, {"mel": self.mel}, where=str(codec.folder))
            self.codec = codec.parts["codec"].requires_grad_(False)
        self.corrections, self.corrections_in_training = corrections, corrections_in_training
        self.n_ffts, self.discriminator_rate = list(n_ffts), discriminator_rate
        self.adversarial_start = round(adversarial_from * max_steps)
        self._shown: list[dict[str, Any]] = []

    def train(self, mode: bool = True) -> "VocoderStage":
        """The codec stays as it is: frozen, and out of its training mode."""
        super().train(mode)
        if self.codec is not None:
            self.codec.eval()
        return self

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        """Generator and discriminators."""
        return [("vocoder", self.model, 1.0), ("discriminators", self.discriminators, self.discriminator_rate)]

    def optional_modules(self) -> dict[str, nn.Module]:
        """The discriminators, which wait for their time."""
        return {"discriminators": self.discriminators}

    def reached(self, batch: WaveformBatch) -> set[str]:
        """Whether it has come."""
        return set(self.optional_modules()) if self.global_step >= self.adversarial_start else set()

    def companions(self) -> list[Any]:
        """The judge."""
        return [self.judge]

    def compiled_modules(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.model.backbone.blocks)

    def clipped_apart(self) -> list[nn.Module]:
        """Each side by its own norm: what one learns does not shrink the other's step."""
        return [self.model, self.discriminators]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Moments of zeros, which older versions gave discriminators that were waiting, are forgotten."""
        super().on_load_checkpoint(checkpoint)
        for optimizer in checkpoint.get("optimizer_states", []):
            states = optimizer.get("state", {})
            for number in [n for n, state in states.items() if "exp_avg_sq" in state and not state["exp_avg_sq"].any()]:
                del states[number]

    def step(self, batch: WaveformBatch) -> dict[str, Tensor]:
        """`mel` and `spectral`; in training, once the discriminators join in, also `generator`, `feature`, `discriminator`."""
        made = self._make(self._seen(batch), self.corrections_in_training)
        with torch.autocast(self.device.type, enabled=False):
            losses = {
                "mel": self._distance(made, batch.waveform),
                "spectral": spectral_loss(made, batch.waveform, n_ffts=self.n_ffts),
            }
        if self.training:
            losses |= self._adversarial(made, batch.waveform)
        return losses

    def _make(self, mel: Tensor, corrections: int) -> Tensor:
        """mel (B, T, M) -> waveform (B, N), corrected."""
        output: VocoderOutput = self.model(mel)
        with torch.autocast(self.device.type, enabled=False):
            return self.correction(output.waveform, mel, iterations=corrections)

    def _distance(self, made: Tensor, recorded: Tensor) -> Tensor:
        """Mean absolute difference of the log-mels of sounds (B, N)."""
        return (self.log_mel.transform(made) - self.log_mel.transform(recorded)).abs().mean()

    def _seen(self, batch: WaveformBatch) -> Tensor:
        """The mels that the vocoder gets: those of the recordings, or what the codec makes of them."""
        wanted = batch.any_through_codec
        if self.codec is None or not (bool(batch.through_codec.any()) if wanted is None else wanted):
            return batch.mel
        with torch.no_grad(), collectives.synced_step(False):  # another rank may have no such piece
            rebuilt = self.codec(batch.mel, batch.mel_lengths).mel.float()
        return torch.where(batch.through_codec[:, None, None], rebuilt, batch.mel)

    def _adversarial(self, made: Tensor, recorded: Tensor) -> dict[str, Tensor]:
        """`generator` and `feature` reach the generator alone, `discriminator` the discriminators alone."""
        if self.global_step < self.adversarial_start:
            return {}
        real, fake = self.discriminators(recorded), self.discriminators(made.detach())
        weights = {name: parameter.detach() for name, parameter in self.discriminators.named_parameters()}
        judged = torch.func.functional_call(self.discriminators, weights, (made,))
        return {
            "generator": generator_loss(judged),
            "feature": feature_loss(real, judged),
            "discriminator": discriminator_loss(real, fake),
        }

    def loss_names(self) -> tuple[str, ...]:
        """See `step`."""
        return ("mel", "spectral", "generator", "feature", "discriminator")

    # --- held-out splits -------------------------------------------------------------------------------------------

    def begin_split(self, split: str) -> None:
        """Nothing made yet."""
        self._truth: list[str] = []
        self._heard: dict[str, list[str]] = {}
        self._distances: dict[str, list[tuple[float, float | None]]] = {}
        self._seconds: dict[str, float] = {}
        self._sound_seconds = 0.0
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    @torch.no_grad()
    def test_batch(self, batch: WaveformBatch, split: str) -> None:
        """Make every mel audible by both, and compare with the recordings."""
        lengths = batch.mel_lengths.tolist()
        mels = {"": batch.mel}
        if self.codec is not None:
            mels["codec_"] = self.codec(batch.mel, batch.mel_lengths).mel.float()
        recorded = [row[: length * self.mel["hop"]] for row, length in zip(batch.waveform, lengths, strict=True)]
        sounds: dict[str, list[Tensor]] = {"recorded": recorded}
        self._sound_seconds += sum(len(row) for row in recorded) / self.mel["sample_rate"]
        for source, mel in mels.items():
            for maker, make in (("", self._make_one), ("griffin_lim_", self.griffin_lim)):
                rows = [row[:length] for row, length in zip(mel, lengths, strict=True)]
                sounds[maker + source] = self._timed(maker + source, make, rows, recorded)
        if self.judge is not None:
            for kind, waveforms in sounds.items():
                self._heard.setdefault(kind, []).extend(self.judge(waveforms))
        self._show(batch, sounds, split)
        self._truth += batch.texts

    def _make_one(self, mel: Tensor) -> Tensor:
        """mel (T, M) -> waveform (N)."""
        return self._make(mel[None], self.corrections)[0]

    def _timed(self, kind: str, make: Waveforms, mels: list[Tensor], recorded: list[Tensor]) -> list[Tensor]:
        """Sounds of mels at their recordings' level; what they took, and how far they are from the recordings, is kept."""
        began = time.perf_counter()
        made = [make(mel) for mel in mels]
        self._seconds[kind] = self._seconds.get(kind, 0.0) + time.perf_counter() - began
        made = [match_level(sound, truth) for sound, truth in zip(made, recorded, strict=True)]
        for sound, truth in zip(made, recorded, strict=True):
            distance = float(self._distance(sound[None], truth[None]))
            likeness = stoi(sound, truth, sample_rate=self.mel["sample_rate"])
            self._distances.setdefault(kind, []).append((distance, likeness))
        return made

    def _show(self, batch: WaveformBatch, sounds: dict[str, list[Tensor]], split: str) -> None:
        names = {"recorded": "recorded", "griffin_lim_": "griffin_lim", "": "vocoder"}
        for row in range(min(SHOWN - len(self._truth), len(batch.texts))):
            truth = batch.texts[row]
            for kind, name in names.items():
                sound = {"kind": name, "waveform": sounds[kind][row].cpu(), "sample_rate": self.mel["sample_rate"]}
                sample = {"split": split, "id": batch.sample_ids[row], "question": truth, "truth": truth, **sound}
                if self.judge is not None:
                    heard = self._heard[kind][len(self._truth) + row]
                    sample |= {"answer": heard, **error_rates([heard], [truth])}
                self._shown.append(sample)

    def finish_split(self, split: str) -> dict[str, float]:
        """Distances, intelligibility, error rates, speed."""
        metrics = {}
        for kind, pairs in self._distances.items():
            defined = [likeness for _, likeness in pairs if likeness is not None]
            metrics[f"{kind}log_mel_distance"] = sum(distance for distance, _ in pairs) / len(pairs)
            metrics[f"{kind}stoi"] = sum(defined) / len(defined) if defined else float("nan")
            metrics[f"{kind}real_time_factor"] = self._seconds[kind] / self._sound_seconds
        for kind, heard in self._heard.items():
            name = "cer_recorded" if kind == "recorded" else f"{kind}cer"
            metrics[name] = error_rates(heard, self._truth)["cer"]
        return metrics

    def samples(self) -> list[dict[str, Any]]:
        """Recordings and what both make of their mels."""
        return self._shown

    # --- hand-over -------------------------------------------------------------------------------------------------

    def export_parts(self) -> dict[str, nn.Module]:
        """The vocoder; discriminators stay behind."""
        return {"vocoder": self.model}

    def export_facts(self) -> dict[str, Any]:
        """The spectrogram that it makes audible, and how often what it makes is corrected."""
        return {"stage": self.name, "codec_mel": self.mel, "corrections": self.corrections}
