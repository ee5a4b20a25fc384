"""The convolutional image encoder: the contract of the vision transformer, whitening, learning, export."""

import pytest
import torch
import torch.nn.functional as F

from muomni.checkpoints.export import load_export, save_export
from muomni.models.conv_vision import ConvEncoder
from muomni.models.projector import ImageHead, ImageProjector


def make(**changes):
    torch.manual_seed(0)
    options = {"image_size": 24, "patch": 8, "dim": 16, "stem_width": 12, "widths": [8, 12], "num_blocks": 1}
    return ConvEncoder(**(options | changes))


@pytest.mark.parametrize(
    ("image_size", "patch", "widths"), [(24, 8, [8, 12]), (32, 8, [8, 12, 16]), (72, 24, [8, 12, 16])]
)
def test_summary_and_grid_have_the_shapes_of_the_transformers(image_size, patch, widths):
    model = make(image_size=image_size, patch=patch, widths=widths).eval()
    seen = model(torch.randn(2, 3, image_size, image_size))
    assert model.side == image_size // patch
    assert seen.cls.shape == (2, 1, 16) and seen.grid.shape == (2, model.side**2, 16)
    assert torch.allclose(seen.cls[:, 0], seen.grid.mean(dim=1))
    assert ImageHead(dim=16, embed_dim=4, pool="mean", grid=model.side)(seen)[1].shape == (2, model.side**2, 4)
    assert ImageProjector(dim=16, out_dim=4, image_tokens="grid", grid=1, cell=model.side**2).pool(seen).shape[1] == 1


def test_cells_are_in_raster_order():
    model = make(image_size=48, widths=[8]).eval()
    image = torch.zeros(1, 3, 48, 48)
    base = model(image).grid
    image[:, :, 8:16, 40:48] = 3.0
    changed = (model(image).grid - base).abs().sum(dim=(0, 2))
    assert changed.argmax() == 1 * 6 + 5, "second row, last column"


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="32 x 32, the encoder was made for 24"):
        make()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="image_size 25 is no multiple of patch 8"):
        make(image_size=25)
    with pytest.raises(ValueError, match=r"patch 6 is no multiple of 4: .*widths \[8, 12\]"):
        make(patch=6)


def test_the_stem_is_white_on_what_it_was_set_by_and_does_not_learn():
    model = make(stem_width=60)
    images = F.interpolate(torch.randn(64, 3, 12, 12), size=24, mode="bilinear") * torch.tensor([3.0, 1, 0.5]).view(
        3, 1, 1
    )
    model.whiten(images)
    seen = F.conv2d(images, model.whitening, stride=2).permute(1, 0, 2, 3).flatten(1)[:15]  # of the largest components
    assert torch.allclose(seen @ seen.mT / seen.shape[1], torch.eye(15), atol=0.05)
    assert torch.equal(model.whitening[:30], -model.whitening[30:])
    assert "whitening" in model.state_dict() and "whitening" not in dict(model.named_parameters())


def test_in_evaluation_an_image_does_not_depend_on_its_batch():
    model = make().eval()
    images = torch.randn(4, 3, 24, 24)
    assert torch.allclose(model(images).grid[:1], model(images[:1]).grid, atol=1e-5)


def test_it_learns_which_corner_is_bright():
    torch.manual_seed(1)
    images, labels = torch.randn(16, 3, 24, 24), torch.arange(16) % 4
    for image, label in zip(images, labels, strict=True):
        image[:, 12 * (label // 2) :, 12 * (label % 2) :][:, :12, :12] += 2.0
    model, head = make(), torch.nn.Linear(9 * 16, 4)
    model.whiten(images)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(25):
        loss = F.cross_entropy(head(model(images).grid.flatten(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_an_export_comes_back_bit_for_bit(tmp_path):
    model = make()
    model.whiten(torch.randn(8, 3, 24, 24))
    model(torch.randn(8, 3, 24, 24))  # running means move
    save_export(tmp_path / "vision", {"vision": model.eval()}, metadata={"image": {"size": 24}}, files={})
    loaded = load_export(tmp_path / "vision").modules["vision"]
    images = torch.randn(2, 3, 24, 24)
    assert isinstance(loaded, ConvEncoder) and torch.equal(loaded(images).grid, model(images).grid)
