"""Talker: text -> codes of the frozen codec.

A recognizer's alignment says when each character is spoken in the recording; the Talker learns to predict it. With
alignment=durations of the model the frames are told nothing else of the text, and the alignment includes the silences around it.

Teacher forcing with corrupted history: the codes of a previous frame are replaced by random ones with a probability, so
that the Talker leans on the text and recovers from its own errors (scheduled sampling's aim, Bengio et al. 2015,
arXiv:1506.03099, without its cost).

Legend: B batch, T' code frames, C characters, K codebooks.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from muomni.batch import SpeechBatch
from muomni.checkpoints.export import Export, check_same, weights_fingerprint
from muomni.distributed import collectives
from muomni.evaluation.clip_codes import clip_codes
from muomni.evaluation.judge import Judge
from muomni.evaluation.talker import TalkerEvaluator, TextStates
from muomni.frontends.memory_file import Media
from muomni.frontends.spoken_symbols import encode_symbols, symbol_centres, symbol_ends
from muomni.losses.codec import code_losses, duration_deviance, duration_loss, talker_losses
from muomni.models import flops
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.models.waveform_codec import WaveformCodec
from muomni.nn.flops import Cost
from muomni.stages.base import Stage
from muomni.stages.told_states import load_states, states_metadata
from muomni.stages.training_options import TrainingOptions

log = logging.getLogger(__name__)


def corrupt_history(codes: Tensor, *, probability: float, size: int) -> Tensor:
    """codes (B, T', K): all codes of a frame become random ones in 0..size-1 with the given probability."""
    hit = torch.rand(codes.shape[:2], device=codes.device) < probability
    return torch.where(hit[..., None], torch.randint_like(codes, size), codes)


def _description(codec: Codec | WaveformCodec, mel: Mapping[str, Any]) -> dict[str, Any]:
    """What a codec reads, as the export's metadata have it: the spectrogram `mel`, or waveforms."""
    if isinstance(codec, WaveformCodec):
        return {"codec_audio": {"sample_rate": codec.sample_rate, "hop": codec.hop}}
    return {"codec_mel": dict(mel)}


class TalkerStage(Stage):
    """Cross-entropy of the next frame's codes and of the stop.

    Args:
        codec: the export of stage=codec, or of a codec of waveforms; frozen.
        aligner: finds the characters of a text in a recording.
        evaluator: model, codec, `codes` (evaluation/clip_codes.py) and `sample_rate` -> what measures them.
        disturbance: probability that a previous frame is replaced. jitter: standard deviation, in frames, of a clip's
            shift of all characters' times while training, since predicted times are not exact.
        mel: metadata of the batches' spectrogram, which must be that of a codec of mels.
        states: loads what tells a model with conditioning=hidden | both the states of a Thinker, which goes into its export.
        reference_share: of a model with speaker vectors: probability that a clip in training has the vector of its reference for
            a voice, not its speaker's number; in evaluation each has.
    """

    name = "talker"
    model: Talker

    def __init__(
        self,
        *,
        model: Talker,
        codec: Export,
        aligner: Judge,
        evaluator: Callable[..., TalkerEvaluator],
        disturbance: float,
        jitter: float,
        mel: Mapping[str, Any],
        training: TrainingOptions,
        reference_share: float = 0.5,
        states: Callable[[], TextStates] | None = None,
    ) -> None:
        frozen = cast("Codec | WaveformCodec", codec.modules["codec"])
        described = _description(frozen, mel)
        if "codec_mel" in described:
            check_same(codec.metadata, {"mel": dict(mel)}, where=str(codec.folder))
        theirs, ours = (frozen.num_codebooks, frozen.codebook_size), (model.num_codebooks, model.codebook_size)
        if theirs[1] != ours[1] or theirs[0] < ours[0]:
            raise ValueError(
                f"{codec.folder}: the codec has {theirs[0]} codebooks of {theirs[1]}, the Talker speaks {ours[0]} of "
                f"{ours[1]}; set backbone.talker.num_codebooks and codebook_size"
            )
        if isinstance(frozen, WaveformCodec):
            frozen.check_codebooks(model.num_codebooks)
        mel_rate = mel["sample_rate"] / mel["hop"]
        codes = clip_codes(frozen, num_codebooks=model.num_codebooks, mel_rate=mel_rate)
        told = load_states(states, model, form=training.text_form)
        how = {} if told is None else {"states": told}
        measured = evaluator(model=model, codec=frozen, codes=codes, sample_rate=mel["sample_rate"], **how)
        super().__init__(
            training, model=model, evaluator=measured, metadata=described | states_metadata(told),
            tokenizer=None if told is None else told.tokenizer_path,
        )  # fmt: skip
        self.states = told
        self.codec, self.aligner, self.disturbance, self.jitter = frozen, aligner, disturbance, jitter
        self.codes, self._mel_rate, self.reference_share = codes, mel_rate, reference_share
        self.keep_frozen(frozen)
        self.codebook_names = tuple(f"codebook_{k}" for k in range(model.num_codebooks))
        self.guided = model.alignment == "durations"
        self.loss_names = (*self.codebook_names, *(("duration",) if self.guided else ("stop", "place")))
        #: By recording and text, in code frames: ids of two manifests may be the same.
        self._aligned: dict[tuple[Media, str], Tensor] = {}
        self._too_short: dict[tuple[Media, str], bool] = {}
        self._too_short_said = False

    @property
    def mel_frame_rate(self) -> float:
        return self._mel_rate

    def _char_times(self, batch: SpeechBatch) -> Tensor:
        """(B, C), with durations the ends of units (B, C + 2), in code frames; each clip is aligned once, and remembered.
        Padding keeps rising.

        Alone: among others its last bits would depend on them, and a resumed run, which has yet to align all, would differ.
        """
        keys = list(zip(batch.audio, batch.texts, strict=True))
        for key in keys:
            if key not in self._aligned:
                recognizer = self.aligner.on(self.device)
                find = recognizer.align_units if self.guided else recognizer.align
                clip = find([key[0]], [key[1]])[0]
                self._aligned[key] = self._times_as_read(key[1], clip.times) * self.codes.frame_rate
                self._too_short[key] = clip.too_short
        B, C = batch.characters.shape
        C += 2 * self.guided
        times = torch.zeros(B, C)
        for row, key in enumerate(keys):
            known = self._aligned[key]
            times[row, : len(known)] = known
            times[row, len(known) :] = known[-1] + torch.arange(1, C - len(known) + 1)
        return times.to(self.device, non_blocking=True)

    def _times_as_read(self, text: str, times: Tensor) -> Tensor:
        """Times of the letters of a text -> those of what the Talker reads of it."""
        if self.model.reads == "letters":
            return times
        return symbol_ends(text, times) if self.guided else symbol_centres(text, times)

    def _as_read(self, batch: SpeechBatch) -> SpeechBatch:
        """The batch, whose characters are what the Talker reads."""
        if self.model.reads == "letters":
            return batch
        rows = [torch.tensor(encode_symbols(text, reads=self.model.reads, characters=None)) for text in batch.texts]
        lengths = torch.tensor([len(row) for row in rows])
        device = batch.characters.device
        return replace(
            batch,
            characters=pad_sequence(rows, batch_first=True).to(device, non_blocking=True),
            character_lengths=lengths.to(device, non_blocking=True),
        )

    def _states_of(self, batch: SpeechBatch) -> Tensor | None:
        """The Thinker's states (B, C, H) of what is read of the batch's texts, if the Talker is told any."""
        if self.states is None:
            return None
        states = self.states.on(self.device)(batch.texts, reads=self.model.reads)
        return nn.functional.pad(states, (0, 0, 0, batch.characters.shape[1] - states.shape[1]))

    def _speakers(self, batch: SpeechBatch) -> Tensor:
        """Who speaks: the numbers (B), or the vectors (B, D) of a Talker that knows voices by their clips."""
        if (self.model.reference is None) != (batch.references is None) and self.training:
            raise ValueError(
                f"backbone.talker.speaker_vector={str(self.model.reference is not None).lower()} and "
                f"datamodule.references={str(batch.references is not None).lower()}: a voice is learned from a clip where both "
                "are true; leave datamodule.references out"
            )
        if batch.references is None or self.model.reference is None:
            return batch.speakers
        vectors = self.model.speaker_vectors(*self.codes(batch.references))
        if not self.training:
            return vectors
        by_clip = torch.rand(len(vectors), 1, device=vectors.device) < self.reference_share
        return torch.where(by_clip, vectors, self.model.text.speaker_vectors(batch.speakers))

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Losses by codebook, of the stop, and of the durations (`place`); with durations these (`duration`) and no stop."""
        batch = self._as_read(batch)
        codes, lengths = self.codes(batch)
        history = codes
        if self.training and self.disturbance:
            history = corrupt_history(codes, probability=self.disturbance, size=self.model.codebook_size)
        times = self._char_times(batch)
        if self.training:
            self._log_too_short(batch)
        used = times + self.jitter * torch.randn(len(times), 1, device=self.device) if self.training else times
        characters, lengths_of_texts = batch.characters, batch.character_lengths
        output = self.model(
            characters, lengths_of_texts, history, speakers=self._speakers(batch), char_times=used, targets=codes,
            states=self._states_of(batch),
        )  # fmt: skip
        if self.guided:
            deviance = duration_deviance(output.durations, times, lengths_of_texts + 2)
            return {**code_losses(output, codes, lengths), "duration": deviance}
        duration = duration_loss(output.durations, times, lengths_of_texts)
        return {**talker_losses(output, codes, lengths), "place": duration}

    def _log_too_short(self, batch: SpeechBatch) -> None:
        """Percent of the clips of all ranks whose characters are spread evenly."""
        short = [self._too_short[key] for key in zip(batch.audio, batch.texts, strict=True)]
        counts = torch.tensor([sum(short), len(short)]).to(self.device, non_blocking=True)
        few, clips = collectives.all_reduce_sum(counts).unbind()
        self.log("talker/train/too_short", 100 * few / clips, batch_size=len(short))

    def on_train_epoch_end(self) -> None:
        """All clips are aligned: say once how many are too short for their texts, and name one."""
        if self._too_short_said:
            return
        self._too_short_said = True
        first = next((key for key, short in self._too_short.items() if short), None)
        found = collectives.all_gather_object((sum(self._too_short.values()), len(self._too_short), first))
        counts = cast("list[tuple[int, int, tuple[Media, str] | None]]", found)
        named = next((key for _, _, key in counts if key is not None), None)
        if named is not None and self.global_rank == 0:
            log.warning(
                "%d of %d recordings are too short for their texts: the alignment spreads the characters evenly over them, and "
                "the Talker learns that (talker/train/too_short); one is %s, %.60r",
                sum(short for short, _, _ in counts), sum(clips for _, clips, _ in counts),
                getattr(named[0], "name", named[0]), named[1],
            )  # fmt: skip

    def step_cost(self, batch: SpeechBatch) -> Cost:
        """Talker and frozen codec; not what is computed of a clip once: its alignment, its codes of a codec of waveforms."""
        (B, T, _), (_, characters) = batch.mel.shape, self._as_read(batch).characters.shape
        own = flops.talker(self.model, B, characters, math.ceil(T * self.codes.frame_rate / self._mel_rate))
        if self.states is not None:
            tokens = max(map(self.states.num_tokens, batch.texts))
            own += flops.thinker(self.states.thinker, B, tokens, predicted=0).frozen()
        if isinstance(self.codec, WaveformCodec):
            return own
        encoded = flops.codec_encode(self.codec, B, T).frozen()
        if batch.references is not None:
            encoded += flops.codec_encode(self.codec, B, batch.references.mel.shape[1]).frozen()
        return encoded + own

    def target_counts(self, batch: SpeechBatch) -> dict[str, Any]:
        """Rows of codes, clips to stop, characters."""
        frames, characters = self.codes.lengths(batch).sum(), self._as_read(batch).character_lengths.sum()
        counts = dict.fromkeys(self.codebook_names, frames)
        if self.guided:
            return {**counts, "duration": characters + 2 * len(batch.sample_ids)}
        return {**counts, "stop": len(batch.sample_ids), "place": characters}

    def export_modules(self) -> dict[str, nn.Module]:
        return {"talker": self.model, "codec": self.codec}

    def bundled_modules(self) -> dict[str, nn.Module]:
        """The Thinker whose states the Talker is told."""
        return {} if self.states is None else {"talker_thinker": self.states.thinker}

    def export_metadata(self) -> dict[str, Any]:
        """What the codec reads and its fingerprint: other codes would be noise."""
        return super().export_metadata() | {"codec": weights_fingerprint(self.codec)}
