"""Recogniser: batches equal single clips, alignment finds the characters."""

import torch

from muomni.frontends.audio_io import write_wav
from muomni.frontends.characters import encode_characters
from muomni.frontends.mel import MelSpec
from muomni.inference.recognise import Recogniser, align_characters, greedy_texts
from muomni.models.audio import Audio
from muomni.models.outputs import AudioOutput

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)


def build(batch_size):
    torch.manual_seed(0)
    audio = Audio(
        n_mels=40, num_symbols=99, channels=4, downsample=4, dim=32, num_layers=1, num_heads=2, ff_dim=32, conv_kernel=3
    )
    torch.nn.init.normal_(audio.head.weight)
    return Recogniser(audio=audio, mel=MEL, batch_size=batch_size)


def path_logits(path):
    """Logits (1, T, 99) whose most likely symbols are the path's."""
    return 9.0 * torch.nn.functional.one_hot(torch.tensor([path]), 99).float()


def test_greedy_texts_stop_at_the_clips_length():
    a, b = encode_characters("ab")
    output = AudioOutput(hidden=torch.empty(0), lengths=torch.tensor([4]), logits=path_logits([a, a, 0, b, b]))
    assert greedy_texts(output) == ["ab"]
    output.lengths[0] = 3
    assert greedy_texts(output) == ["a"]


def test_a_batch_hears_what_single_clips_say():
    clips = [0.2 * torch.randn(samples) for samples in (16000, 4800, 9000)]
    together, alone = build(3)(clips), build(1)(clips)
    assert together == alone
    assert len(set(alone)) > 1


def test_alignment_is_the_middle_of_each_run():
    a, b = encode_characters("ab")
    log_probs = path_logits([0, a, a, a, 0, b, 0, b, b, 0])[0].log_softmax(-1)
    assert align_characters(log_probs, [a, b, b]).tolist() == [2.0, 5.0, 7.5]


def test_alignment_under_bfloat16_is_the_same():
    """torchaudio's aligner refuses bfloat16, which is what autocast gives on some processors."""
    log_probs = torch.randn(12, 6).log_softmax(-1).bfloat16()
    assert torch.equal(align_characters(log_probs, [1, 2, 2]), align_characters(log_probs.float(), [1, 2, 2]))


def test_a_clip_too_short_for_its_text_is_spread_evenly():
    a, b = encode_characters("ab")
    assert align_characters(path_logits([0, a, b])[0].log_softmax(-1), [a, a, b]).tolist() == [0.5, 1.0, 1.5]


def test_files_are_aligned_in_seconds(tmp_path):
    write_wav(tmp_path / "clip.wav", 0.2 * torch.randn(16000), 16000)
    times = build(2).align([tmp_path / "clip.wav"], ["abc"])[0]
    assert times.shape == (3,)
    assert (times.diff() > 0).all()
    assert 0 < times[0] < times[-1] < 1.0
