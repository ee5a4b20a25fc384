"""Recognizer: batches equal single clips, files are aligned."""

import torch

from muomni.frontends.audio_io import write_audio
from muomni.frontends.char_vocab import encode_characters
from muomni.frontends.mel import MelSpec
from muomni.inference.asr.recognizer import Recognizer, greedy_texts
from muomni.models.audio import Audio
from muomni.models.outputs import AudioOutput

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)


def build(batch_size):
    torch.manual_seed(0)
    audio = Audio(
        n_mels=40, num_symbols=99, channels=4, downsample=4, dim=32, num_layers=1, num_heads=2, ff_dim=32, conv_kernel=3
    )
    torch.nn.init.normal_(audio.head.weight)
    return Recognizer(audio=audio, mel=MEL, batch_size=batch_size)


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


def test_files_are_aligned_in_seconds(tmp_path):
    write_audio(tmp_path / "clip.wav", 0.2 * torch.randn(16000), 16000)
    times = build(2).align([tmp_path / "clip.wav"], ["abc"])[0].times
    assert times.shape == (3,)
    assert (times.diff() > 0).all()
    assert 0 < times[0] < times[-1] < 1.0


def test_words_are_found_in_a_waveform():
    words = build(2).words(0.2 * torch.randn(16000), "ab c")
    assert [word for word, _, _ in words] == ["ab", "c"]
    assert 0 <= words[0][1] < words[0][2] <= words[1][1] < words[1][2] <= 1.1
    assert build(2).words(torch.randn(16000), "") == []


def test_clips_too_short_for_their_texts_are_told(tmp_path):
    """1600 samples are 10 frames of the spectrogram, 3 of the encoder; "aa" needs a blank between its letters."""
    recognizer, waveform = build(2), 0.2 * torch.randn(1600)
    write_audio(tmp_path / "clip.wav", waveform, 16000)
    for text, expected in (("abc", False), ("aa", False), ("aab", True), ("abcd", True)):
        assert recognizer.too_short([waveform], [text]) == [expected], text
        for align in (recognizer.align, recognizer.align_units):
            (clip,) = align([tmp_path / "clip.wav"], [text])
            assert clip.too_short == expected and clip.times.diff().min() >= 0
