"""The words that an audio encoder reads among the Thinker's audio tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from muomni.evaluation.controls import media_controls
from muomni.frontends.heard_words import WordReader
from muomni.models.audio import Audio
from muomni.models.omni import MediaFeatures, Omni, merge_features, split_features
from muomni.models.outputs import AudioOutput
from muomni.models.projector import AudioProjector
from muomni.models.thinker import Thinker
from tests.device.fake_cuda import fake_cuda


def projector(**options):
    torch.manual_seed(0)
    return AudioProjector(dim=6, out_dim=8, stack=2, words=True, **options)


def frames(lengths, dtype=torch.float32):
    hidden = torch.randn(len(lengths), max(lengths), 6, dtype=dtype)
    return AudioOutput(hidden=hidden, lengths=torch.tensor(lengths), logits=hidden[..., :0])


def thinker(vocab=40):
    torch.manual_seed(1)
    return Thinker(
        vocab_size=vocab,
        dim=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        ff_dim=16,
        max_length=64,
        embedding_scale=2.0,
    )


@given(st.lists(st.lists(st.integers(0, 2**21 - 2), max_size=9), min_size=1, max_size=4))
def test_pieces_come_back_in_any_precision_cut_at_the_clips_length(pieces):
    lengths = [7, 12, 3, 10][: len(pieces)]
    for dtype in (torch.float32, torch.bfloat16):
        pooled, tokens = projector().pool(frames(lengths, dtype), pieces=pieces)
        assert pooled.dtype == dtype
        found = projector().pieces(pooled)
        for row, each, count in zip(found, pieces, tokens.tolist(), strict=True):
            most = each[:count]
            assert row.tolist() == most + [-1] * (len(row) - len(most))


def test_the_first_tokens_are_the_pieces_and_the_others_sound():
    """By hand: two pieces in a clip of three tokens; the sound is that of a projector without words."""
    heard, plain = projector(), AudioProjector(dim=6, out_dim=8, stack=2)
    plain.load_state_dict(heard.state_dict())
    model = Omni(thinker=thinker(), audio_projector=heard)
    clip = frames([6])
    pooled, lengths = heard.pool(clip, pieces=[[11, 30]])
    _, tokens = model.project(MediaFeatures(audios=pooled, audio_lengths=lengths))
    sound = plain(plain.pool(clip)[0])[0]
    words = model.thinker.embedding(torch.tensor([11, 30]))
    assert torch.allclose(words, 2 * model.thinker.embedding.weight[[11, 30]]), "scaled, as typed words are"
    assert torch.allclose(tokens, torch.cat([words, sound[2:]]))


def test_blind_hears_no_word_and_shuffled_those_of_another():
    model = Omni(thinker=thinker(), audio_projector=projector())
    pooled, lengths = model.audio_projector.pool(frames([4, 4]), pieces=[[5], [6, 7]])
    controls = media_controls(MediaFeatures(audios=pooled, audio_lengths=lengths))
    assert model.audio_projector.pieces(controls["blind"].audios).tolist() == [[-1, -1], [-1, -1]]
    assert model.audio_projector.pieces(controls["shuffled"].audios).tolist() == [[6, 7], [5, -1]]


def test_words_survive_batches_of_other_clips():
    model = Omni(thinker=thinker(), audio_projector=projector())
    rows = []
    for length, pieces in ((7, [9, 8]), (3, [39])):
        pooled, lengths = model.audio_projector.pool(frames([length]), pieces=[pieces])
        rows.append(MediaFeatures(audios=pooled, audio_lengths=lengths))
    merged = model.project(merge_features(rows))[1]
    assert torch.allclose(merged, torch.cat([model.project(row)[1] for row in rows]))
    again = [model.project(each)[1] for each in split_features(merge_features(rows))]
    assert torch.allclose(merged, torch.cat(again))


def test_the_encoder_s_own_head_is_read():
    torch.manual_seed(0)
    audio = Audio(
        n_mels=8, num_symbols=99, channels=4, downsample=4, dim=6, num_layers=1, num_heads=1, ff_dim=8, conv_kernel=0
    ).eval()
    asked = []
    reader = WordReader(lambda text: asked.append(text) or [len(text)])
    model = Omni(thinker=thinker(), audio=audio, audio_projector=projector(), read_words=reader).eval()
    mel = torch.randn(1, 40, 8)
    features = model.encode(mel=mel, mel_lengths=torch.tensor([40]))
    assert len(asked) == 1 and model.audio_projector.pieces(features.audios)[0, 0] == len(asked[0])
    blank = torch.zeros(1, 5, 99)
    blank[..., 0] = 9
    assert reader(blank, torch.tensor([5])) == [[]], "nothing is heard"
    silent = Omni(thinker=thinker(), audio=audio, audio_projector=projector())
    with pytest.raises(ValueError, match="read_words= is missing"):
        silent.encode(mel=mel, mel_lengths=torch.tensor([40]))


def test_a_batch_s_words_are_read_from_a_gpu_in_one_transfer():
    reader = WordReader(lambda text: [len(text)])
    logits = torch.randn(2, 6, 99)
    clips = AudioOutput(hidden=torch.randn(2, 6, 6), lengths=torch.tensor([6, 3]), logits=logits)
    expected, _ = projector().pool(clips, pieces=reader(logits, clips.lengths))
    with fake_cuda() as gpu:
        there = AudioOutput(**{name: gpu.tensor(getattr(clips, name)) for name in ("hidden", "lengths", "logits")})
        module = gpu.move(projector())
        pooled, _ = module.pool(there, pieces=reader(there.logits, there.lengths))
        waits = gpu.counted()
    assert sum(waits.values()) == 1 and next(iter(waits)).startswith("tolist at muomni/frontends/char_vocab.py"), waits
    assert torch.equal(pooled.as_subclass(torch.Tensor), expected)
