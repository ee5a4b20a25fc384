"""Images and audio as files, bytes, open files, arrays and tensors: the same answer; and what is wrong with them in one line."""

import io
import sys

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from muomni.frontends.audio_io import read_audio
from muomni.frontends.image import read_image
from muomni.inference.errors import ContextLength, InvalidMedia, InvalidOption, MissingModule
from muomni.inference.prompt import Request
from muomni.inference.sources import in_memory


def test_an_image_is_the_same_in_every_form(engine, picture):
    pixels = np.asarray(Image.open(picture))
    with picture.open("rb") as file:
        forms = [picture, str(picture), picture.read_bytes(), bytearray(picture.read_bytes()), file, pixels,
                 io.BytesIO(picture.read_bytes()), Image.open(picture), read_image(picture)]  # fmt: skip
        images = [engine.media.images([form]) for form in forms]
    assert all(torch.equal(image, images[0]) for image in images)
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    assert torch.equal(engine.media.images([opaque]), images[0])
    grey = pixels[:, :, 0]
    assert torch.equal(engine.media.images([grey]), engine.media.images([grey[:, :, None].repeat(3, axis=2)]))
    assert torch.equal(engine.media.images([grey[::-1]]), engine.media.images([grey[::-1].copy()]))


def test_audio_is_the_same_in_every_form(engine, sound):
    waveform = read_audio(sound, 16000)
    with sound.open("rb") as file:
        forms = [sound, sound.read_bytes(), file, io.BytesIO(sound.read_bytes()), waveform, waveform.numpy(),
                 waveform.double().numpy(), (waveform.numpy() * 32768).round().astype(np.int16)]  # fmt: skip
        mels = [engine.media.hear(form).trimmed() for form in forms]
    assert all(torch.equal(mel, mels[0]) for mel in mels)  # the file has 16 bits
    other = io.BytesIO()
    soundfile.write(other, waveform.numpy(), 16000, format="FLAC")
    assert engine.transcribe(other.getvalue()) == engine.transcribe(sound)


def test_bytes_and_files_reach_every_method(engine, picture, sound):
    options = {"max_new_tokens": 6}
    expected = engine.generate("what colour", image=picture, audio=sound, **options)
    assert engine.generate("what colour", image=picture.read_bytes(), audio=sound.read_bytes(), **options) == expected
    request = Request(text="what colour", images=[picture.open("rb")], audios=[io.BytesIO(sound.read_bytes())])
    assert engine.generate_batch([request, request], **options) == [expected] * 2  # a file is read once
    messages = [{"role": "user", "content": [{"type": "image", "image": picture.read_bytes()},
                                             {"type": "audio", "audio": sound.read_bytes()},
                                             {"type": "text", "text": "what colour"}]}]  # fmt: skip
    assert engine.generate(messages=messages, **options) == expected


def test_several_images_have_an_order(engine, picture):
    black = np.zeros((8, 8, 3), np.uint8)
    answers = [
        engine.answer("what colour", image=images, max_new_tokens=8, logprobs=0)
        for images in ([picture, black], [black, picture], [picture], picture)
    ]
    firsts = [answer.logprobs[0].logprob for answer in answers]
    assert firsts[2] == firsts[3] and len(set(firsts)) == 3
    assert answers[0].prompt_tokens - answers[2].prompt_tokens == 4  # tokens of an image here
    requests = [Request(text="what colour", images=images) for images in ([picture, black], [black, picture])]
    assert engine.generate_batch(requests, max_new_tokens=8) == [answer.text for answer in answers[:2]]


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (b"", "cannot read <bytes> as an image: it is no JPEG"),
        (b"not an image", "cannot read <bytes> as an image: it is no JPEG"),
        (b"P6 9000 9000 255\n", "the image <bytes> is too large: 9000 x 9000"),
        (b"P6 10 10 255\n", "cannot read <bytes> as an image"),
        (io.StringIO("text"), "image: <file> is opened as text: open it by mode 'rb'"),
        (io.BytesIO(), "image: <file> has no bytes left"),
        (np.zeros((3, 8, 8), np.uint8), r"image: an array uint8 \(H, W, 3\) is needed, not uint8 \(3, 8, 8\); .* torch"),
        (np.zeros((8, 8, 3), np.float32), "not float32"),
        (np.zeros((0, 8, 3), np.uint8), "not uint8"),
        (np.zeros((8, 8, 3), object), "not object"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"uint8 \(3, H, W\) is needed"),
        (3, "image: a file, its bytes, a Pillow image, an array .* is needed, not int"),
        ({"url": "x"}, "not dict"),
    ],
)  # fmt: skip
def test_what_is_no_image(engine, image, line):
    with pytest.raises(InvalidMedia, match=line) as caught:
        engine.generate("what", image=image)
    assert caught.value.param == "image" and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("audio", "line"),
    [
        (b"", "cannot read <bytes> as audio"),
        (b"RIFF....WAVE", "cannot read <bytes> as audio"),
        (io.StringIO("text"), "audio: <file> is opened as text"),
        (
            np.zeros((100, 2), np.float32),
            r"audio: a mono array \(N,\) .* at 16000 Hz is needed, not float32 \(100, 2\)",
        ),
        (np.zeros(100, np.uint8), "not uint8"),
        (np.full(16000, np.nan), "the waveform holds samples up to nan"),
        (torch.zeros(100, dtype=torch.int16), r"not torch.int16 \(100,\)"),
        (1.5, "audio: a file, its bytes or a waveform .* is needed, not float"),
    ],
)
def test_what_is_no_audio(engine, audio, line):
    for call in (lambda: engine.generate(audio=audio), lambda: engine.transcribe(audio)):
        if isinstance(audio, io.StringIO):
            audio.seek(0)
        with pytest.raises(InvalidMedia, match=line) as caught:
            call()
        assert caught.value.param == "audio" and "\n" not in str(caught.value)


def test_a_closed_file_and_one_that_never_ends(picture, monkeypatch):
    file = picture.open("rb")
    file.close()
    with pytest.raises(InvalidMedia, match=r"cannot read .*a\.png: "):
        in_memory(file, what="image")
    monkeypatch.setattr("muomni.inference.sources.MAX_BYTES", 100)
    with open("/dev/zero", "rb") as endless, pytest.raises(InvalidMedia, match="holds over 100 bytes"):
        in_memory(endless, what="audio")
    assert in_memory(sys.maxsize, what="image") == sys.maxsize


def test_other_mistakes_have_their_class_and_name_the_option(engine):
    with pytest.raises(ContextLength, match=r"Too many tokens: \d+ > 128") as caught:
        engine.answer("what colour " * 200)
    assert caught.value.param == "text"
    with pytest.raises(ContextLength, match="audio tokens, at most 32") as caught:
        engine.answer(audio=np.zeros(16000 * 9, np.float32))
    assert caught.value.param == "audio"
    with pytest.raises(MissingModule) as caught:
        engine.read("a.png")
    assert caught.value.param == "ocr"
    for call, param in (
        (lambda: engine.answer(3), "text"),
        (lambda: engine.answer(messages=[{"role": "king", "content": "x"}]), "messages"),
        (lambda: engine.answer(messages=[{"role": "assistant", "content": "x"}]), "messages"),
        (lambda: engine.answer("x", system_prompt="y", messages=[{"role": "user", "content": "x"}]), "messages"),
        (lambda: engine.answer("x", truncate="yes"), "truncate"),
        (lambda: engine.answer("x\udcff"), "text"),
        (lambda: engine.answer(" "), "text"),
        (lambda: engine.generate_speech("x", voice=9), "voice"),
        (lambda: engine.generate_speech(" "), "text"),
        (lambda: engine.transcribe(torch.zeros(16000), beams=0), "beams"),
        (lambda: engine.transcribe(torch.zeros(16000), lm_weight=1.0), "lm_weight"),
        (lambda: engine.transcribe(torch.zeros(16000), beams=2, lm=__file__), "lm"),
        (lambda: engine.answer_batch("x"), "requests"),
    ):
        with pytest.raises(InvalidOption) as caught:
            call()
        assert caught.value.param == param, caught.value
