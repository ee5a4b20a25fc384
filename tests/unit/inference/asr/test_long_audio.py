"""Windows are stitched into what the whole recording gives; cuts at silences lose nothing and double nothing."""

from itertools import pairwise

import pytest
import torch

from muomni.frontends.char_vocab import collapse_ctc
from muomni.inference.asr.long_audio import Windows, encode_windows, plan_windows, segment_at_silences, window_starts
from muomni.models.audio import Audio


def near_sighted(downsample=4):
    """An encoder that sees a few frames on each side: its attention says nothing, its convolutions do."""
    torch.manual_seed(0)
    audio = Audio(
        n_mels=20, num_symbols=30, channels=4, downsample=downsample, dim=16, num_layers=2, num_heads=2, ff_dim=32,
        conv_kernel=5,
    )  # fmt: skip
    for block in audio.encoder.transformer.blocks:
        torch.nn.init.zeros_(block.attention.out.weight)
        torch.nn.init.zeros_(block.attention.out.bias)
        torch.nn.init.normal_(block.conv.conv.weight, std=0.5)
    torch.nn.init.normal_(audio.head.weight)
    return audio.eval()


#: Frames of the encoder that reach one of its frames from each side: two kernels of 5, and the stem's one.
REACH = 2 * 2 + 1


def stitched_log_probs(audio, mel, *, length, overlap):
    plan = plan_windows(mel, downsample=audio.downsample, length=length, overlap=overlap, spans=None)
    return encode_windows(audio, plan, batch_size=3)


@torch.inference_mode()
@pytest.mark.parametrize("downsample", [4, 8])
@pytest.mark.parametrize("total", [7, 96, 400, 401, 403, 1003])
def test_windows_that_overlap_by_what_a_frame_sees_are_the_whole(downsample, total):
    audio = near_sighted(downsample)
    mel = torch.randn(total, 20)
    whole = audio(mel[None]).logits[0].log_softmax(-1)
    overlap = 2 * REACH * downsample
    stitched = stitched_log_probs(audio, mel, length=3 * overlap + 5, overlap=overlap)
    torch.testing.assert_close(stitched, whole, atol=1e-5, rtol=1e-5)
    assert collapse_ctc(stitched.argmax(-1).tolist()) == collapse_ctc(whole.argmax(-1).tolist())


@torch.inference_mode()
def test_without_an_overlap_they_are_not():
    audio, mel = near_sighted(), torch.randn(400, 20)
    whole = audio(mel[None]).logits[0].log_softmax(-1)
    stitched = stitched_log_probs(audio, mel, length=120, overlap=0)
    assert stitched.shape == whole.shape
    assert (stitched - whole).abs().max() > 0.1


@pytest.mark.parametrize("total", range(1, 60))
def test_windows_cover_all_and_each_brings_something_new(total):
    starts = window_starts(total, length=20, overlap=8)
    assert starts[0] == 0 and all(after - before == 12 for before, after in pairwise(starts))
    assert starts[-1] + 20 >= total
    assert len(starts) == 1 or total - starts[-1] > 8


def symbols(path):
    return (9.0 * torch.nn.functional.one_hot(torch.tensor(path), 5).float()).log_softmax(-1)


def test_a_pause_is_cut_in_its_middle():
    log_probs = symbols([0, 0, 0, 0, 1, 2, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    segments = segment_at_silences(log_probs, pause=4, max_frames=100)
    assert [(piece.begin, piece.end, piece.pause) for piece in segments] == [(0, 10, True), (10, 17, True)]
    assert len(segment_at_silences(log_probs, pause=5, max_frames=100)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_pieces_cover_everything_and_join_to_the_greedy_text(seed):
    generator = torch.Generator().manual_seed(seed)
    path = torch.randint(0, 5, (200,), generator=generator)
    path[torch.rand(200, generator=generator) < 0.3] = 0
    if seed % 3 == 0:
        path[60:110] = 0  # a silence longer than a piece may be
    log_probs = symbols(path.tolist())
    segments = segment_at_silences(log_probs, pause=4, max_frames=12)
    assert segments[0].begin == 0 and segments[-1].end == 200
    assert all(before.end == after.begin for before, after in pairwise(segments))
    assert all(piece.begin < piece.end for piece in segments)
    joined = [symbol for piece in segments for symbol in collapse_ctc(path[piece.begin : piece.end].tolist())]
    assert joined == collapse_ctc(path.tolist())
    assert len(segments) > 8


def test_speech_without_any_silence_stays_whole():
    assert len(segment_at_silences(symbols([1, 2] * 50), pause=4, max_frames=10)) == 1


def test_windows_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="overlap < length"):
        Windows(length=2.0, overlap=2.0, pause=0.5, max_segment=10.0)
