"""Durations guide the Talker: which unit each frame speaks, how far into it, and where speech ends."""

import pytest
import torch

from muomni.models.aligned_text import AlignedText, log_durations, with_silences
from tests.unit.models.test_talker import build, inputs


def test_silences_are_units_around_each_text():
    units, lengths = with_silences(torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([3, 1]), first=99)
    assert units.tolist() == [[99, 5, 6, 7, 100], [99, 8, 100, 0, 0]]
    assert lengths.tolist() == [5, 3]


def spoken(ends, lengths, *, count):
    """Number of the unit at both instants of each frame, its progress, and the mark of the last frame."""
    aligned = AlignedText(1)
    torch.nn.init.zeros_(aligned.progress.weight), torch.nn.init.zeros_(aligned.progress.bias)
    aligned.mix.weight.data, aligned.mix.bias.data = torch.tensor([[10.0, 1.0]]), torch.zeros(1)
    units = torch.arange(1.0, 1 + len(ends[0])).expand(len(ends), -1)[..., None]
    told = aligned(units, torch.tensor(ends), torch.tensor(lengths), count=count)
    return told[..., 0].detach().round().int().tolist(), told[..., 1].detach().tolist()


def test_a_frame_is_told_the_units_of_its_two_instants():
    """By hand: units of 1.5, .5, 0 and 2.2 frames. The one without a duration is not spoken."""
    which, stop = spoken([[1.5, 2.0, 2.0, 4.2]], [4], count=6)
    assert which == [[11, 12, 44, 44, 44, 44]]
    assert stop == [[-1, -1, -1, 1, 1, 1]], "4.2 frames are 4: the fourth is the last"


def test_padding_is_no_unit():
    alone = spoken([[1.0, 3.0]], [2], count=5)
    assert spoken([[1.0, 3.0, 9.0, 9.0]], [2], count=5) == alone
    assert alone == ([[11, 22, 22, 22, 22]], [[-1, -1, 1, 1, 1]])


def test_speech_has_a_frame_at_least():
    assert spoken([[0.1, 0.2]], [2], count=2)[1] == [[1, 1]]


def test_the_share_of_a_unit_is_told():
    aligned = AlignedText(1)
    aligned.progress.weight.data, aligned.progress.bias.data = torch.tensor([[1.0, 0.0]]), torch.zeros(1)
    aligned.mix.weight.data, aligned.mix.bias.data = torch.tensor([[1.0, 0.0]]), torch.zeros(1)
    told = aligned(torch.zeros(1, 2, 1), torch.tensor([[1.0, 5.0]]), torch.tensor([2]), count=3)[0, :, 0]
    torch.testing.assert_close(told, torch.tensor([0.25, 0.0625, 0.3125]))


def test_durations_are_bounded():
    assert torch.equal(log_durations(torch.tensor([0.0, 100.0])).round(), torch.tensor([1.0, 250.0]))


def test_every_unit_is_spoken_in_turn():
    """Monotone by construction, whatever the durations."""
    torch.manual_seed(0)
    for _ in range(20):
        ends = (torch.rand(1, 12) * 3).cumsum(1)
        which, stop = spoken(ends.tolist(), [12], count=40)
        assert which[0] == sorted(which[0]) and which[0][0] >= 11 and which[0][-1] == 132
        assert stop[0] == sorted(stop[0]) and stop[0].count(-1.0) == max(round(float(ends[0, -1])), 1) - 1


@torch.no_grad()
def test_speech_ends_with_the_durations():
    talker, (text, lengths, codes, speakers) = build(alignment="durations"), inputs()
    talker.text.step.weight.mul_(0.1)
    total = talker.num_frames(text, lengths, speakers=speakers).round()
    out = talker(text, lengths, codes[:, :1].expand(-1, 80, -1), speakers=speakers)
    assert ((out.stop > 0).float().argmax(1) + 1 == total).all()
    assert talker.stop is None and not any(name.startswith("stop") for name in talker.state_dict())


@torch.no_grad()
def test_a_duration_needs_no_more_than_the_next_characters():
    """Two blocks of kernel 5 read four: a text that is still being written is spoken as the whole up to there."""
    talker = build(alignment="durations", text_layers=2, text_kernel=5)
    talker.text.step.weight.mul_(0.1)
    text = torch.randint(1, 99, (1, 12))
    whole = talker.times(text, torch.tensor([12]), speakers=torch.zeros(1).long())
    known = talker.times(text[:, :9], torch.tensor([9]), speakers=torch.zeros(1).long())
    torch.testing.assert_close(known[:, :5], whole[:, :5])
    assert not torch.allclose(known, whole[:, :9])


def test_true_ends_guide_in_training():
    talker, (text, lengths, codes, speakers) = build(alignment="durations"), inputs()
    ends = torch.arange(1.0, 12).expand(2, -1) * 0.6
    first = talker(text, lengths, codes, speakers=speakers, char_times=ends)
    other = talker(text, lengths, codes, speakers=speakers, char_times=ends + 1)
    assert not torch.allclose(first.logits, other.logits)
    first.logits.sum().backward()
    silence = talker.text.embedding.weight.grad[99:]
    assert silence.shape == (2, 32) and silence.abs().sum() > 0


def test_an_unknown_alignment_is_named():
    with pytest.raises(ValueError, match="alignment=maybe: available are free, durations"):
        build(alignment="maybe")
