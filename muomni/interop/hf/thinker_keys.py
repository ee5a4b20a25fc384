"""The keys of a Thinker and those of transformers' decoders: one table, applied in both directions.

`{i}` in a name is the number of a block, `{n}` that of an expert. A layer of ours is one of theirs, or the rows of several, one
after the other (fused projections); all experts are one tensor of ours. GPT-2's matrices are transposed.

Legend: H query heads, G key-value heads, K head width.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = "transformer.blocks.{i}"
Layers = dict[str, tuple[str, ...]]


def _llama(*, mlp_norm: str = "post_attention_layernorm", **more: str) -> Layers:
    layers = {
        "embedding": ("model.embed_tokens",),
        "transformer.norm": ("model.norm",),
        "head": ("lm_head",),
        f"{BLOCK}.attention_norm": ("model.layers.{i}.input_layernorm",),
        f"{BLOCK}.attention.qkv": tuple(f"model.layers.{{i}}.self_attn.{name}_proj" for name in "qkv"),
        f"{BLOCK}.attention.out": ("model.layers.{i}.self_attn.o_proj",),
        f"{BLOCK}.attention.query_norm": ("model.layers.{i}.self_attn.q_norm",),
        f"{BLOCK}.attention.key_norm": ("model.layers.{i}.self_attn.k_norm",),
        f"{BLOCK}.mlp_norm": (f"model.layers.{{i}}.{mlp_norm}",),
        f"{BLOCK}.mlp.gate_up": ("model.layers.{i}.mlp.gate_proj", "model.layers.{i}.mlp.up_proj"),
        f"{BLOCK}.mlp.down": ("model.layers.{i}.mlp.down_proj",),
        f"{BLOCK}.mlp.router": ("model.layers.{i}.mlp.gate",),
        f"{BLOCK}.mlp.experts.gate_up": tuple(
            f"model.layers.{{i}}.mlp.experts.{{n}}.{name}_proj" for name in ("gate", "up")
        ),
        f"{BLOCK}.mlp.experts.down": ("model.layers.{i}.mlp.experts.{n}.down_proj",),
    }
    return layers | {f"{BLOCK}.{ours}": (f"model.layers.{{i}}.{theirs}",) for ours, theirs in more.items()}


@dataclass(frozen=True, slots=True)
class Names:
    """layers: ours -> theirs, without `.weight` and `.bias`. transposed: layers of ours whose matrices are so in theirs.

    prefixes: beginnings in place of the first, by which the body's tensors are stored too. unused: regular expressions of
    tensors that a folder may have and nobody reads.
    """

    layers: Layers
    prefixes: tuple[str, ...]
    unused: tuple[str, ...] = ()
    transposed: frozenset[str] = frozenset()


LLAMA = Names(_llama(), ("model.", ""), (r".*\.rotary_emb\.inv_freq",))
MIXTRAL = Names(
    _llama()
    | {
        f"{BLOCK}.mlp.router": ("model.layers.{i}.block_sparse_moe.gate",),
        f"{BLOCK}.mlp.experts.gate_up": tuple(
            f"model.layers.{{i}}.block_sparse_moe.experts.{{n}}.{name}" for name in ("w1", "w3")
        ),
        f"{BLOCK}.mlp.experts.down": ("model.layers.{i}.block_sparse_moe.experts.{n}.w2",),
    },
    ("model.", ""),
    (r".*\.rotary_emb\.inv_freq",),
)
GEMMA = Names(
    _llama(
        mlp_norm="pre_feedforward_layernorm",
        attention_output_norm="post_attention_layernorm",
        mlp_output_norm="post_feedforward_layernorm",
    ),
    ("model.", "", "model.language_model.", "language_model.model."),
    (r".*\.rotary_emb\.inv_freq", r"(model\.)?(vision_tower|multi_modal_projector)\..*"),
)
_GPT2 = {
    "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj",
}  # fmt: skip
GPT2 = Names(
    {
        "embedding": ("transformer.wte",),
        "position_embedding": ("transformer.wpe",),
        "transformer.norm": ("transformer.ln_f",),
        "head": ("lm_head",),
        f"{BLOCK}.attention_norm": ("transformer.h.{i}.ln_1",),
        f"{BLOCK}.mlp_norm": ("transformer.h.{i}.ln_2",),
        **{f"{BLOCK}.{ours}": (f"transformer.h.{{i}}.{theirs}",) for ours, theirs in _GPT2.items()},
    },
    ("transformer.", ""),
    (r".*h\.\d+\.attn\.(masked_)?bias",),
    transposed=frozenset(f"{BLOCK}.{ours}" for ours in _GPT2),
)


@dataclass(frozen=True, slots=True)
class Source:
    """What a tensor of ours is made of: their names, whose rows are joined, for each expert if there are any. sizes: rows of
    each. transposed: theirs have columns for rows."""

    names: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...]
    stacked: bool
    transposed: bool

    def join(self, read: Callable[[str], Tensor]) -> Tensor:
        """Our tensor from theirs, as their own memory where it is one of theirs as it is."""
        joined = [self._joined([read(name) for name in names]) for names in self.names]
        return torch.stack(joined) if self.stacked else joined[0]

    def _joined(self, tensors: list[Tensor]) -> Tensor:
        whole = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        return whole.t().contiguous() if self.transposed else whole

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """Their tensors from ours."""
        found: dict[str, Tensor] = {}
        for names, each in zip(self.names, tensor if self.stacked else [tensor], strict=True):
            turned = each.t() if self.transposed else each
            rows = [turned] if len(names) == 1 else turned.split(self.sizes)
            found |= {name: row.contiguous() for name, row in zip(names, rows, strict=True)}
        return found

    def all_names(self) -> tuple[str, ...]:
        """Theirs, in the order in which they are read."""
        return tuple(name for names in self.names for name in names)


def sources(names: Names, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Source]:
    """Our keys -> what each is made of. state: of a Thinker of these options, or its outline; a tied head is its embedding."""
    found = {}
    for key, tensor in state.items():
        layer, leaf = (key, "weight") if ".experts." in key else tuple(key.rsplit(".", 1))
        if layer == "head" and options["tied"]:
            layer = "embedding"
        block = re.match(r"transformer\.blocks\.(\d+)\.", layer)
        number = "" if block is None else block[1]
        general = layer if block is None else layer.replace(block[0], f"{BLOCK}.", 1)
        if general not in names.layers:
            raise ValueError(f"no such family has {general.replace('.{i}', '')}")
        theirs, stacked = names.layers[general], ".experts." in key
        experts = range(tensor.shape[0]) if stacked else range(1)
        each = tuple(tuple(f"{name.format(i=number, n=n)}.{leaf}" for name in theirs) for n in experts)
        transposed = general in names.transposed and leaf == "weight"
        found[key] = Source(each, _rows(tensor[0] if stacked else tensor, len(theirs), options), stacked, transposed)
    return found


def _rows(tensor: Tensor, count: int, options: Mapping[str, Any]) -> tuple[int, ...]:
    """Rows of each of so many tensors of theirs: gate and up are equally large, query, key and value have H, G and G heads."""
    rows = tensor.shape[0]
    if count < 3:
        return (rows // count,) * count
    width = rows // (options["num_heads"] + 2 * options["num_kv_heads"])
    return tuple(width * heads for heads in (options["num_heads"], options["num_kv_heads"], options["num_kv_heads"]))


def stored_prefix(names: Names, stored: Iterable[str]) -> str:
    """With which of its prefixes a folder stores the body's tensors; the usual one where it has none of them."""
    embedding = names.layers["embedding"][0].removeprefix(names.prefixes[0])
    stored = set(stored)
    return next((prefix for prefix in names.prefixes if f"{prefix}{embedding}.weight" in stored), names.prefixes[0])


def stored_name(name: str, names: Names, prefix: str) -> str:
    """How a folder with this prefix calls a tensor."""
    usual = names.prefixes[0]
    if name.startswith(usual):
        return prefix + name.removeprefix(usual)
    return f"language_model.{name}" if prefix.startswith("language_model.") else name
