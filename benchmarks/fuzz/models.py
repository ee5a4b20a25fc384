"""Targets: exports, single files, checkpoints, tokenizers, checkpoints of micro-omni; each is loaded and called."""

import itertools
import json
import math
import random
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.fuzz.ask import ask, ask_weights
from benchmarks.fuzz.harness import Target
from benchmarks.fuzz.mutate import damage_bytes, damage_tree
from muomni.checkpoints.export import load_export, save_export
from muomni.checkpoints.single_file import describe_for_checkpoint, save_single
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.micro_omni.exporting import export_checkpoint
from muomni.interop.micro_omni.importing import import_checkpoints
from muomni.models.audio import Audio
from muomni.models.codec import Codec
from muomni.models.projector import AudioProjector, ImageProjector
from muomni.models.talker import Talker
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=32, f_min=20.0, f_max=8000.0, log=True, floor=1e-5)
TOKENIZER = "tokenizer.model"
IMAGE = ImageSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
THINKER: dict[str, Any] = {
    "vocab_size": 300, "dim": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "ff_dim": 24, "max_length": 64,
}  # fmt: skip
HOSTILE_YAML = ("[" * 5000, "{a: " * 2000, "!!python/object/apply:os.system [id]", "? " * 3000, "\t", "%YAML 9.9")
#: What is planted in weights: with these no answer may come.
NOT_FINITE = (math.nan, math.inf, -math.inf)


def build_modules() -> dict[str, nn.Module]:
    """A whole omni model with random weights."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"dim": 16, "num_layers": 1, "num_heads": 2, "ff_dim": 24}
    codes: dict[str, Any] = {"num_codebooks": 2, "codebook_size": 16}
    layers: dict[str, Any] = {"num_layers": 1, "width": 16, "kernel": 3, "ff_dim": 16}
    text: dict[str, Any] = {"num_symbols": 99, "num_speakers": 2, "text_layers": 1, "text_kernel": 3}
    return {
        "thinker": Thinker(**THINKER | {"num_layers": 2, "short_conv": 3}),
        "vision": VisionTransformer(image_size=32, patch=8, **shape),
        "image_projector": ImageProjector(dim=16, out_dim=16, image_tokens="grid", grid=2, cell=4),
        "audio": Audio(n_mels=32, num_symbols=99, channels=4, downsample=4, conv_kernel=3, **shape),
        "audio_projector": AudioProjector(dim=16, out_dim=16, stack=2),
        "codec": Codec(n_mels=32, stride=8, dim=8, decay=0.99, dropout=0.0, idle=0.0, **codes, **layers),
        "talker": Talker(max_frames=20, shared_embedding=False, **text, **codes, **shape),
    }


@cache
def seeds() -> Path:
    """A folder with an `export`, the same as `one.safetensors` and `run.ckpt`, a `tokenizer.model`, and `micro.pt`."""
    folder = Path(tempfile.mkdtemp(prefix="muomni-fuzz-"))
    lines = ["what colour is the big red circle", "a small blue square", "tell me 1 2 3"] * 20
    tokenizer = Tokenizer.train(lines, THINKER["vocab_size"], folder / TOKENIZER)
    files = {TOKENIZER: folder / TOKENIZER}
    modules, plain = build_modules(), Thinker(**THINKER)
    metadata: dict[str, Any] = {"stage": "thinker", "tokenizer": tokenizer.fingerprint()}
    (folder / "plain").mkdir()
    save_export(folder / "plain/export", {"thinker": plain}, metadata=metadata, files=files)
    metadata |= {"stage": "omni_sft", "mel": MEL.metadata(), "image": IMAGE.metadata()}
    save_export(folder / "export", modules, metadata=metadata, files=files)
    save_single(folder / "one.safetensors", load_export(folder / "export"))
    stage = nn.ModuleDict(modules)
    carried = describe_for_checkpoint(stage, modules, metadata, (folder / TOKENIZER).read_bytes())
    torch.save({"state_dict": stage.state_dict(), "export": carried, "global_step": 3}, folder / "run.ckpt")
    export_checkpoint(folder / "plain/export", folder / "micro.pt")
    return folder


def copy_export(folder: Path) -> Path:
    """A whole export of this input's own."""
    return Path(shutil.copytree(seeds() / "export", folder / "export"))


def damaged(seed: str, rng: random.Random, path: Path) -> Path:
    """Damage the bytes of a seed."""
    path.write_bytes(damage_bytes((seeds() / seed).read_bytes(), rng))
    return path


def make_export(rng: random.Random, folder: Path) -> Path:
    """An export folder one file of which is damaged as bytes, cut, missing, or another's."""
    path = copy_export(folder)
    victim = path / rng.choice(("model.yaml", "model.safetensors", "model.safetensors", TOKENIZER))
    chance = rng.random()
    if chance < 0.05:
        victim.unlink()
    elif chance < 0.1:
        victim.write_bytes((seeds() / rng.choice(("one.safetensors", TOKENIZER, "micro.pt"))).read_bytes())
    else:
        victim.write_bytes(damage_bytes(victim.read_bytes(), rng))
    return path


def make_description(rng: random.Random, folder: Path) -> Path:
    """An export whose model.yaml holds odd values anywhere, or is hostile YAML."""
    path = copy_export(folder)
    file = path / "model.yaml"
    chance = rng.random()
    if chance < 0.9:
        document = damage_tree(yaml.safe_load(file.read_text()), rng)
        text = yaml.safe_dump(document) if rng.random() < 0.9 else json.dumps(document, default=str)
    elif chance < 0.95:
        names = ascii_lowercase[: rng.randrange(3, 21)]  # each nine times the one before
        text = "a: &a [x, x]\n"
        text += "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise(names))
    else:
        text = rng.choice(HOSTILE_YAML)
    file.write_text(text)
    return path


def make_weights(rng: random.Random, folder: Path) -> tuple[Path, bool]:
    """An export whose weights hold something that is not finite, or have other shapes, dtypes or names."""
    path = copy_export(folder)
    file = path / "model.safetensors"
    tensors = {key: value.clone() for key, value in load_file(file).items()}
    planted = False
    for _ in range(rng.choice((1, 1, 3))):
        key = rng.choice(sorted(tensors))
        value, damage = tensors[key], rng.randrange(6)
        if damage == 5 and value.is_floating_point():
            tensors[key] = (value * rng.choice((0, 1e4, 1e18, 1e38))).nan_to_num()
            continue
        if damage <= 1 and value.is_floating_point() and value.numel():
            value.view(-1)[rng.randrange(value.numel())] = rng.choice(NOT_FINITE)
            planted = True
        elif damage == 2:
            tensors[key] = value[:-1].contiguous() if value.dim() else value[None]
        elif damage == 3:
            tensors[key] = value.to(rng.choice((torch.int64, torch.float64, torch.bool, torch.bfloat16)))
        else:
            tensors[f"{key}.more"] = tensors.pop(key)
    save_file(tensors, file)
    return path, planted


def make_single(rng: random.Random, folder: Path) -> Path:
    """A single file with damaged bytes or a header that says something else."""
    path = folder / "one.safetensors"
    if rng.random() < 0.5:
        return damaged("one.safetensors", rng, path)
    content = (seeds() / "one.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    if rng.random() < 0.5:
        description = damage_tree(json.loads(header["__metadata__"]["muomni"]), rng)
        header["__metadata__"]["muomni"] = json.dumps(description, default=str)
    else:
        header = damage_tree(header, rng)
    text = json.dumps(header, default=str).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


def make_checkpoint(rng: random.Random, folder: Path) -> Path:
    """A training's .ckpt, damaged as bytes or in what it says."""
    path = folder / "run.ckpt"
    if rng.random() < 0.4:
        return damaged("run.ckpt", rng, path)
    content = torch.load(seeds() / "run.ckpt", weights_only=True)
    plain = {"document": content["export"]["document"], "places": content["export"]["places"]}
    changed = damage_tree(plain, rng)
    content["export"] |= changed if isinstance(changed, dict) else {"document": changed}
    torch.save(content, path)
    return path


def make_micro(rng: random.Random, folder: Path) -> Path:
    """A checkpoint of micro-omni with damaged bytes, keys, shapes or numbers of blocks."""
    path = folder / "thinker.pt"
    if rng.random() < 0.3:
        return damaged("micro.pt", rng, path)
    content: Any = torch.load(seeds() / "micro.pt", weights_only=True)
    state = content.get("model", content) if isinstance(content, dict) else content
    for _ in range(rng.choice((1, 1, 3))):
        key = rng.choice(sorted(key for key in state if isinstance(state[key], Tensor)))
        damage = rng.randrange(5)
        if damage == 0:
            state[key.replace(".0.", f".{rng.choice((1, 7, 10**9, -1))}.")] = state.pop(key)
        elif damage == 1:
            turned = state[key].t() if state[key].dim() == 2 else 0
            state[key] = rng.choice((None, 3, "x", torch.zeros(()), torch.zeros(0, 5), turned))
        elif damage == 2:
            state[f"{key}x"] = state.pop(key)
        elif damage == 3:
            state[key] = state[key][: max(1, len(state[key]) // 2)] if state[key].dim() else state[key]
        else:
            state[key] = torch.full_like(state[key], math.nan)
    torch.save(content, path)
    return path


def ask_tokenizer(path: Path) -> None:
    """Load it, and take a text there and back."""
    tokenizer = Tokenizer.load(path)
    tokenizer.decode(tokenizer.encode("the red circle"))


def import_micro(path: Path) -> None:
    """Import it into an export."""
    import_checkpoints([path], path.parent / "imported", tokenizer=seeds() / TOKENIZER)


TARGETS = (
    Target("export", make_export, ask, share=8),
    Target("description", make_description, ask, share=12),
    Target("weights", make_weights, ask_weights, share=5),
    Target("single", make_single, ask, share=8),
    Target("checkpoint", make_checkpoint, ask, share=5),
    Target("tokenizer", lambda rng, folder: damaged(TOKENIZER, rng, folder / TOKENIZER), ask_tokenizer, share=15),
    Target("micro_omni", make_micro, import_micro, share=6),
)
