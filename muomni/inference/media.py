"""Images and audio of a prompt: files or tensors -> inputs of the encoders, by the frontend specs of the export.

Shapes: N images, A audios, S image side, T frames, M mel bins, H W pixels.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from muomni.frontends.audio_io import duration, read_audio
from muomni.frontends.channels import to_unit_scale
from muomni.frontends.hearing import Hearing, HearingSpec, PreparedSpeech
from muomni.frontends.image import ImageFrontend, ImageSpec, image_to_tensor, read_image
from muomni.frontends.image_file import check_pixels, in_one_line
from muomni.frontends.mel import MelSpec
from muomni.inference.audio_excerpt import AudioLimit, AudioTooLongError
from muomni.inference.validation import require_path
from muomni.user_path import user_path

log = logging.getLogger(__name__)

Source = str | Path | Tensor | Image.Image
MIN_UNSEEN = 0.02  # share of an image outside the centre square that is logged
Spec = TypeVar("Spec", ImageSpec, MelSpec)


def spec_from_metadata(spec_type: type[Spec], metadata: Mapping[str, Any], name: str, *, where: str) -> Spec:
    """Rebuild a frontend's spec from an export's metadata. Raises ValueError naming the export and what is missing."""
    stored = metadata.get(name)
    if not isinstance(stored, Mapping):
        raise ValueError(f"{where}: the export's facts lack {name!r}; export it again")
    known = {field.name for field in fields(spec_type)}
    optional = {field.name for field in fields(spec_type) if field.default is not MISSING}  # older exports lack them
    if wrong := (known - optional - set(stored)) | (set(stored) - known):
        raise ValueError(f"{where}: the facts of {name!r} differ from {sorted(known)} by {sorted(wrong)}")
    try:
        return spec_type(**stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: the facts of {name!r} are damaged: {error}") from error


class Media:
    """Images and audio, preprocessed as in the encoders' training; a spec is None if there is no such encoder.

    hearing: preprocessing of waveforms; None: none.
    """

    def __init__(self, *, image: ImageSpec | None, mel: MelSpec | None, hearing: HearingSpec | None = None) -> None:
        self.image = None if image is None else ImageFrontend(image)
        self.hearing = None if mel is None else Hearing(mel, hearing)

    def images(self, sources: Sequence[Source]) -> Tensor | None:
        """Image files, or uint8 tensors (3, H, W) -> (N, 3, S, S); None for no sources."""
        if not sources:
            return None
        if self.image is None:
            raise ValueError(
                "this export has no vision encoder, it reads no images: train stage=omni_sft and use its export"
            )
        return torch.stack([self._image(source, self.image) for source in sources])

    @property
    def matte(self) -> str:
        """Background of transparent pixels."""
        return ImageSpec.matte if self.image is None else self.image.spec.matte

    def _image(self, source: Source, frontend: ImageFrontend) -> Tensor:
        """(3, S, S). The share of the image that is cropped is logged."""
        pixels = as_pixels(source, matte=frontend.spec.matte)
        square = frontend(pixels)
        cropped = frontend.spec.cropped_share(*pixels.shape[1:])
        if cropped > MIN_UNSEEN:
            name = source if isinstance(source, str | Path) else "the image"
            log.warning(
                "%s: %d x %d, %.0f %% of it is not used: this export takes the centre square; crop the image to what counts",
                name, pixels.shape[2], pixels.shape[1], 100 * cropped,
            )  # fmt: skip
        return square

    def mels(
        self, sources: Sequence[Source], *, limit: AudioLimit | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Audio files, or waveforms (N,) at the encoder's rate -> mel (A, T, M) of their speech, zero-padded, and lengths
        (A)."""
        if not sources:
            return None, None
        rows = [self.log_mel(source, limit=limit) for source in sources]
        lengths = torch.tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths

    def log_mel(self, source: Source, *, limit: AudioLimit | None = None) -> Tensor:
        """An audio file or waveform (N,) -> log-mel (T, M) of its speech; of all of it if no speech is detected. Errors name
        the file."""
        if limit is None:
            return self.hear(source).trimmed()
        hearing, name = self.require_hearing(), name_of(source)
        limit.check_seconds(self.seconds(source), hearing, name=name)
        seconds = limit.seconds(hearing)
        waveform = self.waveform(source, seconds=seconds if limit.truncate else seconds + 1)
        limit.check_seconds(len(waveform) / hearing.mel.sample_rate, hearing, name=name)  # the header may be wrong
        with naming(source):
            return limit.excerpt(hearing, waveform, name=name)

    def hear(self, source: Source) -> PreparedSpeech:
        """An audio file or waveform -> its preprocessed form; logged if no speech is detected. Errors name the file."""
        hearing = self.require_hearing()
        waveform = self.waveform(source)
        with naming(source):
            heard = hearing(waveform)
        if not heard.spoken:
            log.warning("%s: no speech detected", name_of(source))
        return heard

    def waveform(self, source: Source, *, seconds: float | None = None) -> Tensor:
        """An audio file or waveform -> samples (N,) at the encoder's rate, up to `seconds`."""
        rate = self.require_hearing().mel.sample_rate
        if isinstance(source, str | Path):
            require_path("audio", source)
            return read_audio(user_path(source), rate, seconds=seconds)
        if not isinstance(source, Tensor):
            raise ValueError(f"audio: a file or a waveform (N,) is needed, not {type(source).__name__}")
        if source.dim() != 1 or not source.is_floating_point():
            raise ValueError(
                f"audio: a waveform (N,) in [-1, 1] at {rate} Hz is needed, not {source.dtype} {tuple(source.shape)}"
            )
        try:
            samples, remark = to_unit_scale(source.detach().float().cpu().numpy())
        except ValueError as error:
            raise ValueError(f"the waveform {error}") from error
        if remark is not None:
            log.warning("the audio: %s", remark)
        return torch.from_numpy(samples[: None if seconds is None else round(seconds * rate)])

    def seconds(self, source: Source) -> float | None:
        """Duration of a source without decoding it; None if unknown."""
        if isinstance(source, Tensor):
            return len(source) / self.require_hearing().mel.sample_rate if source.dim() == 1 else None
        if not isinstance(source, str | Path):
            return None
        require_path("audio", source)
        return duration(user_path(source))

    def require_hearing(self) -> Hearing:
        """The audio frontend. Raises ValueError if there is no audio encoder."""
        if self.hearing is None:
            raise ValueError(
                "this export has no audio encoder, it takes no audio: train stage=omni_sft and use its export"
            )
        return self.hearing


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Prefix ValueErrors inside with the source's name."""
    try:
        yield
    except AudioTooLongError:
        raise
    except ValueError as error:
        raise ValueError(f"{name_of(source)}: {error}") from error


def name_of(source: Source) -> str:
    """Name of a source in messages."""
    return str(source) if isinstance(source, str | Path) else "the audio"


def as_pixels(source: Source, *, matte: str) -> Tensor:
    """An image file, a Pillow image or a uint8 tensor -> uint8 (3, H, W)."""
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "") or "the Pillow image"
        try:
            check_pixels(source)
            return image_to_tensor(source, matte=matte)
        except Exception as error:  # Pillow decodes lazily, here, and may raise anything for damaged bytes
            raise ValueError(f"image: cannot read {name}: {in_one_line(error)}") from error
    if not isinstance(source, str | Path | Tensor):
        raise ValueError(f"image: a file, a Pillow image or uint8 (3, H, W) is needed, not {type(source).__name__}")
    if isinstance(source, Tensor):
        return source
    require_path("image", source)
    return read_image(user_path(source), matte=matte)
