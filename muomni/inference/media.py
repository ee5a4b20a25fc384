"""What a prompt holds besides text: files or tensors -> what the encoders take, by the specs that the export names.

Shapes: N images, A audios, S image side, T frames, M mel bins, H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from muomni.frontends.audio_io import read_audio
from muomni.frontends.image import ImageFrontend, ImageSpec, pixels_of, read_image
from muomni.frontends.mel import LogMel, MelSpec
from muomni.inference.kinds import need_file

Source = str | Path | Tensor | Image.Image
Spec = TypeVar("Spec", ImageSpec, MelSpec)


def spec_from_facts(kind: type[Spec], facts: Mapping[str, Any], name: str, *, where: str) -> Spec:
    """Rebuild a frontend's spec from an export's facts. Raises ValueError naming the export and what is missing."""
    stored = facts.get(name)
    if not isinstance(stored, Mapping):
        raise ValueError(f"{where}: the export's facts lack {name!r}; export it again")
    known = {field.name for field in fields(kind)}
    if set(stored) != known:
        raise ValueError(f"{where}: the facts of {name!r} differ from {sorted(known)} by {sorted(known ^ set(stored))}")
    try:
        return kind(**stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: the facts of {name!r} are damaged: {error}") from error


class Media:
    """Reads pictures and sound as the encoders were trained on them; a spec is None where there is no such encoder."""

    def __init__(self, *, image: ImageSpec | None, mel: MelSpec | None) -> None:
        self.image = None if image is None else ImageFrontend(image)
        self.mel = None if mel is None else LogMel(mel)

    def images(self, sources: Sequence[Source]) -> Tensor | None:
        """Picture files, or uint8 tensors (3, H, W) -> (N, 3, S, S); None for none."""
        if not sources:
            return None
        if self.image is None:
            raise ValueError(
                "this export has no vision encoder, it reads no images: train stage=omni_sft and use its export"
            )
        return torch.stack([self.image(as_pixels(source)) for source in sources])

    def mels(self, sources: Sequence[Source]) -> tuple[Tensor | None, Tensor | None]:
        """Sound files, or waveforms (N,) at the encoder's rate -> mel (A, T, M) padded by zeros and lengths (A)."""
        if not sources:
            return None, None
        rows = [self.log_mel(source) for source in sources]
        lengths = torch.tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths

    def log_mel(self, source: Source) -> Tensor:
        """A sound file or waveform (N,) -> log-mel (T, M). Errors name the file."""
        return self.hear(source)[1]

    def hear(self, source: Source) -> tuple[Tensor, Tensor]:
        """A sound file or waveform -> waveform (N,) at the encoder's rate and log-mel (T, M). Errors name the file."""
        if self.mel is None:
            raise ValueError(
                "this export has no audio encoder, it hears nothing: train stage=omni_sft and use its export"
            )
        if not isinstance(source, str | Path | Tensor):
            raise ValueError(f"audio: a file or a waveform (N,) is needed, not {type(source).__name__}")
        if isinstance(source, Tensor):
            if source.dim() != 1 or not source.is_floating_point():
                raise ValueError(
                    f"audio: a waveform (N,) in [-1, 1] at {self.mel.spec.sample_rate} Hz is needed, "
                    f"not {source.dtype} {tuple(source.shape)}"
                )
            return source, self.mel(source)
        need_file("audio", source)
        waveform = read_audio(source, self.mel.spec.sample_rate)
        try:
            return waveform, self.mel(waveform)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


def as_pixels(source: Source) -> Tensor:
    """A picture file, a Pillow image, or the uint8 tensor (3, H, W) that it already is."""
    if isinstance(source, Image.Image):
        return pixels_of(source)
    if not isinstance(source, str | Path | Tensor):
        kinds = "a file, a Pillow image or uint8 (3, H, W)"
        raise ValueError(f"image: {kinds} is needed, not {type(source).__name__}")
    if isinstance(source, Tensor):
        return source
    need_file("image", source)
    return read_image(source)
