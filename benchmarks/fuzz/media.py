"""Targets: images, audio, videos. Seed files are written here, in many formats, and damaged."""

import importlib.util
import io
import itertools
import random
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from benchmarks.fuzz.harness import Target
from benchmarks.fuzz.mutate import damage_bytes
from muomni.frontends.audio_io import read_audio
from muomni.frontends.image import read_image
from muomni.frontends.video import read_video

RATE = 16000
COMMON_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO")
IMAGE_FORMATS = (*COMMON_FORMATS, "TGA", "DDS", "SGI", "PCX", "JPEG2000", "EPS", "AVIF")
IMAGE_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "I", "F")
#: Suffix -> subtypes of libsndfile.
SOUNDS = {
    "wav": ("PCM_16", "FLOAT", "PCM_24", "ULAW", "IMA_ADPCM"),
    "ogg": ("VORBIS", "OPUS"),
    "mp3": ("MPEG_LAYER_III",),
    **dict.fromkeys(("flac", "aiff", "au", "caf", "w64"), ("PCM_16",)),
}


@cache
def image_seeds() -> list[tuple[str, bytes]]:
    """(suffix, content) of one small image in each format and mode that this Pillow writes: 95 of 150 pairs, each format."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    seeds = []
    for name, mode in itertools.product(IMAGE_FORMATS, IMAGE_MODES):
        image = Image.fromarray(pixels[..., 0] if mode in ("I;16", "I", "F") else pixels).convert(mode)
        file = io.BytesIO()
        try:
            image.save(file, format=name)
        except (OSError, ValueError, KeyError):  # the format has no such mode
            continue
        seeds.append((name.lower(), file.getvalue()))
    frames = [Image.fromarray(np.roll(pixels, 4 * i, axis=1)) for i in range(5)]
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, format=name, save_all=True, append_images=frames[1:])
        seeds.append((name.lower(), file.getvalue()))
    # turned; a resolution in letters; an IFD nowhere
    entries = [(0x0112, 3, 1, 6), (0x011A, 2, 4, 0x00373200), (0x8769, 4, 1, 2**31)]
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    exif += b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0" * 8
    file = io.BytesIO()
    frames[0].save(file, format="JPEG", exif=exif)
    seeds += [("jpeg", file.getvalue())] * 3
    return seeds


def png(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header promises any size, with a few bytes of pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack("!I", len(content)) + name + content + struct.pack("!I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 4096)) + chunk(b"IEND", b"")


def make_image(rng: random.Random, folder: Path) -> Path:
    """A damaged image whose suffix may not match its format."""
    suffix, content = rng.choice(image_seeds())
    chance = rng.random()
    if chance < 0.05:
        side = rng.choice((0, 1, 10**4, 10**5, 2**31 - 1, 2**32 - 1))
        content = png(side, rng.choice((1, side)), depth=rng.choice((1, 8, 16, 77)), colour=rng.choice((0, 2, 3, 6, 9)))
    elif chance < 0.9:
        content = damage_bytes(content, rng)
    name = rng.choice((f"a.{suffix}", "a.png", "a.jpg", "ä ö.jpeg", "a"))
    (folder / name).write_bytes(content)
    return folder / name


@cache
def sound_seeds() -> list[tuple[str, bytes]]:
    """(suffix, content) of short audio in each format, at the channels and rates that it has."""
    rng = np.random.default_rng(1)
    seeds = []
    formats = [(suffix, subtype) for suffix, subtypes in SOUNDS.items() for subtype in subtypes]
    for (suffix, subtype), (channels, rate) in itertools.product(formats, ((1, RATE), (2, 44100), (6, 8000))):
        samples = rng.normal(0, 0.1, (1600, channels)).astype(np.float32)
        file = io.BytesIO()
        try:
            soundfile.write(file, samples, rate, format=suffix, subtype=subtype)
        except soundfile.LibsndfileError:  # 3 of 39: six channels in ADPCM and MP3, Opus at 44.1 kHz
            continue
        seeds.append((suffix, file.getvalue()))
    odd = np.array([0.1, np.nan, np.inf, 1e30] * 400, dtype=np.float32)
    file = io.BytesIO()
    soundfile.write(file, odd, RATE, format="wav", subtype="FLOAT")
    return [*seeds, ("wav", file.getvalue())]


def make_sound(rng: random.Random, folder: Path) -> Path:
    """A damaged audio file; now and then a header with a forged rate, length or number of channels."""
    suffix, content = rng.choice(sound_seeds())
    if rng.random() < 0.15 and suffix == "wav":
        data = bytearray(content)
        rate = rng.choice((0, 1, 7, RATE, 10**6, 2**31, 2**32 - 1))
        data[22:28] = struct.pack("<HI", rng.choice((0, 1, 2, 255, 65535)), rate)
        content = bytes(data)
    elif rng.random() < 0.9:
        content = damage_bytes(content, rng)
    path = folder / rng.choice((f"a.{suffix}", "a.wav", "a.flac", "a.raw", "a"))
    path.write_bytes(content)
    return path


@cache
def video_seeds() -> list[tuple[str, bytes]]:
    """Animations, and films where PyAV is at hand."""
    seeds = [(suffix, content) for suffix, content in image_seeds() if suffix in ("gif", "webp", "png")][-3:]
    if importlib.util.find_spec("av") is not None:
        import av

        for suffix, codec in (("mp4", "mpeg4"), ("avi", "mjpeg"), ("mkv", "mpeg4")):
            file = io.BytesIO()
            with av.open(file, "w", format="matroska" if suffix == "mkv" else suffix) as film:
                stream: Any = film.add_stream(codec, rate=5)
                stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p" if codec == "mjpeg" else "yuv420p"
                for level in range(6):
                    frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * level, np.uint8), format="rgb24")
                    film.mux(stream.encode(frame))
                film.mux(stream.encode())
            seeds.append((suffix, file.getvalue()))
    return seeds


def make_video(rng: random.Random, folder: Path) -> Path:
    """A damaged animation or film, or a folder of frames one of which is damaged."""
    if rng.random() < 0.15:
        frames = folder / "frames"
        frames.mkdir()
        for number in range(4):
            _, content = rng.choice(image_seeds())
            (frames / f"{number}{rng.choice(('.png', '.jpg', '.txt'))}").write_bytes(damage_bytes(content, rng))
        return frames
    suffix, content = rng.choice(video_seeds())
    path = folder / rng.choice((f"a.{suffix}", "a.gif", "a.mp4"))
    path.write_bytes(damage_bytes(content, rng) if rng.random() < 0.95 else content)
    return path


TARGETS = (
    Target("image", make_image, read_image, share=40),
    Target("sound", make_sound, lambda path: read_audio(path, RATE), share=35),
    Target("video", make_video, lambda path: read_video(path, 4), share=20),
)
