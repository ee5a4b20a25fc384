"""Random checkpoints of micro-omni in the published shapes, written as its stages write them, and its tokenizer.

The references of these tests know micro-omni by its definitions alone (plain torch functions); none of our modules.
"""

import io
import random

import pytest
import sentencepiece
import torch

VOCAB = 120


def linear(out, into, *, bias=True):
    state = {"weight": torch.randn(out, into) * into**-0.5}
    return state | {"bias": torch.randn(out) * 0.1} if bias else state


def prefixed(prefix, state):
    return {f"{prefix}.{key}": value for key, value in state.items()}


def norm(dim):
    return 1 + 0.1 * torch.randn(dim)


def decoder(dim, ff, layers, *, kv_rows=None, experts=0, gelu=False):
    """Blocks and final norm of Thinker and Talker; kv_rows: of the grouped attention's keys, None for plain attention."""
    state = {"norm.weight": norm(dim)}
    for i in range(layers):
        block = {"norm1.weight": norm(dim), "norm2.weight": norm(dim)}
        if kv_rows is None:
            block |= prefixed("attn.qkv", linear(3 * dim, dim, bias=False))
        else:
            for name, rows in (("q", dim), ("k", kv_rows), ("v", kv_rows)):
                block |= prefixed(f"attn.{name}", linear(rows, dim, bias=False))
        block |= prefixed("attn.o", linear(dim, dim, bias=False))
        if experts:
            block |= prefixed("moe.router", linear(experts, dim, bias=False))
        if gelu:
            block |= prefixed("mlp.fc1", linear(ff, dim)) | prefixed("mlp.fc2", linear(dim, ff))
            state |= prefixed(f"blocks.{i}", block)
            continue
        for mlp in [f"moe.experts.{n}" for n in range(experts)] or ["mlp"]:
            block |= prefixed(f"{mlp}.gate_proj", linear(ff, dim, bias=False))
            block |= prefixed(f"{mlp}.up_proj", linear(ff, dim, bias=False))
            block |= prefixed(f"{mlp}.down_proj", linear(dim, ff, bias=False))
        state |= prefixed(f"blocks.{i}", block)
    return state


def thinker(*, grouped=False, experts=0, gelu=False, layers=4, vocab=VOCAB):
    state = {"tok_emb.weight": torch.randn(vocab, 256)}
    state |= decoder(256, 1024, layers, kv_rows=128 if grouped else None, experts=experts, gelu=gelu)
    return state | prefixed("lm_head", linear(vocab, 256, bias=False))


def conv(out, into, kernel):
    return {
        "weight": torch.randn(out, into, kernel, kernel) * (into * kernel**2) ** -0.5,
        "bias": torch.randn(out) * 0.1,
    }


def audio(downsample=4, *, older=False, layers=4):
    first = "down" if downsample == 4 else "down.0"
    state = prefixed(f"{first}.net.0", conv(64, 1, 3)) | prefixed(f"{first}.net.2", conv(64, 64, 3))
    if downsample == 8:
        state |= prefixed("down.1", conv(64, 64, 3))
    state |= prefixed("proj", linear(192, 64 * 128 // downsample)) | {"norm.weight": norm(192)}
    for i in range(layers):
        qkv, out = linear(576, 192), linear(192, 192)
        block = {"norm1.weight": norm(192), "norm2.weight": norm(192)}
        if older:
            block |= {"attn.in_proj_weight": qkv["weight"], "attn.in_proj_bias": qkv["bias"]}
            block |= prefixed("attn.out_proj", out)
        else:
            block |= prefixed("qkv_proj", qkv) | prefixed("out_proj", out)
        block |= prefixed("mlp.0", linear(768, 192)) | prefixed("mlp.2", linear(192, 768))
        state |= prefixed(f"blocks.{i}", block)
    return state


def vision(layers=4):
    state = {"cls": torch.randn(1, 1, 128), "pos": torch.randn(1, 197, 128), "norm.weight": norm(128)}
    state |= prefixed("proj", conv(128, 3, 16))
    for i in range(layers):
        qkv = linear(384, 128)
        block = {"self_attn.in_proj_weight": qkv["weight"], "self_attn.in_proj_bias": qkv["bias"]}
        block |= prefixed("self_attn.out_proj", linear(128, 128))
        block |= prefixed("linear1", linear(512, 128)) | prefixed("linear2", linear(128, 512))
        for name in ("norm1", "norm2"):
            block |= {f"{name}.weight": norm(128), f"{name}.bias": torch.randn(128) * 0.1}
        state |= prefixed(f"blocks.{i}", block)
    return state


def rvq():
    state = {f"codebooks.{k}.weight": torch.randn(128, 64) for k in range(2)}
    return state | prefixed("proj_in", linear(64, 128)) | prefixed("proj_out", linear(128, 64))


def talker(layers=4):
    state = {"start": torch.randn(1, 1, 192), "emb.weight": torch.randn(128, 192)} | decoder(192, 768, layers)
    return state | prefixed("base_head", linear(128, 192)) | prefixed("res_head", linear(128, 192))


def compiled(state):
    """As torch.compile names the keys of modules and of their blocks."""
    return {f"_orig_mod.{key}".replace("blocks.0.", "blocks.0._orig_mod."): value for key, value in state.items()}


RESUMED = {"optimizer": {"state": {0: {"step": 3}}}, "scheduler": {"last_epoch": 3}, "step": 3, "best_val_loss": 0.5}


def everything():
    """Each stage's file, as its training writes it."""
    torch.manual_seed(0)
    return {
        "thinker.pt": {"model": thinker()} | RESUMED,
        "audio_enc.pt": {"enc": audio(), "head": linear(99, 192)},
        "vision.pt": {"vit": vision(), "img_proj": linear(128, 128), "text_proj": linear(128, 128)},
        "talker.pt": {"rvq": rvq(), "talker": talker()},
        "omni.pt": {"thinker": thinker(grouped=True), "proj_a": linear(256, 192), "proj_v": linear(256, 128)},
    }


@pytest.fixture(scope="session")
def contents():
    return everything()


@pytest.fixture
def saved(tmp_path, contents):
    """name, change -> the path of a stage's file; `change` alters its content, or gives another dictionary."""

    def save(name, change=None):
        content = {key: dict(value) if isinstance(value, dict) else value for key, value in contents[name].items()}
        changed = None if change is None else change(content)
        torch.save(changed if isinstance(changed, dict) else content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory):
    """A tokenizer as micro-omni trains it: no special tokens but unk, bos, eos."""
    words = ["".join(random.Random(i).choices("abcdefgh", k=4)) for i in range(100)]
    lines = [" ".join(random.Random(i).choices(words, k=8)) for i in range(300)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=VOCAB, model_type="bpe", character_coverage=1.0,
        minloglevel=3,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return path
