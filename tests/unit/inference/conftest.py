"""A whole omni model with random weights, small enough for a test, and its export."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from muomni.checkpoints.export import save_export
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.models.audio import Audio
from muomni.models.codec import Codec
from muomni.models.projector import AudioProjector, ImageProjector
from muomni.models.talker import Talker
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=32, f_min=20.0, f_max=8000.0, log=True, floor=1e-5)
IMAGE = ImageSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
VOCAB = 300


def tiny_thinker(**changes: object) -> Thinker:
    shape = {"vocab_size": VOCAB, "dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "ff_dim": 48, "max_length": 128,
             "short_conv": 3}  # fmt: skip
    torch.manual_seed(0)
    thinker = Thinker(**(shape | changes))
    with torch.no_grad():  # far from ties, so that greedy choices are certain
        for weight in thinker.parameters():
            if weight.dim() == 2:
                weight.normal_(std=1.5 * weight.shape[1] ** -0.5)
        thinker.embedding.weight.normal_(std=1.0)
    return thinker.eval()


@pytest.fixture(scope="session")
def parts() -> dict[str, torch.nn.Module]:
    return tiny_parts()


def tiny_parts() -> dict[str, torch.nn.Module]:
    torch.manual_seed(1)
    transformer = {"dim": 24, "num_layers": 1, "num_heads": 2, "ff_dim": 32}
    return {
        "thinker": tiny_thinker(),
        "vision": VisionTransformer(image_size=32, patch=8, **transformer),
        "image_projector": ImageProjector(dim=24, out_dim=32, image_tokens="grid", grid=2, cell=4),
        "audio": Audio(n_mels=32, num_symbols=99, channels=4, downsample=4, conv_kernel=3, **transformer),
        "audio_projector": AudioProjector(dim=24, out_dim=32, stack=2, words=True),
        "codec": Codec(
            n_mels=32, stride=8, dim=8, num_codebooks=2, codebook_size=16, num_layers=1, width=16, kernel=3, ff_dim=32,
            decay=0.99, dropout=0.0, idle=0.0,
        ),
        "talker": Talker(
            num_symbols=99, num_speakers=2, text_layers=1, text_kernel=3, num_codebooks=2, codebook_size=16,
            max_frames=60, shared_embedding=False, **transformer,
        ),
    }  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    lines = ["what colour is the big red circle", "a small blue square", "tell me 1 2 3"] * 20
    Tokenizer.train(lines, VOCAB, path)
    return path


@pytest.fixture(scope="session")
def export(tmp_path_factory, parts, tokenizer_path) -> Path:
    metadata = {
        "stage": "omni_sft",
        "tokenizer": Tokenizer.load(tokenizer_path).fingerprint(),
        "mel": MEL.metadata(),
        "image": IMAGE.metadata(),
    }
    folder = tmp_path_factory.mktemp("checkpoints") / "omni_sft"
    return save_export(folder, parts, metadata=metadata, files={"tokenizer.model": tokenizer_path})


@pytest.fixture(scope="session")
def engine(export) -> Engine:
    return load_model(export, device="cpu")


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("media") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("media") / "a.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32), 16000)
    return path
