"""Hostile images and recordings: bombs, forged headers, damage, odd base64 and data: URIs."""

import base64
import functools
import gzip
import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from benchmarks.fuzz.media import image_seeds, png, sound_seeds
from benchmarks.fuzz.mutate import damage_bytes
from benchmarks.serving.hostile.multipart import form
from benchmarks.serving.hostile.shot import CHAT, EMBEDDINGS, Shot, post, user, valid

TYPES = (
    "image/png",
    "image/gif",
    "image/svg+xml",
    "text/html",
    "",
    "image/png;charset=utf-7",
    "image/../../x",
    "IMAGE/PNG",
    "a/b;c=d",
)
AUDIO_FORMATS = ("wav", "mp3", "flac", "ogg")
SIDES = (0, 1, 4096, 65_535, 2**31 - 1, 2**32 - 1)
RATES = (0, 1, 7, 655_350, 10**6, 2**31, 2**32 - 1)


def _as_image(rng: random.Random, raw: bytes, kind: str = "image/png") -> Shot:
    uri = f"data:{kind};base64,{base64.b64encode(raw).decode()}"
    if rng.random() < 0.3:
        return post(
            EMBEDDINGS, valid(EMBEDDINGS) | {"input": [{"image": uri}]}, field=r"input\[0\].*|model", passes=True
        )
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "what is it"}]
    return post(CHAT, user(content), field=r"messages.*", passes=True)


def _as_sound(rng: random.Random, raw: bytes) -> Shot:
    if rng.random() < 0.6:
        return form([("model", None, b"m"), ("file", "a.wav", raw)], field="file", passes=True)
    data: dict[str, Any] = {"data": base64.b64encode(raw).decode(), "format": rng.choice(AUDIO_FORMATS)}
    return post(CHAT, user([{"type": "input_audio", "input_audio": data}]), field=r"messages.*", passes=True)


def damaged_images(rng: random.Random) -> Shot:
    """Bytes missing, added or changed, in all formats."""
    return _as_image(rng, damage_bytes(rng.choice(image_seeds())[1], rng), rng.choice(TYPES))


def damaged_sounds(rng: random.Random) -> Shot:
    """The same of recordings."""
    return _as_sound(rng, damage_bytes(rng.choice(sound_seeds())[1], rng))


@functools.cache
def _image_bomb(choice: int) -> bytes:
    """Small files that unfold into very many pixels or bytes."""
    file = io.BytesIO()
    zeros = zlib.compress(b"\0" * (64 << 20), 9)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack("!I", len(content)) + name + content + struct.pack("!I", zlib.crc32(name + content))

    head = b"\x89PNG\r\n\x1a\n"
    if choice == 0:  # a square of zeros
        size = chunk(b"IHDR", struct.pack("!IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0))
        return head + size + chunk(b"IDAT", zeros) + chunk(b"IEND", b"")
    if choice == 1:  # a few pixels, and a text or profile of 64 MiB
        size = chunk(b"IHDR", struct.pack("!IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
        pixels = chunk(b"IDAT", zlib.compress(b"\0" * 200))
        return (
            head
            + size
            + chunk(b"zTXt", b"a\0\0" + zeros)
            + chunk(b"iCCP", b"a\0\0" + zeros)
            + pixels
            + chunk(b"IEND", b"")
        )
    if choice == 2:  # more rows than promised
        size = chunk(b"IHDR", struct.pack("!IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
        return head + size + chunk(b"IDAT", zeros) + chunk(b"IEND", b"")
    if choice == 3:  # very many frames
        frames = [Image.new("L", (16, 16), index % 256) for index in range(3000)]
        frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:])
        return file.getvalue()
    Image.new("1", (20_000, 20_000)).save(file, format="TIFF" if choice == 4 else "PNG", compression="tiff_lzw")
    return file.getvalue()


def image_bombs(rng: random.Random) -> Shot:
    """See `_image_bomb`; and headers that promise any size."""
    if rng.random() < 0.5:
        return _as_image(rng, _image_bomb(rng.randrange(6)), rng.choice(TYPES))
    width, height = rng.choice(SIDES), rng.choice(SIDES)
    choice = rng.randrange(4)
    if choice == 0:
        return _as_image(
            rng, b"GIF89a" + struct.pack("<HHBBB", width & 65_535, height & 65_535, 0, 0, 0) + b"," + b"\0" * 40
        )
    if choice == 1:
        return _as_image(
            rng,
            b"BM"
            + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, width >> 1, -(height >> 1), 1, 24, 0, 0, 0, 0, 0, 0),
        )
    if choice == 2:
        return _as_image(rng, b"P6 %d %d 255\n" % (width, height) + b"\0" * 100)
    return _as_image(rng, png(width, height, depth=rng.choice((1, 8, 16, 77)), colour=rng.choice((0, 2, 3, 6, 9))))


@functools.cache
def _sound_bomb(form: str) -> bytes:
    """Hours of silence."""
    file = io.BytesIO()
    rate = 8000
    subtype = {"FLAC": "PCM_16", "MP3": "MPEG_LAYER_III", "OGG": "OPUS"}[form]
    with soundfile.SoundFile(file, "w", rate, 1, subtype, format=form) as sound:
        for _ in range({"FLAC": 240, "MP3": 30, "OGG": 20}[form]):
            sound.write(np.zeros(rate * 60, dtype=np.int16))
    return file.getvalue()


def sound_bombs(rng: random.Random) -> Shot:
    """See `_sound_bomb`."""
    return _as_sound(rng, _sound_bomb(rng.choice(("FLAC", "MP3", "OGG"))))


def forged_sounds(rng: random.Random) -> Shot:
    """Headers whose rate, channels, bits or length are not those of the samples."""
    form_tag, channels = rng.choice((0, 1, 3, 6, 0x11, 0x55, 0xFFFE)), rng.choice((0, 1, 2, 255, 65_535))
    rate, bits = rng.choice((*RATES, 8000, 16_000)), rng.choice((0, 1, 7, 8, 16, 24, 64, 65_535))
    length = rng.choice((0, 1, 4000, 2**31, 2**32 - 1))
    samples = rng.randbytes(rng.choice((0, 1, 3999, 4000)))
    if rng.random() < 0.3:
        samples = np.array([np.nan, np.inf, -np.inf, 1e38] * 1000, np.float32).tobytes()
        form_tag, bits, channels = 3, 32, 1
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", form_tag, channels, rate, (rate * block) & 0xFFFFFFFF, block & 0xFFFF, bits)
    wav = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", length) + samples
    if rng.random() < 0.6:
        return _as_sound(rng, b"RIFF" + struct.pack("<I", rng.choice((0, len(wav), 2**32 - 1))) + wav)
    flac = bytearray(next(raw for name, raw in sound_seeds() if name == "flac"))
    total, packed = (
        rng.choice((0, 1, 2**36 - 1)),
        rng.choice((0, 1, 16_000, 655_350)),
    )  # STREAMINFO: rate, channels, bits, samples
    flac[18:26] = (packed << 44 | rng.randrange(8) << 41 | rng.choice((3, 15, 31)) << 36 | total).to_bytes(8, "big")
    return _as_sound(rng, bytes(flac))


def no_media(rng: random.Random) -> Shot:
    """Other files than media, packed ones, and nothing."""
    raw = rng.choice((
        b"", b"\0" * 1000, b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%PDF-1.7", b"#!/bin/sh\n",
        gzip.compress(b"\0" * (32 << 20)), b"PK\x03\x04" + b"\0" * 100, b"%!PS\n(/etc/passwd) (r) file",
        b"push graphic-context\n",
        b"\x89PNG\r\n\x1a\n", b"RIFF", b"ID3" + b"\x7f" * 100, b"OggS" + b"\0" * 60, b"fLaC" + b"\0" * 60,
        rng.randbytes(3000),
    ))  # fmt: skip
    return (_as_image if rng.random() < 0.5 else _as_sound)(rng, raw)


def odd_uris(rng: random.Random) -> Shot:
    """Addresses, paths, and data: URIs that are not as they should be."""
    data = base64.b64encode(png(4, 4)).decode()
    uri = rng.choice((
        "/etc/passwd", "file:///etc/passwd", "file://localhost/etc/passwd", "http://127.0.0.1:9/a.png",
        "https://example.invalid/a.png",
        "ftp://127.0.0.1/a", "//127.0.0.1/a", "gopher://127.0.0.1:6379/_x", "data:", "data:,", "data:image/png",
        "data:image/png,raw",
        f"data:image/png;base64{data}", f"data:image/png;base64,{data}{data}", f" data:image/png;base64,{data}",
        "data:image/png;base64,",
        "data:image/png;base64,/etc/passwd", f"DATA:IMAGE/PNG;BASE64,{data}", f"data:{'x' * 10_000};base64,{data}",
        "", "\0", "\\\\host\\share",
        f"data:image/png;base64,{data[:-2]}", f"data:image/png;base64,{data[:20]}\n{data[20:]}",
        f"data:image/png;base64,{data}====",
        f"data:image/png;base64,{data.replace('A', '-')}", "data:image/png;base64,\u0661\u0662",
        f"data:image/png;base64, {data}", "blob:a", "cid:a",
    ))  # fmt: skip
    content = [{"type": "image_url", "image_url": {"url": uri, "detail": "low"}}]
    if rng.random() < 0.3:
        return post(
            EMBEDDINGS, valid(EMBEDDINGS) | {"input": [{"image": uri}]}, field=r"input\[0\].*|model", passes=True
        )
    return post(CHAT, user(content), field=r"messages\[0\]\.content\[0\].*", passes="base64" in uri.lower())


def odd_base64(rng: random.Random) -> Shot:
    """Recordings whose base64 is not quite."""
    data = base64.b64encode(rng.choice(sound_seeds())[1]).decode()
    where = rng.randrange(len(data))
    data = rng.choice((
        data[:where], data[:where] + rng.choice(" \n\t=*\0\u00e9") + data[where:], data + "=",
        data.rstrip("=") + "===", "=" * 8, "A", "AA", "AAA",
        "-_" * 100, "/etc/passwd", "A" * 4_000_000, data[::-1],
    ))  # fmt: skip
    item = {"type": "input_audio", "input_audio": {"data": data, "format": rng.choice(AUDIO_FORMATS)}}
    return post(CHAT, user([item]), field=r"messages\[0\]\.content\[0\].*", passes=True)


def many_media(rng: random.Random) -> Shot:
    """More images and recordings than a context holds."""
    item: dict[str, Any] = {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png(4, 4)).decode()}"},
    }
    if rng.random() < 0.5:
        sound = base64.b64encode(next(raw for name, raw in sound_seeds() if name == "flac")).decode()
        item = {"type": "input_audio", "input_audio": {"data": sound, "format": "flac"}}
    return post(CHAT, user([item] * rng.choice((9, 30, 64, 65, 1000))), field="messages.*", passes=True)


MAKERS = (
    damaged_images, damaged_sounds, image_bombs, sound_bombs, forged_sounds, no_media, odd_uris, odd_base64, many_media,
)  # fmt: skip
