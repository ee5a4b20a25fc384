"""A GGUF file of llama.cpp -> the configuration and the tensors of transformers' class, and its vocabulary.

float32, half precision and q8_0 (multiplied out) are read; smaller numbers are not what the model was trained with. What is wrong
with a file is one line that names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muomni.interop.gguf.tensors import DTYPES, NAMES, halved, rotated_heads
from muomni.interop.gguf.vocabulary import Vocabulary
from muomni.interop.gguf.writing import MISSING, QK_EPS
from muomni.interop.hf.thinker import OWN
from muomni.short_repr import shown

#: Architecture of llama.cpp -> model_type and class of transformers.
CLASSES = {
    "llama": ("llama", "LlamaForCausalLM"), "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"), "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
}  # fmt: skip
ROLES = ("bos", "eos", "unk", "pad")


@dataclass(frozen=True, slots=True)
class GGUFModel:
    """config, tensors: as transformers has them. special: bos, eos, unk, pad -> id."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    vocabulary: Vocabulary
    special: dict[str, int]
    chat_template: str | None


class Fields:
    """The metadata of a file. Numbers of float32 are read as the shortest decimal that they stand for."""

    def __init__(self, fields: Mapping[str, Any], architecture: str) -> None:
        self.fields, self.architecture = fields, architecture

    def get(self, key: str, default: Any = None) -> Any:
        """A value; `{arch}` in the key is the architecture. Raises ValueError for a missing one without a default."""
        key = key.replace("{arch}", self.architecture)
        if key not in self.fields:
            if default is None:
                raise ValueError(f"no {key} in it: the file is incomplete")
            return default
        value = self.fields[key].contents()
        return float(str(np.float32(value))) if isinstance(value, float) else value


def read_gguf(path: Path) -> GGUFModel:
    """Read a file. Raises FileNotFoundError, or ValueError naming the file and what of it is not read here."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        import gguf
    except ImportError as error:
        raise ValueError(MISSING) from error
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path}: not a GGUF file, or damaged: {shown(error, str, most=160)}") from error
    try:
        return _model(reader)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _model(reader: Any) -> GGUFModel:
    architecture = Fields(reader.fields, "").get("general.architecture")
    if architecture not in CLASSES:
        raise ValueError(f"its architecture is {shown(architecture)}; read here are {', '.join(CLASSES)}")
    fields = Fields(reader.fields, architecture)
    stored = {each.name: each for each in reader.tensors}
    config = _config(fields, stored)
    special = {role: int(fields.get(f"tokenizer.ggml.{_key(role)}_token_id", -1)) for role in ROLES}
    template = fields.get("tokenizer.chat_template", "")
    return GGUFModel(
        config, _tensors(stored, config), _vocabulary(fields),
        {role: index for role, index in special.items() if index >= 0}, template or None,
    )  # fmt: skip


def _key(role: str) -> str:
    return {"unk": "unknown", "pad": "padding"}.get(role, role)


def _config(fields: Fields, stored: Mapping[str, Any]) -> dict[str, Any]:
    model_type, name = CLASSES[fields.architecture]
    if "rope_freqs.weight" in stored:
        raise ValueError(
            "its rotary positions are scaled by a table (rope_freqs): import the Hugging Face folder it was made of"
        )
    experts = fields.get("{arch}.expert_count", 0)
    if experts and model_type == "llama":
        raise ValueError("a mixture of experts of architecture llama (Mixtral) is not read here")
    dim, heads = fields.get("{arch}.embedding_length"), fields.get("{arch}.attention.head_count")
    config = {
        "architectures": [name], "model_type": model_type, "vocab_size": int(stored["token_embd.weight"].shape[1]),
        "hidden_size": dim, "num_hidden_layers": fields.get("{arch}.block_count"), "num_attention_heads": heads,
        "num_key_value_heads": fields.get("{arch}.attention.head_count_kv", heads),
        "head_dim": fields.get("{arch}.attention.key_length", dim // heads),
        "intermediate_size": fields.get("{arch}.feed_forward_length"), "hidden_act": "silu",
        "max_position_embeddings": fields.get("{arch}.context_length"),
        "rms_norm_eps": fields.get("{arch}.attention.layer_norm_rms_epsilon"),
        "rope_theta": fields.get("{arch}.rope.freq_base", 10000.0), "rope_scaling": _scaling(fields),
        "tie_word_embeddings": "output.weight" not in stored,
    }  # fmt: skip
    if QK_EPS in fields.fields:
        config[OWN] = {"qk_norm_eps": fields.get(QK_EPS)}
    if model_type == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in stored
    if experts:
        config |= {
            "num_experts": experts, "num_experts_per_tok": fields.get("{arch}.expert_used_count"), "norm_topk_prob": True,
            "moe_intermediate_size": fields.get("{arch}.expert_feed_forward_length"),
        }  # fmt: skip
    return config


def _scaling(fields: Fields) -> dict[str, Any] | None:
    kind = fields.get("{arch}.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise ValueError(
            f"its rotary positions are scaled by {shown(kind)}: import the Hugging Face folder it was made of"
        )
    return {"rope_type": "linear", "factor": fields.get("{arch}.rope.scaling.factor")} if kind == "linear" else None


def _tensors(stored: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Tensor]:
    import gguf

    theirs = {llama: name for name, llama in reversed(NAMES.items())}  # Mixtral's names come last
    found: dict[str, Tensor] = {}
    for target, each in stored.items():
        if each.tensor_type.name.lower() not in DTYPES:
            raise ValueError(
                f"{target} is of {each.tensor_type.name}: read here are {', '.join(DTYPES)}, not smaller numbers"
            )
        layer, _, leaf = target.rpartition(".")
        block = layer.split(".")[1] if layer.startswith("blk.") else ""
        general = layer.replace(f"blk.{block}.", "blk.{i}.", 1) if block else layer
        if general not in theirs:
            raise ValueError(f"unexpected tensor {target}: transformers' {config['model_type']} has none like it")
        whole = torch.from_numpy(np.array(gguf.dequantize(each.data, each.tensor_type), dtype=np.float32))
        for number, tensor in enumerate(whole if "{n}" in theirs[general] else [whole]):
            name = f"{theirs[general].format(i=block, n=number)}.{leaf}"
            heads = rotated_heads(name, config)
            found[name] = halved(tensor, heads) if heads else tensor
    return found


def _vocabulary(fields: Fields) -> Vocabulary:
    model = fields.get("tokenizer.ggml.model")
    if model not in ("llama", "gpt2"):
        raise ValueError(
            f"its tokenizer is of the type {shown(model)}; read here are llama (SentencePiece) and gpt2 (byte-level)"
        )
    return Vocabulary(
        model=model, pieces=list(fields.get("tokenizer.ggml.tokens")), types=list(fields.get("tokenizer.ggml.token_type")),
        scores=list(fields.get("tokenizer.ggml.scores", [])), merges=list(fields.get("tokenizer.ggml.merges", [])),
        pre=fields.get("tokenizer.ggml.pre", "default"),
        space_prefix=fields.get("tokenizer.ggml.add_space_prefix", model == "llama"),
    )  # fmt: skip
