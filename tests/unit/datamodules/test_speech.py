"""Speech data: mels and their cache, speakers, augmentation, batches."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.augment import MelAugment, stretch
from datamodules.char_vocab import normalized_rows
from datamodules.speech import SpeechData
from muomni.frontends.audio_io import read_audio, write_audio
from muomni.frontends.char_vocab import decode_characters, encode_characters
from muomni.frontends.mel import LOG_STD, LogMel, MelSpec
from muomni.frontends.text_normalizer import LETTERS, normalize_text

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
AUGMENT = MelAugment(
    speed=0.2, warp=0.1, gain=6.0, noise=0.3, time_masks=1, time_width=10, freq_masks=1, freq_width=8
)  # fmt: skip


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for index in range(6):
        samples = 3200 + 1600 * index
        write_audio(tmp_path / f"{index}.wav", 0.3 * torch.sin(torch.arange(samples) * 0.05 * (index + 1)), 16000)
        kind = "sentence" if index % 2 else "digits"
        rows.append({"audio": f"{index}.wav", "text": f"Text {index}", "speaker": index % 3 + 8, "kind": kind})
    path = tmp_path / "speech.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build(manifest, **options):
    how = {"mel": MEL, "cache": None, "augment": None, "speakers": None, "test_kinds": None, "max_seconds": 60.0}
    how |= {
        "lowercase": True,
        "in_words": False,
        "train": str(manifest),
        "val": str(manifest),
        "test": {"test": str(manifest)},
    }
    how |= {"batch_size": 2, "eval_batch_size": 3, "num_workers": 0, "seed": 0}
    return SpeechData(**(how | options))


def test_a_batch_holds_the_clips(manifest):
    data = build(manifest)
    samples = data.samples("val")
    batch = data.collate([samples.item(0, -1), samples.item(5, -1)])
    assert batch.mel_lengths.tolist() == [20, 70]
    assert batch.mel.shape == (2, 70, 40)
    mel = LogMel(MEL)(read_audio(manifest.parent / "5.wav", 16000))
    torch.testing.assert_close(batch.mel[1], mel, atol=2e-3, rtol=2e-3)
    assert batch.mel[0, 20:].abs().sum() == 0
    assert batch.texts == ["text 0", "text 5"]
    assert batch.characters[1].tolist() == encode_characters("text 5")
    assert batch.speakers.tolist() == [0, 2]
    assert batch.audio[1].endswith("5.wav")


def test_texts_in_words_are_those_of_inference(manifest, caplog):
    data = build(manifest, in_words=True)
    assert [data.samples("val").item(i, -1).text for i in (0, 5)] == ["text zero", "text five"]
    rows = [{"id": str(number), "text": "7 - 2 = 5"} for number in range(200)] + [{"id": "a:1", "text": "日本 hello"}]
    kept = normalized_rows(rows, what="m.jsonl")
    assert len(kept) == 200
    assert kept[0]["text"] == normalize_text(rows[0]["text"], LETTERS).text == "seven minus two is five"
    assert "m.jsonl: skipped 1 of 201 samples; the first: a:1: '日本 hello' cannot be spoken" in caplog.text
    with pytest.raises(ValueError, match="1 of 1 samples cannot be used.*holds nothing to speak"):
        normalized_rows([{"id": "0", "text": "..."}], what="m.jsonl")


def test_an_equalizer_is_smooth_bounded_and_off_by_default():
    off = replace(AUGMENT, speed=0.0, warp=0.0, gain=0.0, noise=0.0, time_masks=0, freq_masks=0)
    mel = np.random.default_rng(1).normal(size=(50, 40)).astype(np.float32)
    np.testing.assert_array_equal(off(mel, np.random.default_rng(0)), mel)
    loud = np.zeros((2, 40), dtype=np.float32)
    loud[1] = -9.0  # far below, so that the lower bound does not matter
    curve = replace(off, equalizer=10.0)(loud, np.random.default_rng(0))[0]
    assert 3 < np.abs(curve).max() / (np.log(10) / 20 / LOG_STD) <= 10.01
    assert (np.abs(np.diff(curve, n=2)) > 1e-4).sum() <= 6  # straight lines between a few values


def test_the_cache_gives_the_same_and_notices_a_changed_file(manifest, tmp_path):
    cache = tmp_path / "mels"
    first = build(manifest, cache=str(cache)).samples("val").item(3, -1).mel
    assert len(list(cache.iterdir())) == 1
    np.testing.assert_array_equal(first, build(manifest, cache=str(cache)).samples("val").item(3, -1).mel)
    write_audio(manifest.parent / "3.wav", torch.zeros(4000), 16000)
    assert build(manifest, cache=str(cache)).samples("val").item(3, -1).mel.shape == (25, 40)
    assert {path.name for path in cache.rglob("*") if path.is_file()} == {"frames.npy", "ends.npy"}


def test_the_cache_notices_other_sound_of_the_same_length_and_time(manifest, tmp_path):
    """As of an archive that is unpacked again: every file has the size and the time that it had."""
    clip, cache = manifest.parent / "3.wav", str(tmp_path / "mels")
    before, state = build(manifest, cache=cache).samples("val").item(3, -1).mel, clip.stat()
    write_audio(clip, torch.zeros(3200 + 1600 * 3), 16000)
    os.utime(clip, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert clip.stat().st_size == state.st_size and clip.stat().st_mtime_ns == state.st_mtime_ns
    assert not np.array_equal(before, build(manifest, cache=cache).samples("val").item(3, -1).mel)


def test_speakers_kinds_and_length_are_filters(manifest, caplog):
    data = build(manifest, speakers=[9], test_kinds=["sentence"], max_seconds=0.4)
    assert [data.samples("val").item(i, -1).text for i in range(2)] == ["text 1", "text 4"]
    assert len(data.samples("train")) == 1
    assert len(build(manifest, test_kinds=["digits"]).samples("test/test")) == 3
    for line in (
        "speech.jsonl: 4 of 6 rows are left out: their speaker is not 9 (datamodule.speakers)",
        "speech.jsonl: 1 of 2 rows are left out: longer than 0.4 s (datamodule.max_seconds)",
        "speech.jsonl: 3 of 6 rows are left out: their kind is not digits (datamodule.test_kinds)",
    ):
        assert line in caplog.text
    with pytest.raises(ValueError, match="no clip of the speakers 77"):
        build(manifest, speakers=[77]).samples("train")


def test_held_out_speakers_are_val_and_test_of_the_same_manifest_alone(manifest, tmp_path, caplog):
    other = tmp_path / "other.jsonl"
    other.write_text(manifest.read_text())
    data = build(manifest, held_out=[9], test={"test": str(manifest), "other": str(other)})

    def texts(split):
        samples = data.samples(split)
        return [samples.item(index, -1).text for index in range(len(samples))]

    assert texts("train") == ["text 0", "text 2", "text 3", "text 5"]
    assert texts("val") == texts("test/test") == ["text 1", "text 4"]
    assert len(texts("test/other")) == 6
    data.val = f"{manifest.parent}/./{manifest.name}"  # the same file by another name
    data._sets.clear()
    assert texts("val") == ["text 1", "text 4"]
    assert len(build(manifest, held_out=[77]).samples("train")) == 6
    assert "no clip is of the speakers 77 (datamodule.held_out)" in caplog.text
    for split, names, way_out in (("val", [77], "; val_split=null .*of training"), ("train", [8, 9, 10], "")):
        with pytest.raises(ValueError, match=f"datamodule.held_out=.*its speakers are 10, 8, 9{way_out}$"):
            build(manifest, held_out=names).samples(split)


def test_an_unreadable_clip_is_an_error_that_names_it(manifest):
    (manifest.parent / "2.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"1 of 6 samples cannot be used.*2\.wav"):
        build(manifest).samples("train")


def test_augmentation_is_a_function_of_seed_epoch_and_index(manifest):
    samples = build(manifest, augment=AUGMENT).samples("train")
    first, again, later = samples.item(4, 0).mel, samples.item(4, 0).mel, samples.item(4, 1).mel
    np.testing.assert_array_equal(first, again)
    assert first.shape != later.shape or not np.allclose(first, later)
    np.testing.assert_array_equal(samples.item(4, -1).mel, build(manifest).samples("train").item(4, 0).mel)


def test_stretch_interpolates():
    x = np.array([[0.0], [2.0], [4.0]], dtype=np.float32)
    assert stretch(x, np.array([0.0, 0.5, 2.0])).ravel().tolist() == [0.0, 1.0, 4.0]


def test_augmented_mels_stay_finite_and_keep_their_bins():
    rng = np.random.default_rng(0)
    for frames in (1, 2, 50):
        mel = AUGMENT(rng.normal(size=(frames, 40)).astype(np.float32), rng)
        assert mel.dtype == np.float32
        assert mel.shape[1] == 40
        assert np.isfinite(mel).all()


def test_more_speakers_than_a_talker_has_are_refused_by_name(manifest):
    with pytest.raises(ValueError, match=r"speech\.jsonl: 3 speakers \(8, 9, 10\) and a Talker of 1: .*num_speakers=3"):
        build(manifest, most_speakers=1).samples("train")
    with pytest.raises(ValueError, match="2 speakers"):
        build(manifest, most_speakers=1, speakers=[8, 9]).samples("val")
    assert len(build(manifest, most_speakers=3).samples("train")) == 6


def test_a_manifest_in_another_script_is_refused_or_learnt(manifest, caplog):
    rows = [json.loads(line) | {"text": "Привет, как дела"} for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    data = build(manifest)
    data.samples("train")
    assert "speech.jsonl: 78 of 96 characters cannot be written ('" in caplog.text
    with pytest.raises(ValueError, match=r"over 1 %.*speech\.jsonl: 78 of 96"):
        data.read("fit")
    data.read("test")  # what is measured may hold anything, and is said
    learnt = build(manifest, characters="data")
    learnt.read("fit")
    assert learnt.characters == " ,авдеиклпрт"
    ids = learnt.samples("val").item(0, -1).characters
    assert decode_characters(ids, learnt.characters) == "привет, как дела" and max(ids) <= len(learnt.characters)
    build(manifest, characters="any").read("fit")


def test_clips_too_short_for_their_texts_are_counted(manifest, caplog):
    """20 to 70 frames: with 4 a symbol the first has 5, and "text 0" needs 6."""
    build(manifest, symbol_frames=4).samples("train")
    assert "speech.jsonl: 1 of 6 rows are left out: their texts need more than a symbol in 0.04 s" in caplog.text


def test_what_a_talker_says_in_another_script_keeps_its_characters(manifest):
    rows = [json.loads(line) | {"text": "Дом 7, сад"} for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    data = build(manifest, characters="data", in_words=True)
    assert data.samples("train").item(0, -1).text == "дом 7, сад" and data.characters == " ,7адмос"
