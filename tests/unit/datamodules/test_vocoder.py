"""Sounds with their mels: pieces to train on, whole clips to measure with."""

import json

import numpy as np
import pytest
import torch

from datamodules.vocoder import VocoderData
from muomni.frontends.audio_io import read_audio, write_audio
from muomni.frontends.mel import LogMel, MelSpec

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for index in range(4):
        samples = 100 + 3200 * index  # the first is shorter than a frame
        noise = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(index))
        write_audio(tmp_path / f"{index}.wav", noise, 16000)
        rows.append({"id": f"c{index}", "audio": f"{index}.wav", "text": f"Text {index} ", "kind": "ab"[index % 2]})
    path = tmp_path / "speech.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build(manifest, **options):
    how = {"mel": MEL, "seconds": 0.25, "gain": 0.0, "codec_share": 0.0, "test_kinds": None, "test_clips": None}
    how |= {"memory_mb": 10, "train": str(manifest), "val": str(manifest), "test": {"test": str(manifest)}}
    how |= {"batch_size": 2, "eval_batch_size": 3, "num_workers": 0, "seed": 0}
    return VocoderData(**(how | options))


def test_a_pieces_mel_is_that_of_the_whole_clip(manifest):
    """The frames at its edges too, and at the clip's own ends."""
    data = build(manifest)
    clip = read_audio(manifest.parent / "3.wav", 16000)
    mel, samples = LogMel(MEL)(clip), data.samples("train")
    starts = set()
    for epoch in range(12):
        batch = data.collate([samples.item(2, epoch)])
        assert batch.mel.shape == (1, 25, 40) and batch.waveform.shape == (1, 4000)
        (start,) = [s for s in range(len(mel) - 24) if torch.allclose(mel[s : s + 25], batch.mel[0], atol=2e-2)]
        torch.testing.assert_close(batch.waveform[0], clip[160 * start : 160 * (start + 25)], atol=1e-4, rtol=0)
        starts.add(start)
    assert len(starts) > 6


def test_clips_that_are_left_out_are_counted(manifest, caplog):
    data = build(manifest, test_kinds=["a"], test_clips=1)
    assert [len(data.samples(kind)) for kind in ("train", "test/test")] == [3, 0]
    for line in (
        "1 of 4 rows are left out: shorter than a frame, 10 ms",
        "2 of 4 rows are left out: their kind is not a (datamodule.test_kinds)",
        "1 of 2 rows are left out: only the first are measured (datamodule.test_clips=1)",
    ):
        assert f"speech.jsonl: {line}" in caplog.text


def test_a_draw_is_a_function_of_seed_epoch_and_index(manifest):
    def draws(seed, epoch):
        samples = build(manifest, seed=seed, gain=6.0, codec_share=0.5).samples("train")
        return [samples.item(index, epoch) for index in range(3)]

    for a, b in zip(draws(0, 3), draws(0, 3), strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        assert a.through_codec == b.through_codec
    assert any(not np.array_equal(a.samples, b.samples) for a, b in zip(draws(0, 3), draws(0, 4), strict=True))
    assert any(not np.array_equal(a.samples, b.samples) for a, b in zip(draws(0, 3), draws(1, 3), strict=True))


def test_the_level_changes_within_its_bounds(manifest):
    plain, loud = (build(manifest, gain=gain).samples("train") for gain in (0.0, 6.0))
    ratios = [float(np.abs(loud.item(1, e).samples).max() / np.abs(plain.item(1, e).samples).max()) for e in range(40)]
    assert 0.5 < min(ratios) < 0.8 and 1.3 < max(ratios) < 2.0


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 8, 32), (1.0, 40, 40)])
def test_so_many_pieces_go_through_the_codec(manifest, share, low, high):
    samples = build(manifest, codec_share=share).samples("train")
    assert low <= sum(samples.item(0, epoch).through_codec for epoch in range(40)) <= high


def test_clips_shorter_than_a_frame_are_left_out_and_short_ones_end_in_silence(manifest):
    data = build(manifest, seconds=0.5)
    samples = data.samples("train")
    assert len(samples) == 3
    batch = data.collate([samples.item(0, 0)])  # 3300 samples of 8000
    assert batch.waveform.shape == (1, 8000) and not batch.waveform[0, 3300:].any() and batch.waveform[0, :3300].any()


def test_a_test_gives_whole_clips_with_their_mels(manifest):
    data = build(manifest)
    samples = data.samples("test/test")
    batch = data.collate([samples.item(0, -1), samples.item(2, -1)])
    assert batch.mel_lengths.tolist() == [20, 60]
    clip = read_audio(manifest.parent / "1.wav", 16000)
    torch.testing.assert_close(
        batch.mel[0, :20], LogMel(MEL)(clip), atol=2e-2, rtol=1e-2
    )  # sees the 100 samples behind
    torch.testing.assert_close(batch.waveform[0, :3200], clip[:3200], atol=1e-4, rtol=0)
    assert not batch.waveform[0, 3300:].any()
    assert batch.texts == ["Text 1 ", "Text 3 "] and batch.sample_ids == ["c1", "c3"]


def test_kinds_and_number_of_test_clips(manifest):
    assert len(build(manifest, test_kinds=["b"]).samples("test/test")) == 2
    assert len(build(manifest, test_clips=2).samples("test/test")) == 1  # the other is shorter than a frame
    with pytest.raises(ValueError, match=r"no clip of the kinds \['c'\]"):
        build(manifest, test_kinds=["c"]).samples("test/test")


def test_a_piece_of_no_frames_is_refused(manifest):
    with pytest.raises(ValueError, match=r"datamodule.seconds=0.001"):
        build(manifest, seconds=0.001)
