"""Contrastive stage on tiny parts: losses, metrics, hand-over."""

from functools import partial

import pytest
import torch

from muomni.batch import ImageTextBatch
from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower
from muomni.models.vision import VisionTransformer
from muomni.optim.optimizers import adamw
from muomni.optim.schedule import warmup_stable_decay
from muomni.stages.vision import VisionStage

COLOURS = ("red", "blue", "green", "white")


def make(**changes):
    torch.manual_seed(0)
    options = {
        "model": VisionTransformer(image_size=12, patch=4, dim=16, num_layers=1, num_heads=2, ff_dim=32),
        "text_tower": TextTower(
            vocab_size=30, dim=16, num_layers=1, num_heads=2, ff_dim=32, embed_dim=8, max_length=8
        ),
        "image_head": ImageHead(dim=16, embed_dim=8, pool="mean", grid=3),
        "score": "late", "temperature": 0.07, "min_temperature": 0.01, "candidates": 4, "probe_split": "probe",
        "image": {"size": 12}, "tokenizer": "tokenizer.model", "tokenizer_fingerprint": "f00",
        "optimizer": partial(adamw, lr=1e-2, betas=(0.9, 0.98), adam_ratio=1.0),
        "schedule": partial(warmup_stable_decay, max_steps=60, warmup_steps=2, decay_fraction=0.4, final=0.1),
        "weight_decay": 0.0, "loss_weights": {}, "compile_model": False,
    }  # fmt: skip
    return VisionStage(**(options | changes))


def batch():
    """Four pictures, each one colour in one cell; the caption is a token for the colour and one for the cell."""
    torch.manual_seed(1)
    images = torch.zeros(4, 3, 12, 12)
    tints = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0], [1.0, 1.0, 1.0]])
    for row in range(4):
        images[row, :, 4 * row // 3 * 1 : 4, 4 * (row % 3) : 4 * (row % 3) + 4] = tints[row][:, None, None]
    return ImageTextBatch(
        images=images, ids=torch.tensor([[10 + row, 20 + row] for row in range(4)]), lengths=torch.full((4,), 2),
        captions=[f"{colour} dot" for colour in COLOURS], paths=[f"{row}.png" for row in range(4)],
        objects=[[{"colour": COLOURS[row], "shape": "dot", "size": "big", "cell": row % 3}] for row in range(4)],
        sample_ids=[f"s{row}" for row in range(4)],
    )  # fmt: skip


def test_it_learns_to_tell_pictures_apart():
    stage, data = make(), batch()
    optimizer = stage.configure_optimizers()["optimizer"]
    first = stage.total_loss(stage.step(data)).item()
    for _ in range(60):
        optimizer.zero_grad()
        stage.total_loss(stage.step(data)).backward()
        optimizer.step()
    assert stage.total_loss(stage.step(data)).item() < 0.5 * first
    stage.eval()
    stage.begin_split("test_iid")
    stage.test_batch(data, "test_iid")
    metrics = stage.finish_split("test_iid")
    assert metrics["r1_image_to_text"] == 100 and metrics["r1_text_to_image"] == 100
    shown = stage.samples()[0]
    assert shown["answer"] == shown["truth"] == "red dot" and shown["image"] == "0.png"


def test_probes_are_fitted_on_their_split_alone():
    stage, data = make().eval(), batch()
    stage.begin_split("test_iid")
    stage.test_batch(data, "test_iid")
    assert "probe_colour" not in stage.finish_split("test_iid")
    stage.begin_split("probe")
    stage.test_batch(data, "probe")
    assert stage.finish_split("probe") == {}
    stage.begin_split("test_iid")
    stage.test_batch(data, "test_iid")
    assert {"probe_colour", "probe_shape", "probe_place"} < set(stage.finish_split("test_iid"))


def test_plain_clip_has_one_loss_and_an_unknown_score_is_refused():
    assert set(make(score="global").step(batch())) == {"global"}
    assert set(make().step(batch())) == {"global", "late"}
    with pytest.raises(ValueError, match="score='all'; available: late, global"):
        make(score="all")


def test_the_temperature_is_clamped():
    stage = make()
    stage.log_scales.data.fill_(100.0)
    assert all(torch.isfinite(loss) for loss in stage.step(batch()).values())


def test_hand_over():
    stage = make()
    assert list(stage.export_parts()) == ["vision", "text_tower", "image_head"]
    assert stage.export_facts() == {"stage": "vision", "image": {"size": 12}, "tokenizer": "f00"}
