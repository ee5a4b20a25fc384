"""Views of held-out samples: what they hold, that loggers show them, and that training does not notice."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from callbacks.media import Media
from muomni.evaluation.attention_map import attention_map
from muomni.evaluation.views import View, heat_map, mark_errors, pixels, ranks
from muomni.nn.attention import Attention
from muomni.nn.context import AttentionContext
from muomni.nn.rope import Rope
from tests.device.stages import build, folder  # noqa: F401


def test_errors_are_marked():
    assert mark_errors("the cat", "the cat") == "the cat"
    assert mark_errors("tha cats", "the cat") == "th[a|e] cat[s|]"
    assert mark_errors("", "ab") == "[|ab]"


def test_heat_maps_are_dark_for_the_least_and_upside_up():
    image = heat_map(torch.tensor([[0.0, 0.0], [1.0, 0.5]]), scale=2)
    assert image.shape == (3, 4, 4)
    assert image.dtype == torch.uint8
    assert image[:, 3, 0].tolist() == [0, 0, 4], "the first row is at the bottom"
    assert image[:, 0, 0].tolist() == [252, 253, 191]
    assert heat_map(torch.zeros(2, 3)).float().std() < 3
    assert pixels(torch.tensor([[[-1.0, 1.0]]] * 3)).flatten().tolist() == [0, 255] * 3


def test_ranks_are_positions_among_all_captions():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.3, 0.2, 0.1]])
    assert ranks(similarity, [0, 1, 2]) == [1, 3, 3]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("thinker", {"continuations", "attention"}), ("vision", {"images"}), ("audio", {"spectrogram", "alignment"}),
        ("codec", {"code use", "spectrogram"}), ("talker", {"spoken", "spoken spectrogram"}),
        ("omni_sft", {"answers", "image answers"}), ("ocr", {"images"}), ("vocoder", {"spectrogram", "synthesized"}),
    ],
)  # fmt: skip
def test_every_stage_has_views(name: str, panels: set[str], folder: Path) -> None:  # noqa: F811
    stage, _, make = build(folder, name)
    stage.eval()
    if name == "thinker":
        stage.evaluator.decode = lambda ids: " ".join(map(str, ids))
    views = stage.evaluator.views(make(False))
    assert {view.name for view in views} == panels
    assert all(view.image is None or (view.image.dtype, view.image.shape[0]) == (torch.uint8, 3) for view in views)
    assert all(view.caption for view in views)
    assert all(view.waveform is None or (view.waveform.dim() == 1 and view.sample_rate == 16000) for view in views)


def test_attention_maps_are_what_the_kernel_weighs_by():
    """Values that are one-hot by token make the layer's mixture its weights."""
    torch.manual_seed(0)
    layer = Attention(8, heads=2, kv_heads=1, causal=True)
    x, rope = torch.randn(1, 4, 8), Rope(4, theta=10.0)(torch.arange(4))
    context = AttentionContext(rope)
    with torch.no_grad():
        layer.qkv.weight[-4:] = 0
        layer.out.weight.copy_(torch.eye(8))
    layer.qkv.register_forward_hook(lambda m, a, y: torch.cat([y[..., :-4], torch.eye(4)[None]], dim=-1))
    weights = attention_map(layer, lambda: layer(x, context))
    mixed = layer(x, context)[0].view(4, 2, 4).mean(1)
    assert torch.allclose(weights, mixed, atol=1e-5)


def trained(toy, *callbacks, **how):
    stage, data, trainer = toy(*callbacks, limit_val_batches=2, val_check_interval=2, **how)
    views = [
        View("texts", "a text"), View("images", "an image", heat_map(torch.rand(4, 4))),
        View("sounds", "a sound", waveform=torch.zeros(100)),
    ]  # fmt: skip
    stage.evaluator.views = lambda batch: (torch.rand(3), views)[1]
    trainer.fit(stage, datamodule=data)
    return torch.cat([parameter.detach().flatten() for parameter in stage.parameters()])


def test_tensorboard_shows_views_and_training_does_not_notice(toy, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    without = trained(toy, logger=CSVLogger(str(tmp_path)))
    shown = trained(toy, Media(), logger=TensorBoardLogger(str(tmp_path), name="tensorboard", version=""))
    assert torch.equal(without, shown)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload().Tags()
    assert "toy/val/images/0" in events["images"]
    assert "toy/val/sounds/0" in events["audio"]
    assert "toy/val/texts/0/text_summary" in events["tensors"]


def test_nothing_is_computed_where_nothing_shows_it(toy):
    stage, data, trainer = toy(Media(), limit_val_batches=1)
    stage.evaluator.views = lambda batch: pytest.fail("computed")
    trainer.fit(stage, datamodule=data)
