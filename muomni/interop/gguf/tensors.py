"""Tensors of transformers' classes <-> those of a GGUF file: names, the order of rotated rows, stacked experts, dtypes.

llama.cpp's Llama rotates neighbours (2i, 2i + 1), transformers' halves (i, i + K/2): rows of its query and key projections are in
another order there. Its Qwens rotate halves. Matrices get the file's dtype; vectors and routers stay float32, as llama.cpp's own
converter keeps them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: model_type of config.json -> architecture of llama.cpp.
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe",
}  # fmt: skip
DTYPES = ("f32", "f16", "bf16", "q8_0")
#: transformers' names <-> llama.cpp's, without `.weight` and `.bias`; `{i}`: number of a block, `{n}`: of an expert, of which
#: llama.cpp stacks all.
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    **{
        f"model.layers.{{i}}.{theirs}": f"blk.{{i}}.{llama}"
        for theirs, llama in {
            "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
            "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm",
            "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
            "mlp.gate": "ffn_gate_inp", "mlp.experts.{n}.gate_proj": "ffn_gate_exps",
            "mlp.experts.{n}.up_proj": "ffn_up_exps", "mlp.experts.{n}.down_proj": "ffn_down_exps",
            "block_sparse_moe.gate": "ffn_gate_inp", "block_sparse_moe.experts.{n}.w1": "ffn_gate_exps",
            "block_sparse_moe.experts.{n}.w3": "ffn_up_exps", "block_sparse_moe.experts.{n}.w2": "ffn_down_exps",
        }.items()
    },
}  # fmt: skip
ROTATED = re.compile(r"\.(q|k)_proj\.(weight|bias)$")
BLOCK, EXPERT = re.compile(r"\.layers\.(\d+)\."), re.compile(r"\.experts\.(\d+)\.")


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """Rows of a query or key projection (H K, D), or its bias (H K), as llama.cpp's Llama rotates them: neighbours instead of
    halves."""
    count = len(rows)
    return rows.reshape(heads, 2, count // heads // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def halved(rows: Tensor, heads: int) -> Tensor:
    """The inverse of `interleaved`."""
    count = len(rows)
    return rows.reshape(heads, count // heads // 2, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def rotated_heads(name: str, config: Mapping[str, Any]) -> int:
    """How many heads the rows of a tensor belong to, if they are in another order in a GGUF; 0 for the others. name: of
    transformers."""
    found = ROTATED.search(name)
    if found is None or ARCHITECTURES[config["model_type"]] != "llama":
        return 0
    return int(config["num_attention_heads"] if found[1] == "q" else config["num_key_value_heads"])


def in_llama_cpp(tensors: Iterable[str]) -> dict[str, list[str]]:
    """Names of transformers -> llama.cpp's, each with the tensors that make it up: one, or those of all experts in order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in tensors:
        layer, _, leaf = name.rpartition(".")
        block, expert = BLOCK.search(layer), EXPERT.search(layer)
        general = EXPERT.sub(".experts.{n}.", BLOCK.sub(".layers.{i}.", layer))
        target = NAMES[general].format(i=block and block[1])
        found.setdefault(f"{target}.{leaf}", []).append((int(expert[1]) if expert else 0, name))
    return {target: [name for _, name in sorted(members)] for target, members in found.items()}


def is_stacked(target: str) -> bool:
    """Whether a tensor of llama.cpp's is made of all experts."""
    return "_exps." in target


def stored(target: str, shape: tuple[int, ...], dtype: str) -> str:
    """The dtype that a tensor gets in a file of a dtype: float32 for vectors and routers, and half precision for rows that are
    no multiple of q8_0's blocks."""
    if len(shape) < 2 or target.endswith("ffn_gate_inp.weight"):
        return "f32"
    return "f16" if dtype == "q8_0" and shape[-1] % 32 else dtype


def to_numpy(tensor: Tensor, dtype: str) -> np.ndarray:
    """The bytes of a tensor in a dtype of GGUF, as `GGUFWriter.write_tensor_data` takes them."""
    import gguf

    if dtype == "bf16":
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint8)
    plain = tensor.float().contiguous().numpy()
    return plain if dtype == "f32" else gguf.quantize(plain, gguf.GGMLQuantizationType[dtype.upper()])
