"""InfoNCE and its two similarities."""

import math

import pytest
import torch
import torch.nn.functional as F

from muomni.losses.contrastive import cosine, info_nce, late_interaction


def test_chance_is_log_of_the_batch_and_a_perfect_match_is_zero():
    assert info_nce(torch.zeros(8, 8), torch.tensor(10.0)).item() == pytest.approx(math.log(8))
    assert info_nce(torch.eye(8), torch.tensor(100.0)).item() < 1e-6


def test_both_directions_count():
    similarity = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # captions: the second finds nobody
    one, other = F.cross_entropy(similarity, torch.arange(2)), F.cross_entropy(similarity.T, torch.arange(2))
    assert info_nce(similarity, torch.tensor(1.0)) == (one + other) / 2 and one != other


def test_cosine_ignores_length():
    pictures, captions = torch.randn(3, 4), torch.randn(5, 4)
    assert torch.allclose(cosine(pictures, captions), cosine(7 * pictures, 0.1 * captions), atol=1e-6)


def test_late_interaction_is_the_mean_of_each_words_best_patch():
    patches, tokens = torch.randn(3, 5, 4), torch.randn(2, 6, 4)
    keep = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    found = late_interaction(patches, tokens, keep)
    for a in range(3):
        for c in range(2):
            each = F.normalize(tokens[c][keep[c]], dim=-1) @ F.normalize(patches[a], dim=-1).T
            assert found[a, c].item() == pytest.approx(each.max(dim=1).values.mean().item(), abs=1e-5)


def test_padding_has_no_part_in_it():
    patches, tokens = torch.randn(2, 5, 4), torch.randn(2, 6, 4)
    keep = torch.arange(6) < torch.tensor([[4], [6]])
    before = late_interaction(patches, tokens, keep)
    tokens[0, 4:] = 99.0
    assert torch.equal(before, late_interaction(patches, tokens, keep))
