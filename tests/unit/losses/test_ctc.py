"""CTC: value, clips that are too short; the consistency of two views."""

import torch
import torch.nn.functional as F

from muomni.losses.ctc import consistency_loss, ctc_loss, frames_needed

TARGETS = torch.tensor([[1, 2, 2, 3], [4, 4, 0, 0]])
LENGTHS = torch.tensor([4, 2])


def test_frames_needed_counts_blanks_between_equal_neighbours():
    assert frames_needed(TARGETS, LENGTHS).tolist() == [5, 3]


def test_equals_torch_a_character():
    logits = torch.randn(2, 9, 6)
    ours = ctc_loss(logits, torch.tensor([9, 7]), TARGETS, LENGTHS)
    theirs = F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), TARGETS, torch.tensor([9, 7]), LENGTHS, reduction="sum")
    torch.testing.assert_close(ours.loss, theirs / 6)
    assert not ours.too_short.any()


def test_a_clip_that_is_too_short_is_named_and_left_out():
    logits = torch.randn(2, 9, 6, requires_grad=True)
    result = ctc_loss(logits, torch.tensor([9, 2]), TARGETS, LENGTHS)
    assert result.too_short.tolist() == [False, True]
    alone = ctc_loss(logits[:1], torch.tensor([9]), TARGETS[:1], LENGTHS[:1])
    torch.testing.assert_close(result.loss, alone.loss)
    result.loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].abs().sum() == 0


def test_nothing_left_gives_zero():
    logits = torch.randn(2, 2, 6, requires_grad=True)
    result = ctc_loss(logits, torch.tensor([2, 2]), TARGETS, LENGTHS)
    result.loss.backward()
    assert result.loss == 0
    assert logits.grad.abs().sum() == 0


def test_consistency_is_the_mean_divergence_of_the_views_a_character():
    logits, lengths, characters = torch.randn(4, 5, 6), torch.tensor([5, 3, 5, 3]), torch.tensor([4, 2, 4, 2])
    p, q = logits.softmax(-1).chunk(2)
    both = (p * (p / q).log() + q * (q / p).log()).sum(-1) / 2
    torch.testing.assert_close(consistency_loss(logits, lengths, characters), (both[0].sum() + both[1, :3].sum()) / 6)
    assert consistency_loss(logits[:2].repeat(2, 1, 1), lengths, characters).abs() < 1e-6


def test_padding_and_clips_without_characters_do_not_matter_to_the_consistency():
    logits, lengths = torch.randn(4, 5, 6, requires_grad=True), torch.tensor([5, 2, 5, 2])
    consistency_loss(logits, lengths, torch.zeros(4, dtype=torch.long)).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[[1, 3], 2:].abs().sum() == 0
    assert logits.grad[0].abs().sum() > 0


def test_smoothing_adds_the_cross_entropy_with_the_uniform_distribution_of_valid_frames():
    logits, lengths = torch.randn(2, 9, 6), torch.tensor([9, 7])
    plain = ctc_loss(logits, lengths, TARGETS, LENGTHS).loss
    assert torch.equal(ctc_loss(logits, lengths, TARGETS, LENGTHS, label_smoothing=0.0).loss, plain)
    frames = torch.cat([logits[0], logits[1, :7]])
    uniform = -frames.log_softmax(-1).mean()
    smooth = ctc_loss(logits, lengths, TARGETS, LENGTHS, label_smoothing=0.1).loss
    torch.testing.assert_close(smooth, 0.9 * plain + 0.1 * uniform)


def test_smoothing_leaves_out_a_clip_that_is_too_short():
    logits = torch.randn(2, 9, 6)
    both = ctc_loss(logits, torch.tensor([9, 2]), TARGETS, LENGTHS, label_smoothing=0.1).loss
    alone = ctc_loss(logits[:1], torch.tensor([9]), TARGETS[:1], LENGTHS[:1], label_smoothing=0.1).loss
    torch.testing.assert_close(both, alone)
