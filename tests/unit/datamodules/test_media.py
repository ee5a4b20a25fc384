"""Images and recordings inside other files: every datamodule draws what it draws from the files themselves."""

import functools
import json
import os
import pickle
import tarfile

import pytest
import torch

import datamodules.base
from callbacks.samples import write_samples
from datamodules.manifests import read_manifest
from datamodules.media import FileSpan, StoredMedia, media_identity, open_media
from datamodules.mel_cache import cached_mels
from muomni.frontends.audio_io import read_audio, write_audio
from muomni.frontends.image import read_image
from tests.unit.datamodules import test_image_text, test_ocr, test_sft, test_speech, test_vocoder
from tests.unit.datamodules.test_image_text import folder as captions
from tests.unit.datamodules.test_ocr import manifest as writing
from tests.unit.datamodules.test_sft import folder as conversations
from tests.unit.datamodules.test_speech import manifest as speech
from tests.unit.datamodules.test_vocoder import manifest as clips

__all__ = ["captions", "clips", "conversations", "speech", "writing"]


def archive(folder):
    """The folder's media in a tar: path -> its member."""
    path = folder / "media.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            if file.suffix in (".png", ".wav"):
                tar.add(file, file.name)
    with tarfile.open(path) as tar:
        members = {info.name: FileSpan(str(path), info.offset_data, info.size, info.name) for info in tar}
    return {str(folder / name): member for name, member in members.items()}


def replaced(value, members):
    if isinstance(value, dict):
        return {key: replaced(each, members) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, members) for each in value]
    return members.get(value, value) if isinstance(value, str) else value


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return str(one) == str(other)


@pytest.mark.parametrize(
    ("fixture", "make"),
    [
        ("speech", test_speech.build),
        ("clips", test_vocoder.build),
        ("writing", functools.partial(test_ocr.make, max_characters=12)),
        ("captions", test_image_text.make),
        ("conversations", test_sft.make),
    ],
)
def test_a_datamodule_draws_the_same_from_a_tar(request, monkeypatch, fixture, make):
    source = request.getfixturevalue(fixture)
    folder = source if source.is_dir() else source.parent
    plain = make(source)
    splits = "train", f"test/{plain.test_splits[0]}"
    drawn = {split: plain.samples(split) for split in splits}
    members = archive(folder)
    read = lambda *args, **options: replaced(read_manifest(*args, **options), members)  # noqa: E731
    monkeypatch.setattr(datamodules.base, "read_manifest", read)
    packed = make(source)
    for split in splits:
        one, two = drawn[split], packed.samples(split)
        assert len(one) == len(two) > 0
        batches = [
            data.collate([each.item(n, -1) for n in range(len(each))]) for data, each in ((plain, one), (packed, two))
        ]
        media = {"audio", "paths", "image_keys", "audio_keys"} & {*batches[0].__slots__}
        for field in {*batches[0].__slots__} - media - {"mask"}:
            assert same(getattr(batches[0], field), getattr(batches[1], field)), field
        for field in media:
            assert getattr(batches[1], field) == [members[path] for path in getattr(batches[0], field)]


def test_a_member_is_read_named_and_pickled(tmp_path):
    write_audio(tmp_path / "a.wav", 0.3 * torch.sin(torch.arange(4000) * 0.05), 16000)
    (member,) = archive(tmp_path).values()
    assert str(member) == f"{tmp_path}/media.tar/a.wav" and pickle.loads(pickle.dumps(member)) == member
    assert isinstance(member, StoredMedia) and {member: 1}[pickle.loads(pickle.dumps(member))] == 1
    torch.testing.assert_close(read_audio(member, 16000), read_audio(tmp_path / "a.wav", 16000), rtol=0, atol=0)
    for media in (member, str(tmp_path / "a.wav")):
        with open_media(media) as file:
            assert file.read() == (tmp_path / "a.wav").read_bytes()
    (row,) = write_samples(tmp_path / "samples", [{"split": "test", "id": "a", "audio": member}])
    assert row["audio"] == "0-test.wav" and json.loads((tmp_path / "samples/samples.jsonl").read_text()) == row


def test_a_tar_that_is_cut_off_is_named(tmp_path, writing):
    member = archive(tmp_path)[str(tmp_path / "c.png")]
    os.truncate(member.container, member.offset + 20)
    with pytest.raises(ValueError, match=rf"media\.tar: cut off: it ends inside c\.png \({member.length} bytes from"):
        read_image(member)


def test_caches_notice_that_a_container_changed(tmp_path, speech):
    members = archive(tmp_path)
    rows = [{"id": name, "audio": member} for name, member in members.items()]
    before = media_identity(rows[0]["audio"])
    first = cached_mels(rows, test_speech.MEL, cache=str(tmp_path / "cache"), what="x")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    again = cached_mels(rows, test_speech.MEL, cache=str(tmp_path / "cache"), what="x")
    assert (first[3] == again[3]).all() and len(list((tmp_path / "cache").iterdir())) == 1
    os.utime(tmp_path / "media.tar", (1, 1))
    assert media_identity(rows[0]["audio"]) != before
    cached_mels(rows, test_speech.MEL, cache=str(tmp_path / "cache"), what="x")
    assert len(list((tmp_path / "cache").iterdir())) == 2
