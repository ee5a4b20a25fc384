"""InfoNCE and its two similarities."""

import math

import pytest
import torch
import torch.nn.functional as F

from muomni.losses.contrastive import caption_choice, cosine, equal_pairs, fingerprints, info_nce, late_interaction
from muomni.metrics.retrieval import recall_at_1


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


def test_equals_are_no_negatives_in_either_direction():
    """By hand: pairs 0 and 2 share their caption, so picture 0 is not compared with caption 2 nor caption 0 with picture 2."""
    similarity, scale = torch.randn(3, 3), torch.tensor(2.0)
    equal = equal_pairs(torch.tensor([7, 8, 9]), torch.tensor([5, 6, 5]))
    s = (similarity * scale).tolist()
    rows = [(s[0][0], s[0][1]), (s[1][1], s[1][0], s[1][2]), (s[2][2], s[2][1])]
    columns = [(s[0][0], s[1][0]), (s[1][1], s[0][1], s[2][1]), (s[2][2], s[1][2])]
    each = [math.log(sum(map(math.exp, row))) - row[0] for row in (*rows, *columns)]
    assert info_nce(similarity, scale, equal=equal).item() == pytest.approx(sum(each) / 6, abs=1e-5)


@pytest.mark.parametrize("pictures", [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 0, 1], [0, 0, 1, 1, 2, 2]])
@pytest.mark.parametrize("captions", [[0, 1, 2, 3, 4, 5], [0, 1, 0, 1, 0, 1], [3, 3, 3, 3, 3, 3]])
def test_a_perfect_model_has_no_loss_whatever_is_equal(pictures, captions):
    equal = equal_pairs(torch.tensor(pictures), torch.tensor(captions))
    assert info_nce(equal.float(), torch.tensor(100.0), equal=equal).item() < 1e-6
    assert recall_at_1(equal.float(), equal=equal) == (100, 100)
    logits = equal.float().requires_grad_()
    info_nce(logits, torch.tensor(3.0), equal=equal).backward()
    assert torch.isfinite(logits.grad).all()


def test_equals_are_seen_by_their_similarities_where_nobody_says_so():
    """32 pictures of two classes, told apart perfectly; a model that tells nothing apart still pays chance."""
    classes = F.one_hot(torch.arange(32) % 2).float()
    assert info_nce(cosine(classes, classes), torch.tensor(100.0)).item() < 0.01
    assert recall_at_1(cosine(classes, classes)) == (100, 100)
    assert recall_at_1(torch.ones(8, 8))[0] == pytest.approx(12.5)


def test_fingerprints_are_the_same_for_the_same_rows_alone():
    rows = torch.randint(0, 4, (600, 3))
    keys = fingerprints(rows)
    same = (rows[:, None] == rows).all(-1)
    assert torch.equal(keys[:, None] == keys, same) and same.sum() > 600
    assert torch.equal(fingerprints(F.pad(rows, (0, 5))), keys)
    images = torch.randn(4, 3, 5, 5)
    near = images.clone()
    near[:, 0, 0, 0] += 1e-2
    keys = fingerprints(torch.cat([images, near, images]).half())
    assert torch.equal(keys[:4], keys[8:]) and len(set(keys.tolist())) == 8


def test_similarities_are_float32_under_autocast():
    pictures, captions = torch.randn(20, 64), torch.randn(20, 64)
    patches, tokens, keep = torch.randn(5, 9, 64), torch.randn(6, 7, 64), torch.ones(6, 7, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cosine(pictures, captions), same(cosine, pictures, captions))
        assert torch.equal(late_interaction(patches, tokens, keep), same(late_interaction, patches, tokens, keep))
        loss = info_nce(cosine(pictures, captions), torch.tensor(14.0))
    assert loss == info_nce(cosine(pictures, captions), torch.tensor(14.0)) and loss.dtype == torch.float32


def same(function, *arguments):
    """Its value outside of autocast."""
    with torch.autocast("cpu", enabled=False):
        return function(*arguments)


def test_images_choose_among_distinct_captions():
    """Four pairs of two captions: chance is log 2, a perfect match 0, and repeated captions change nothing."""
    keys = torch.tensor([7, 9, 7, 7])
    assert caption_choice(torch.zeros(4, 4), torch.tensor(3.0), keys).item() == pytest.approx(math.log(2))
    same = (keys[:, None] == keys).float()
    assert caption_choice(same, torch.tensor(50.0), keys).item() < 1e-6
    similarity = torch.randn(4, 1).expand(-1, 4) * torch.tensor([1.0, -1, 1, 1])
    two = F.cross_entropy(similarity[:, :2], torch.tensor([0, 1, 0, 0]), label_smoothing=0.2)
    assert caption_choice(similarity, torch.tensor(1.0), keys, smoothing=0.2).item() == pytest.approx(
        two.item(), rel=1e-5
    )


def test_smoothing_has_finite_gradients_where_captions_repeat():
    similarity = torch.randn(4, 4, requires_grad=True)
    caption_choice(similarity, torch.tensor(5.0), torch.tensor([1, 1, 2, 1]), smoothing=0.1).backward()
    assert similarity.grad.isfinite().all() and (similarity.grad[:, 1] == 0).all()
