"""Encoders of Hugging Face folders in the stages: found by their options or as exports, frozen unless a rate says otherwise, and
the model of images, recordings and text that is made with them answers."""

import json
from contextlib import chdir

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from datamodules.sources import resolve_sources
from muomni.checkpoints.export import save_export
from muomni.cli.errors import CONF
from muomni.frontends.audio_io import write_audio
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.embedding import Embedder
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.interop.hf.encoders import import_encoder
from muomni.interop.hf.folder import read_folder
from muomni.models.thinker import Thinker
from muomni.run import pretrained_encoders
from muomni.run.stage_graph import Wanted
from tests.unit.interop.hf.encoder_folders import make

TEXTS = ["what colour is the dot? red blue describe the picture what was said?"] * 20
OMNI = (
    "stage=omni_sft", "data=sft", "data.val=null", "module.talker=null", "datamodule.pack=null",
    "datamodule.isolated_share=0", "datamodule.batch_size=3", "datamodule.num_workers=0", "datamodule.replay_share=0",
)  # fmt: skip


def row(name, answer, *content):
    return {"id": name, "task": name, "messages": [{"role": "user", "content": list(content)},
                                                   {"role": "assistant", "content": answer}]}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Data, the export of a small Thinker, and the folders of two encoders."""
    Image.new("RGB", (40, 30), (200, 10, 20)).save(tmp_path / "a.png")
    write_audio(tmp_path / "a.wav", 0.3 * torch.sin(torch.arange(12000) * 0.05), 16000)
    image, audio = {"type": "image", "image": "a.png"}, {"type": "audio", "audio": "a.wav"}
    rows = [
        row("caption", "a red dot", image, {"type": "text", "text": "describe the picture"}),
        row("asr", "a dot", audio, {"type": "text", "text": "what was said?"}),
        row("both", "red", image, audio),
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = Tokenizer.train(TEXTS, 300, tmp_path / "tokenizer.model")
    torch.manual_seed(0)
    thinker = Thinker(vocab_size=300, dim=32, num_layers=2, num_heads=2, num_kv_heads=2, ff_dim=64, max_length=512)
    save_export(
        tmp_path / "thinker", {"thinker": thinker}, files={"tokenizer.model": tmp_path / "tokenizer.model"},
        metadata={"stage": "thinker", "tokenizer": words.fingerprint()},
    )  # fmt: skip
    make(tmp_path / "siglip", "siglip")
    make(tmp_path / "whisper", "whisper")
    return tmp_path


def composed(folder, *overrides):
    data = [f"data.train={folder}/train.jsonl"] if any(word.startswith("data=") for word in overrides) else []
    paths = [f"paths.checkpoints={folder}", f"paths.data={folder}/data"]
    words = [*overrides, *data, *paths, "backbone.thinker.dim=32", "vocab_size=300"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=words)
    pretrained_encoders.settle(cfg, words)
    return cfg


def build(folder, *overrides):
    """The settled configuration, the datamodule, and the stage with it."""
    cfg = composed(folder, *overrides)
    data = OmegaConf.to_container(cfg.data, resolve=True)
    sources = resolve_sources(
        data, stage=cfg.stage.name, shape=cfg.stage.shape, world=OmegaConf.to_container(cfg.stage.world)
    )
    datamodule = instantiate(cfg.datamodule, _convert_="all")(**sources)
    datamodule.read("fit")
    return cfg, datamodule, instantiate(cfg.module, _convert_="all")(**datamodule.metadata())


def batch_of(datamodule):
    samples = datamodule.samples("train")
    return datamodule.collate_train([samples.item(index, 0) for index in range(len(samples))])


def learned(stage, batch):
    """Gradients after a step: names of the modules that have some."""
    stage.train()
    loss = stage.total_loss(stage.step(batch))
    loss.backward()
    assert loss.isfinite()
    return {name.split(".")[1] for name, each in stage.named_parameters() if each.grad is not None and "." in name}


@pytest.mark.parametrize("imported", [False, True], ids=["folders", "exports"])
def test_a_model_with_pretrained_encoders_learns_and_answers(folder, imported):
    chosen = [
        "image_encoder=hf",
        f"image_encoder.path={folder}/siglip",
        "audio_encoder=hf",
        f"audio_encoder.path={folder}/whisper",
    ]
    if imported:
        for name, export in (("siglip", "vision"), ("whisper", "audio")):
            import_encoder(read_folder(folder / name), folder / export)
            assert Wanted({export: folder / export}, "nano", 9).has(export)
        chosen = []
    cfg, datamodule, stage = build(folder, *OMNI, *chosen)
    assert cfg.stage.needs == (["thinker", "vision", "audio", "talker"] if imported else ["thinker", "talker"])
    assert cfg.module.evaluator.speech.judge is None
    assert cfg.backbone.projector.image.grid == 4 and cfg.backbone.projector.image.cell == 1
    assert cfg.backbone.projector.audio.stack == 8
    batch = batch_of(datamodule)
    assert batch.images.shape == (2, 3, 32, 32) and batch.mel.shape[2] == 80
    assert learned(stage, batch) == {"thinker", "image_projector", "audio_projector"}
    features = stage.features(batch)
    plain = stage.model.encode(images=batch.images, mel=batch.mel, mel_lengths=batch.mel_lengths)
    assert (
        torch.allclose(features.images, plain.images, atol=1e-5)
        and features.audio_counts == plain.audio_lengths.tolist()
    )
    with torch.no_grad():
        seen = stage.model(batch.ids, features=features).logits
        features.images = features.images + 1
        assert not torch.allclose(seen, stage.model(batch.ids, features=features).logits)
    metadata, modules = stage.export_metadata(), stage.export_modules()
    save_export(folder / "omni", modules, files=stage.export_files(), metadata=metadata)
    engine = load_model(folder / "omni")
    answer = engine.answer("what colour?", image=folder / "a.png", audio=folder / "a.wav", max_new_tokens=4)
    assert answer.completion_tokens > 0
    assert answer.prompt_tokens > 16 + 5  # 16 of the image, 0.75 s of 6.25 a second
    both = engine.answer_batch([Request(text="what?", images=[folder / "a.png"]), "red?"], max_new_tokens=3)
    assert len(both) == 2


def test_an_encoder_with_a_rate_learns_too(folder):
    words = [
        "image_encoder=hf",
        f"image_encoder.path={folder}/siglip",
        "module.audio=null",
        "module.evaluator.speech.judge=null",
    ]
    _, datamodule, stage = build(folder, *OMNI, *words, "module.lr_multipliers.vision=0.1")
    batch = batch_of_images(datamodule)
    assert learned(stage, batch) == {"thinker", "image_projector", "vision"}
    groups = stage.configure_optimizers()["optimizer"].param_groups
    assert {group["lr_scale"] for group in groups if group["name"].startswith("vision/")} == {0.1}


def batch_of_images(datamodule):
    samples = datamodule.samples("train")
    return datamodule.collate_train([samples.item(0, 0)])


def test_captions_are_locked_to_a_pretrained_image_encoder(folder):
    rows = [{"id": index, "image": "a.png", "caption": f"a red dot {index}"} for index in range(4)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [
        "stage=vision",
        "data=image_text",
        "image_encoder=hf",
        f"image_encoder.path={folder}/siglip",
        "datamodule.num_workers=0",
    ]
    for rate, trained in ((None, set()), (0.1, {"encoder"})):
        more = [] if rate is None else [f"module.lr_multipliers.encoder={rate}"]
        _, datamodule, stage = build(folder, *words, *more)
        learned(stage, batch_of(datamodule))
        assert any(parameter.grad is not None for parameter in stage.text_tower.parameters())
        names = {name for name, parameter in stage.model.named_parameters() if parameter.grad is not None}
        assert bool(names) == bool(trained)
        groups = stage.configure_optimizers()["optimizer"].param_groups
        assert {group["name"].split("/")[0] for group in groups if group["lr_scale"] != 1} == trained
    save_export(folder / "vision", stage.export_modules(), files=stage.export_files(), metadata=stage.export_metadata())
    assert Embedder(folder / "vision").images([folder / "a.png"]).shape[0] == 1


@pytest.mark.parametrize("name", ["whisper", "wav2vec2_letters"])
def test_a_pretrained_audio_encoder_gets_a_head_of_our_characters(folder, name):
    if name != "whisper":
        make(folder / name, name)
    rows = [{"id": index, "audio": "a.wav", "text": "a dot"} for index in range(3)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [
        "stage=audio",
        "data=speech",
        "audio_encoder=hf",
        f"audio_encoder.path={folder}/{name}",
        "datamodule.num_workers=0",
    ]
    cfg, datamodule, stage = build(folder, *words)
    assert stage.model.num_symbols == 99 and cfg.hearing is None
    stage.log = lambda *args, **kwargs: None
    learned(stage, batch_of(datamodule))
    names = {name.split(".")[1] for name, parameter in stage.named_parameters() if parameter.grad is not None}
    assert names == {"head"}
    assert int(stage.target_counts(batch_of(datamodule))["ctc"]) == 15
    save_export(folder / "audio", stage.export_modules(), files={}, metadata=stage.export_metadata())
    with chdir(folder):
        assert isinstance(load_model("audio").transcribe("a.wav"), str)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stage=omni_sft", "audio_encoder=hf"], "audio_encoder=hf: which one. give audio_encoder.path=FOLDER"),
        (["stage=codec", "audio_encoder=hf", "audio_encoder.path=x"], "stage=codec does not train with it"),
        (["stage=vision", "image_encoder=hf", "image_encoder.path={folder}/whisper"], "of the other sort: give audio_encoder=hf"),
        (["stage=vision", "image_encoder=hf", "image_encoder.path={folder}/nothing"], "no such folder"),
        (["stage=vision", "image_encoder=hf", "image_encoder.path={folder}/thinker"], "export has no encoder; it holds thinker"),
        (
            [*OMNI, "image_encoder=hf", "image_encoder.path={folder}/siglip", "backbone.projector.image.grid=3"],
            "grid=3: the encoder has 4 x 4 patches",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_before_anything_is_trained(folder, words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        composed(folder, *[word.format(folder=folder) for word in words])
