"""experiment=cifar10 and experiment=coco_captions on a few images in the layout that they expect: one batch of each."""

import json

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from datamodules.sources import resolve_sources
from muomni.cli.errors import CONF
from tests.measure import measure

CLASSES = ["airplane", "bird", "cat"]


def build(*overrides):
    """The datamodule, and the stage with it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides))
    data = OmegaConf.to_container(cfg.data, resolve=True)
    world = OmegaConf.to_container(cfg.stage.world)
    sources = resolve_sources(data, stage=cfg.stage.name, shape=cfg.stage.shape, world=world)
    datamodule = instantiate(cfg.datamodule, _convert_="all")(**sources)
    return datamodule, instantiate(cfg.module, _convert_="all")(**datamodule.metadata())


def batch_of(datamodule, count, *, split="train", epoch=0):
    collate = datamodule.collate_train if split == "train" else datamodule.collate
    samples = datamodule.samples(split)
    return collate([samples.item(index, epoch if split == "train" else -1) for index in range(count)])


def test_cifar10_reads_arrays_and_chooses_among_the_captions_of_its_classes(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train", "dev"):
        images = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(12, dtype=np.uint8) % 3)
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    datamodule, stage = build("experiment=cifar10", f"cifar10={tmp_path}", f"paths.data={tmp_path}")
    first, second = (batch_of(datamodule, 12, epoch=epoch) for epoch in (0, 1))
    assert first.captions[:3] == [f"a photo of a {name}" for name in CLASSES]
    assert first.images.shape == (12, 3, 32, 32) and not torch.equal(first.images, second.images)
    stage.model.whiten(first.images)
    loss = stage.total_loss(stage.step(first))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(3), abs=1.0)
    assert "accuracy" in measure(stage.eval(), batch_of(datamodule, 12, split="test/dev"), split="dev")


def test_coco_captions_teach_the_image_encoder_and_the_thinker(tmp_path):
    rows = []
    for index in range(26):
        Image.new("RGB", (40, 30), (9 * index, 40, 200)).save(tmp_path / f"{index}.jpg")
        captions = [f"a photo of {index} umbrellas near the water", f"umbrellas on a beach, number {index} of many"]
        rows.append({"id": index, "image": f"{index}.jpg", "captions": captions, "objects": {"umbrella": index}})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for stage_name in ("thinker", "vision"):
        words = (f"stage={stage_name}", f"coco={tmp_path}", f"paths.data={tmp_path}", "vocab_size=300")
        datamodule, stage = build("experiment=coco_captions", *words)
        assert len(datamodule.samples("train")) == len(datamodule.samples("test/photos")) == 26
        loss = stage.total_loss(stage.step(batch_of(datamodule, 26)))
        loss.backward()
        assert loss.isfinite()
