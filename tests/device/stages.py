"""Stages with their real configuration, at the smallest size, and random batches of what they train on and are tested with.

stage, callbacks, make = build(folder, "omni_sft")
batch = make(True)                     # to train on; False: to be tested with
"""

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from muomni import batch as batches
from muomni.checkpoints.export import save_export, weights_fingerprint
from muomni.cli.errors import CONF
from muomni.frontends.audio_io import write_audio
from muomni.frontends.char_vocab import encode_characters
from muomni.frontends.image import ImageSpec
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import ASSISTANT, AUDIO, BOS, EOS, IGNORE, IMAGE, PAD, USER

STAGES = ("thinker", "vision", "audio", "codec", "talker", "ocr", "vocoder", "omni_sft")
GUARDS = ("finite_guard", "gradient_guard", "doctor", "gradient_norm", "throughput", "norms", "resources", "step_times")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@functools.cache  # half a second each
def composed(folder: Path, stage: str, *overrides: str) -> Any:
    exports = folder / ("moe" if "backbone.thinker.num_experts=4" in overrides else "exports")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[
            f"stage={stage}", "budget=ci", f"paths.root={folder}", f"paths.checkpoints={exports}", f"paths.output={folder}/out",
            "backbone.talker.max_frames=6", "vocoder.iterations=2",
            *(f"backbone.{each}.num_layers=1" for each in ("thinker", "vision", "audio", "talker", "text_tower")), *overrides,
        ])  # fmt: skip


def image_spec(cfg: Any, size: int) -> ImageSpec:
    return ImageSpec(size=size, mean=[0.3] * 3, std=[0.3] * 3)


def export_all(cfg: Any, folder: Path) -> None:
    """What the later stages need, untrained."""
    exports = Path(cfg.paths.checkpoints)
    if exports.exists():
        return
    parts = {
        name: instantiate(cfg.backbone[name], _convert_="all")
        for name in ("thinker", "vision", "audio", "codec", "talker")
    }
    tokenizer = folder / "tokenizer.model"
    tokenizer.write_bytes(b"x")
    mel, codec_mel = instantiate(cfg.mel).metadata(), instantiate(cfg.codec_mel).metadata()
    image = image_spec(cfg, cfg.backbone.vision.image_size).metadata()
    codec = weights_fingerprint(parts["codec"])
    for name, extra, metadata in (
        ("thinker", (), {"tokenizer": "f00"}), ("vision", (), {"image": image}), ("audio", (), {"mel": mel}),
        ("codec", (), {"mel": codec_mel}), ("talker", ("codec",), {"codec_mel": codec_mel, "codec": codec}),
    ):  # fmt: skip
        files = {"tokenizer.model": tokenizer} if name == "thinker" else {}
        save_export(
            exports / name,
            {each: parts[each] for each in (name, *extra)},
            metadata={"stage": name, **metadata},
            files=files,
        )
    for name in ("image", "i", "j"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    for number in range(2):
        write_audio(folder / f"clip{number}.wav", torch.randn(8000 + 800 * number) * 0.1, 16000)


def speech(cfg: Any, folder: Path, mel: Any) -> batches.SpeechBatch:
    texts = ["red", "a blue"]
    characters = [torch.tensor(encode_characters(text)) for text in texts]
    return batches.SpeechBatch(
        mel=torch.randn(2, 64, mel.bins), mel_lengths=torch.tensor([50, 64]), characters=pad_sequence(characters, True),
        character_lengths=torch.tensor([len(each) for each in characters]), speakers=torch.zeros(2, dtype=torch.long),
        texts=texts, audio=[str(folder / f"clip{number}.wav") for number in range(2)], sample_ids=["a", "b"],
    )  # fmt: skip


def text(cfg: Any, *, packed: bool) -> batches.TextBatch:
    ids = torch.randint(9, cfg.vocab_size, (2, 12))
    if not packed:
        targets = ids.roll(-1, 1)
        targets[1, :6] = IGNORE  # a question
        return batches.TextBatch(
            ids=ids, targets=targets, lengths=torch.tensor([12, 12]), document_types=["a", "b"], floors=torch.zeros(2).double(),
            sample_ids=["a", "b"],
        )  # fmt: skip
    return batches.TextBatch(
        ids=ids, targets=ids.roll(-1, 1), lengths=torch.tensor([10, 12]), document_types=["a"] * 3,
        floors=torch.zeros(3).double(), sample_ids=["a", "b", "c"], weights=torch.ones(2, 12),
        mask=SegmentMask.with_runs(torch.tensor([[1] * 6 + [2] * 4 + [0] * 2, [1] * 12])),
    )  # fmt: skip


def captions(cfg: Any, folder: Path) -> batches.ImageTextBatch:
    side = cfg.backbone.vision.image_size
    return batches.ImageTextBatch(
        images=torch.randn(4, 3, side, side), ids=torch.randint(9, cfg.vocab_size, (4, 7)), lengths=torch.tensor([7, 5, 6, 7]),
        captions=list("abcd"), paths=[str(folder / "image.png")] * 4, sample_ids=list("abcd"),
        objects=[[{"cell": 0, "colour": "red", "shape": "circle"}, {"cell": 4, "colour": "blue", "shape": "square"}]] * 4,
    )  # fmt: skip


def writing(cfg: Any, folder: Path) -> batches.OcrBatch:
    side = cfg.backbone.ocr.image_size
    return batches.OcrBatch(
        images=torch.randn(2, 3, side, side), ids=torch.randint(9, 50, (2, 6)), targets=torch.randint(9, 50, (2, 6)),
        texts=["ab cd", "efg"], paths=[str(folder / "image.png")] * 2, sample_ids=["a", "b"],
    )  # fmt: skip


def sound(cfg: Any, folder: Path, mel: Any) -> batches.WaveformBatch:
    return batches.WaveformBatch(
        mel=torch.randn(2, 16, mel.bins), mel_lengths=torch.tensor([16, 16]), waveform=torch.randn(2, 16 * mel.hop) * 0.1,
        through_codec=torch.tensor([True, False]), texts=["ab", "cd"], sample_ids=["a", "b"],
        audio=[str(folder / f"clip{number}.wav") for number in range(2)],
    )  # fmt: skip


def conversations(cfg: Any, folder: Path, mel: Any, *, packed: bool) -> batches.OmniBatch:
    """Two questions about pictures, one about sound, and text alone; packed: the two share one picture's row."""
    side, slots = cfg.backbone.vision.image_size, cfg.backbone.projector.image.grid**2
    heard = math.ceil(math.ceil(60 / cfg.backbone.audio.downsample) / cfg.backbone.projector.audio.stack)
    picture, question = [IMAGE] * slots, [BOS, USER, 12, ASSISTANT]
    rows = [
        [*picture, *question, 20, EOS], [*picture, *question, 21, 22, EOS],
        [AUDIO] * heard + [*question, 23, 24, EOS], [BOS, 30, 31, 32, EOS],
    ]  # fmt: skip
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)
    targets = torch.full_like(ids, IGNORE)
    for number, row in enumerate(rows):
        start = row.index(ASSISTANT) if ASSISTANT in row else 0
        targets[number, start : len(row) - 1] = ids[number, start + 1 : len(row)]
    batch = batches.OmniBatch(
        ids=ids, targets=targets, lengths=torch.tensor([len(row) for row in rows]), images=torch.randn(2, 3, side, side),
        mel=torch.randn(1, 60, mel.bins), mel_lengths=torch.tensor([60]), image_rows=[0, 1], audio_rows=[2],
        image_keys=[str(folder / f"{name}.png") for name in "ij"], audio_keys=[str(folder / "clip0.wav")],
        questions=["q"] * 4, answers=["20", "21 22", "23 24", "x"],
        tasks=["image_qa", "caption", "asr", "plain"], sample_ids=list("abcd"),
        meta=[{"question": "colour"}, {"objects": [{"size": "big", "colour": "red", "shape": "circle"}]}, {}, {"question": "f"}],
    )  # fmt: skip
    if packed:
        branches = torch.zeros_like(ids)
        branches[0, slots:] = 1
        positions = torch.arange(ids.shape[1]).expand(ids.shape[0], -1).contiguous()
        batch.mask = SegmentMask.with_runs((ids != PAD).long(), branches, positions)
        batch.replayed = torch.zeros_like(ids, dtype=torch.bool)
        batch.replayed[3] = True
    return batch


def build(folder: Path, name: str, *overrides: str) -> tuple[Any, Any, Any]:
    """Stage, callbacks, and what makes a batch to train (True) or to test (False)."""
    cfg = composed(folder, name, *overrides)
    export_all(cfg, folder)
    mel, codec_mel = instantiate(cfg.mel), instantiate(cfg.codec_mel)
    words = {"tokenizer": Path(cfg.paths.checkpoints) / "thinker/tokenizer.model", "tokenizer_fingerprint": "f00"}
    seen = {"image": image_spec(cfg, cfg.backbone.vision.image_size).metadata()}
    metadata: dict[str, Any] = {
        "thinker": {**words, "decode": str},
        "vision": {**words, **seen},
        "ocr": {"image": {"size": cfg.backbone.ocr.image_size}},
        "audio": {"mel": mel.metadata()},
        "omni_sft": {
            **words, **seen, "mel": mel.metadata(), "encode": lambda text: [10, 11],
            "decode": lambda ids: " ".join(chr(97 + index % 26) for index in ids[:3]),
        },
    }.get(name, {"mel": codec_mel.metadata()})  # fmt: skip
    make = {
        "thinker": lambda packed: text(cfg, packed=packed),
        "vision": lambda packed: captions(cfg, folder),
        "ocr": lambda packed: writing(cfg, folder),
        "audio": lambda packed: speech(cfg, folder, mel),
        "codec": lambda packed: speech(cfg, folder, codec_mel),
        "talker": lambda packed: speech(cfg, folder, codec_mel),
        "vocoder": lambda packed: sound(cfg, folder, codec_mel),
        "omni_sft": lambda packed: conversations(cfg, folder, mel, packed=packed),
    }[name]
    stage = instantiate(cfg.module, _convert_="all")(**metadata)
    callbacks = [instantiate(cfg.callbacks[each], _convert_="all") for each in GUARDS]
    return stage, callbacks, make
