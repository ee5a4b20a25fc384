"""The reference numbers, Image."""

import math

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from muomni.cli.errors import CONF
from muomni.losses.contrastive import cosine, info_nce
from muomni.models.projector import ImageProjector
from muomni.nn.norm import RMSNorm


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture
def vision(parts):
    return parts["vision"]


def test_patches(vision):
    """224x224x3 -> Conv2d(3,128,16,16) -> 196 patches."""
    conv = vision.stem.project
    assert (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride) == (3, 128, (16, 16), (16, 16))
    assert vision.stem(torch.zeros(1, 3, 224, 224)).shape == (1, 196, 128)


def test_cls_and_learned_positions(vision):
    """-> CLS + learned positions (1,197,128)."""
    assert vision.cls.shape == (1, 1, 128) and vision.positions.shape == (1, 197, 128)
    assert vision.cls.requires_grad and vision.positions.requires_grad


def test_blocks(vision):
    """-> 4 pre-norm layers, 2 heads, d_ff 512 -> final RMSNorm."""
    blocks = vision.transformer.blocks
    assert len(blocks) == 4
    for block in blocks:
        assert (block.attention.heads, block.attention.causal) == (2, False)
        assert block.mlp.up.weight.shape == (512, 128)
    assert isinstance(vision.transformer.norm, RMSNorm)
    x = torch.randn(1, 5, 128)
    middle = x + blocks[0].attention(blocks[0].attention_norm(x))
    out, router_logits = blocks[0](x)
    torch.testing.assert_close(out, middle + blocks[0].mlp(blocks[0].mlp_norm(middle)))
    assert router_logits is None


def test_one_token(parts, vision):
    """-> CLS (1,1,128) -> Linear(128,256) -> 1 token."""
    seen, projector = vision(torch.randn(1, 3, 224, 224)), parts["image_projector"]
    assert seen.cls.shape == (1, 1, 128)
    linear = projector.layers
    assert isinstance(linear, torch.nn.Linear) and linear.weight.shape == (256, 128)
    token = projector(projector.pool(seen))
    assert token.shape == (1, 1, 256) and projector.num_tokens == 1 and projector.positions is None
    torch.testing.assert_close(token, F.linear(seen.cls, linear.weight, linear.bias))


def test_parameters(vision):
    """916,992 parameters."""
    assert count(vision) == 916_992


def test_the_encoder_returns_both_cls_and_patch_grid(vision):
    seen = vision(torch.randn(1, 3, 224, 224))
    assert seen.cls.shape == (1, 1, 128) and seen.grid.shape == (1, 196, 128)


def test_image_tokens_is_a_choice_of_the_projector(parts, vision, config):
    """`image_tokens: cls | grid` (pooled grid of k x k tokens): the reference is `cls`, every other size defaults to a
    grid."""
    assert config().backbone.projector.image.image_tokens == "cls"
    grid = instantiate(config("ablation=image_tokens_grid").backbone.projector.image, _convert_="all")
    assert isinstance(grid, ImageProjector) and grid.num_tokens == 49
    assert grid(grid.pool(vision(torch.randn(1, 3, 224, 224)))).shape == (1, 49, 256)


@pytest.mark.parametrize("size", ["nano", "tiny", "small", "base"])
def test_every_size_defaults_to_a_grid(size):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("train", overrides=[f"size={size}"]).backbone.projector.image.image_tokens == "grid"


def test_trained_with_symmetric_info_nce(config):
    """Trained with symmetric InfoNCE on image-caption pairs, temperature 0.07 (learned, clamped)."""
    module = config("stage=vision").module
    assert (module.score, module.temperature, module.min_temperature) == ("global", 0.07, 0.01)
    pictures, captions = torch.randn(5, 16), torch.randn(5, 16)
    similarity = F.normalize(pictures, dim=1) @ F.normalize(captions, dim=1).T / 0.07
    expected = -(similarity.log_softmax(1).diagonal().mean() + similarity.log_softmax(0).diagonal().mean()) / 2
    scale = torch.tensor(math.log(1 / 0.07)).exp()
    torch.testing.assert_close(info_nce(cosine(pictures, captions), scale), expected)
