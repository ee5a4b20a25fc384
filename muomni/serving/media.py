"""Media inside requests -> pixels and samples, within the limits of the settings. Nothing is fetched, no path is opened."""

import base64
import binascii
import io
import warnings

from PIL import Image
from torch import Tensor

from muomni.frontends.image_file import FORMAT_NAMES, FORMATS, in_one_line
from muomni.inference.engine import Engine
from muomni.serving.errors import refused
from muomni.serving.settings import ServerSettings


def decode_base64(data: str, *, param: str) -> bytes:
    """Base64 -> bytes. Raises ApiError naming the field."""
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refused(param, f"not valid base64: {error}") from error
    if not decoded:
        raise refused(param, "empty")
    return decoded


def read_image_url(url: str, settings: ServerSettings, *, param: str) -> Image.Image:
    """A data: URI -> the image. Raises ApiError for any other address, for damage, and for too many pixels."""
    return read_image_bytes(decode_image_url(url, param=param), settings, param=param)


def decode_image_url(url: str, *, param: str) -> bytes:
    """A data: URI -> the bytes of its file. Raises ApiError for any other address."""
    head, comma, data = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        raise refused(param, "only data:image/...;base64,... is read; this server fetches no address")
    if not head.lower().endswith(";base64"):
        raise refused(param, "a data: URI in base64 is needed")
    return decode_base64(data, param=param)


def read_image_bytes(raw: bytes, settings: ServerSettings, *, param: str) -> Image.Image:
    """The bytes of a file -> the image. Raises ApiError for damage, and for too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
            if image.width * image.height > settings.max_pixels:
                raise refused(param, f"{image.width} x {image.height} pixels; at most {settings.max_pixels} are taken")
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise refused(param, f"cannot be read as a {FORMAT_NAMES} image: {in_one_line(error)[:120]}") from error
    return image


def read_audio_bytes(raw: bytes, engine: Engine, settings: ServerSettings, *, param: str) -> Tensor:
    """An audio file's bytes -> samples (N,) at the encoder's rate, a frame at least. Raises ApiError for damage and too many
    seconds."""
    limit = settings.max_audio_seconds
    try:
        seconds = engine.media.seconds(raw)
        if seconds is not None and seconds > limit:
            raise refused(param, f"{seconds:.0f} s; at most {limit:g} s are taken")
        waveform = engine.media.waveform(raw, seconds=limit + 1)
    except ValueError as error:
        raise refused(param, str(error)) from error
    mel = engine.media.require_hearing().mel
    if len(waveform) > limit * mel.sample_rate:
        raise refused(param, f"more than {limit:g} s, which is the most that is taken")
    if len(waveform) < mel.shortest:
        raise refused(
            param, f"too short: {len(waveform)} samples at {mel.sample_rate} Hz, at least {mel.shortest} are needed"
        )
    return waveform
