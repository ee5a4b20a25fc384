"""Picture encoder, text tower and contrastive head."""

import pytest
import torch

from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower
from muomni.models.vision import VisionTransformer


def make(**changes):
    options = {"image_size": 24, "patch": 8, "dim": 16, "num_layers": 2, "num_heads": 2, "ff_dim": 32}
    return VisionTransformer(**(options | changes))


def test_the_reference_has_its_numbers():
    model = VisionTransformer(image_size=224, patch=16, dim=128, num_layers=4, num_heads=2, ff_dim=512)
    assert sum(p.numel() for p in model.parameters()) == 916_992
    seen = model(torch.zeros(1, 3, 224, 224))
    assert seen.cls.shape == (1, 1, 128) and seen.grid.shape == (1, 196, 128)


@pytest.mark.parametrize("stem", [{}, {"stem_channels": [4, 8], "stem_patch": 2}])
def test_cls_and_grid_see_the_picture(stem):
    model = make(**stem).eval()
    images = torch.randn(2, 3, 24, 24)
    seen = model(images)
    assert seen.cls.shape == (2, 1, 16) and seen.grid.shape == (2, 9, 16)
    assert (seen.cls[0] - seen.cls[1]).abs().max() > 1e-4


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="32 x 32, the encoder was made for 24"):
        make()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="image_size 25"):
        make(image_size=25)


def test_padding_of_a_caption_changes_nothing():
    tower = TextTower(vocab_size=30, dim=16, num_layers=2, num_heads=2, ff_dim=32, embed_dim=8, max_length=12).eval()
    ids = torch.randint(9, 30, (1, 5))
    alone = tower(ids, torch.tensor([5]))
    padded = tower(torch.cat((ids, torch.full((1, 3), 3)), dim=1), torch.tensor([5]))
    assert torch.allclose(alone.pooled, padded.pooled, atol=1e-5)
    assert torch.allclose(alone.tokens, padded.tokens[:, :5], atol=1e-5)
    assert padded.keep.sum() == 5


def test_a_caption_that_is_too_long_names_the_option():
    tower = TextTower(vocab_size=30, dim=16, num_layers=1, num_heads=2, ff_dim=32, embed_dim=8, max_length=4)
    with pytest.raises(ValueError, match="max_length"):
        tower(torch.ones(1, 5, dtype=torch.long), torch.tensor([5]))


def test_head_pools_as_told():
    features = make().eval()(torch.randn(1, 3, 24, 24))
    for pool, source in (("cls", features.cls[:, 0]), ("mean", features.grid.mean(dim=1))):
        head = ImageHead(dim=16, embed_dim=4, pool=pool, grid=3)
        whole, cells = head(features)
        assert torch.allclose(whole, head.pooled_head(source)) and cells.shape == (1, 9, 4)
    with pytest.raises(ValueError, match="pool='max'"):
        ImageHead(dim=16, embed_dim=4, pool="max", grid=3)
