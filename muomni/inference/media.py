"""Images and audio of a prompt -> inputs of the encoders, by the frontend specs of the export. What a user may give:
`sources.py`.

Shapes: N images, A audios, S image side, T frames, M mel bins, H W pixels.
"""

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muomni.frontends.audio_io import duration, read_audio
from muomni.frontends.channels import to_unit_scale
from muomni.frontends.hearing import Hearing, HearingSpec, PreparedSpeech, hearing_of
from muomni.frontends.image import ImageFrontend, ImageSpec, image_to_tensor, read_image
from muomni.frontends.image_file import check_pixels, in_one_line
from muomni.frontends.mel import MelSpec
from muomni.frontends.memory_file import File, MemoryFile
from muomni.inference.audio_excerpt import AudioLimit
from muomni.inference.errors import InvalidMedia, MissingModule, MuomniError, raised_as
from muomni.inference.sources import Source, array_to_image, array_to_waveform, in_memory, is_file
from muomni.inference.validation import require_path
from muomni.user_path import user_path

log = logging.getLogger(__name__)

MIN_UNSEEN = 0.02  # share of an image outside the centre square that is logged
Spec = TypeVar("Spec", ImageSpec, MelSpec)


def spec_from_metadata(spec_type: type[Spec], metadata: Mapping[str, Any], name: str, *, where: str) -> Spec:
    """Rebuild a frontend's spec from an export's metadata. Raises MuomniError naming the export and what is missing."""
    stored = metadata.get(name)
    if not isinstance(stored, Mapping):
        raise MuomniError(f"{where}: the export's facts lack {name!r}; export it again")
    known = {field.name for field in fields(spec_type)}
    optional = {field.name for field in fields(spec_type) if field.default is not MISSING}  # older exports lack them
    if wrong := (known - optional - set(stored)) | (set(stored) - known):
        raise MuomniError(f"{where}: the facts of {name!r} differ from {sorted(known)} by {sorted(wrong)}")
    try:
        return spec_type(**stored)
    except (TypeError, ValueError) as error:
        raise MuomniError(f"{where}: the facts of {name!r} are damaged: {error}") from error


def media_from_metadata(metadata: Mapping[str, Any], *, modules: Container[str], where: str) -> "Media":
    """The media frontends of an export with these modules. Raises as `spec_from_metadata`."""
    takes_images = "vision" in modules or "ocr" in modules
    return Media(
        image=spec_from_metadata(ImageSpec, metadata, "image", where=where) if takes_images else None,
        mel=spec_from_metadata(MelSpec, metadata, "mel", where=where) if "audio" in modules else None,
        hearing=hearing_of(metadata, where=where),
    )


class Media:
    """Images and audio, preprocessed as in the encoders' training; a spec is None if there is no such encoder.

    hearing: preprocessing of waveforms; None: none.
    """

    def __init__(self, *, image: ImageSpec | None, mel: MelSpec | None, hearing: HearingSpec | None = None) -> None:
        self.image = None if image is None else ImageFrontend(image)
        self.hearing = None if mel is None else Hearing(mel, hearing)

    def images(self, sources: Sequence[Source]) -> Tensor | None:
        """Images -> (N, 3, S, S); None for no sources. Raises InvalidMedia, FileNotFoundError, and MissingModule without an
        encoder."""
        if not sources:
            return None
        if self.image is None:
            raise MissingModule(
                "this export has no vision encoder, it reads no images: train stage=omni_sft and use its export",
                param="vision",
            )
        return torch.stack([self._image(source, self.image) for source in sources])

    @property
    def matte(self) -> str:
        """Background of transparent pixels."""
        return ImageSpec.matte if self.image is None else self.image.spec.matte

    def _image(self, source: Source, frontend: ImageFrontend) -> Tensor:
        """(3, S, S). The share of the image that is cropped is logged."""
        source = in_memory(source, what="image")
        pixels = as_pixels(source, matte=frontend.spec.matte)
        with raised_as(InvalidMedia, param="image"):
            square = frontend(pixels)
        cropped = frontend.spec.cropped_share(*pixels.shape[1:])
        if cropped > MIN_UNSEEN:
            name = source if is_file(source) else "the image"
            log.warning(
                "%s: %d x %d, %.0f %% of it is not used: this export takes the centre square; crop the image to what counts",
                name, pixels.shape[2], pixels.shape[1], 100 * cropped,
            )  # fmt: skip
        return square

    def limited_waveform(self, source: Source, *, limit: AudioLimit) -> Tensor:
        """`waveform`, of which no more is read than the limit allows. Raises ContextLength beyond it; errors name the file."""
        source = in_memory(source, what="audio")
        hearing, name = self.require_hearing(), name_of(source)
        limit.check_seconds(self.seconds(source), hearing, name=name)
        seconds = limit.seconds(hearing)
        waveform = self.waveform(source, seconds=seconds if limit.truncate else seconds + 1)
        limit.check_seconds(len(waveform) / hearing.mel.sample_rate, hearing, name=name)  # the header may be wrong
        return waveform

    def excerpt(self, waveform: Tensor, *, limit: AudioLimit, source: Source) -> Tensor:
        """A waveform (N,) -> log-mel (T, M) of its speech. source: what it was read from, for messages."""
        with naming(source):
            return limit.excerpt(self.require_hearing(), waveform, name=name_of(source))

    def hear(self, source: Source) -> PreparedSpeech:
        """An audio file or waveform -> its preprocessed form; logged if no speech is detected. Errors name the file."""
        hearing = self.require_hearing()
        source = in_memory(source, what="audio")
        waveform = self.waveform(source)
        with naming(source):
            heard = hearing(waveform)
        if not heard.spans:
            log.warning("%s: no speech detected", name_of(source))
        return heard

    def waveform(self, source: Source, *, seconds: float | None = None) -> Tensor:
        """An audio file or waveform -> samples (N,) at the encoder's rate, up to `seconds`."""
        return read_waveform(source, self.require_hearing().mel.sample_rate, seconds=seconds)

    def seconds(self, source: Source) -> float | None:
        """Duration of a source without decoding it; None if unknown."""
        if isinstance(source, Tensor | np.ndarray):
            return len(source) / self.require_hearing().mel.sample_rate if source.ndim == 1 else None
        if not isinstance(source, str | Path | MemoryFile):
            return None
        with raised_as(InvalidMedia, param="audio"):
            return duration(_file("audio", source))

    def require_hearing(self) -> Hearing:
        """The audio frontend. Raises MissingModule if there is no audio encoder."""
        if self.hearing is None:
            raise MissingModule(
                "this export has no audio encoder, it takes no audio: train stage=omni_sft and use its export",
                param="audio",
            )
        return self.hearing


def read_waveform(source: Source, rate: int, *, seconds: float | None = None, param: str = "audio") -> Tensor:
    """An audio file or waveform -> samples (N,) at `rate` Hz, up to `seconds`. param: the option it was given by. Raises
    InvalidMedia, or FileNotFoundError."""
    source = in_memory(source, what=param)
    if isinstance(source, str | Path | MemoryFile):
        with raised_as(InvalidMedia, param=param):
            return read_audio(_file(param, source), rate, seconds=seconds)
    if isinstance(source, np.ndarray):
        source = array_to_waveform(source, rate=rate)
    if not isinstance(source, Tensor):
        raise InvalidMedia(
            f"{param}: a file, its bytes or a waveform (N,) is needed, not {type(source).__name__}", param=param
        )
    if source.dim() != 1 or not source.is_floating_point():
        raise InvalidMedia(
            f"{param}: a waveform (N,) in [-1, 1] at {rate} Hz is needed, not {source.dtype} {tuple(source.shape)}",
            param=param,
        )
    try:
        samples, remark = to_unit_scale(source.detach().float().cpu().numpy())
    except ValueError as error:
        raise InvalidMedia(f"the waveform {error}", param=param) from error
    if remark is not None:
        log.warning("the audio: %s", remark)
    return torch.from_numpy(samples[: None if seconds is None else round(seconds * rate)])


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Inside, a ValueError that is no MuomniError yet becomes an InvalidMedia that begins with the source's name."""
    try:
        yield
    except MuomniError:
        raise
    except ValueError as error:
        raise InvalidMedia(f"{name_of(source)}: {error}", param="audio") from error


def name_of(source: Source) -> str:
    """Name of a source in messages."""
    return str(source) if is_file(source) else "the audio"


def _file(name: str, source: File) -> File:
    """A file in memory as it is, a path by `user_path`. name: of the option."""
    if not isinstance(source, str | Path):
        return source
    require_path(name, source)
    return user_path(source)


def as_pixels(source: Source, *, matte: str) -> Tensor:
    """An image -> uint8 (3, H, W); a tensor as it is. matte: see `ImageSpec`. Raises InvalidMedia, or FileNotFoundError."""
    if isinstance(source, np.ndarray):
        source = array_to_image(source)
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "") or "the Pillow image"
        try:
            check_pixels(source)
            return image_to_tensor(source, matte=matte)
        except Exception as error:  # Pillow decodes lazily, here, and may raise anything for damaged bytes
            raise InvalidMedia(f"image: cannot read {name}: {in_one_line(error)}", param="image") from error
    if isinstance(source, Tensor):
        return source
    if not isinstance(source, str | Path | MemoryFile):
        raise InvalidMedia(
            f"image: a file, its bytes, a Pillow image, an array (H, W, 3) or uint8 (3, H, W) is needed, not "
            f"{type(source).__name__}",
            param="image",
        )
    with raised_as(InvalidMedia, param="image"):
        return read_image(_file("image", source), matte=matte)
