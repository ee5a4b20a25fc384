"""A Thinker -> the configuration and the tensors of a class of transformers.

A Thinker with QK-norm is a Qwen3 (Yang et al. 2025, arXiv:2505.09388), one without a Llama, one with a window a Mistral; mixtures
of experts are a Qwen3-MoE or a Mixtral. What no such class has is refused by the name of its option.

transformers' Qwen3 has one epsilon for all norms, ours may have another for queries and keys (1e-6 next to 1e-5). A norm of c q
with epsilon e is that of q with epsilon e / c^2, so queries and keys leave multiplied by the power of two c that brings the two
together: lossless, and undone at an import (`QK_SCALE` of config.json).
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from muomni.models.thinker import Thinker

#: Entry of config.json that only an import of ours reads.
OWN = "muomni"
QK_SCALE = "query_key_scale"
QK_EPS = 1e-6  # of the norms of queries and keys (nn/attention.py)

#: (QK-norm, experts) -> model_type and class.
CLASSES = {
    (False, False): ("llama", "LlamaForCausalLM"),
    (True, False): ("qwen3", "Qwen3ForCausalLM"),
    (False, True): ("mixtral", "MixtralForCausalLM"),
    (True, True): ("qwen3_moe", "Qwen3MoeForCausalLM"),
}
MLP_NAMES = {
    "qwen3_moe": ("mlp.gate", "mlp.experts", ("gate_proj", "up_proj", "down_proj")),
    "mixtral": ("block_sparse_moe.gate", "block_sparse_moe.experts", ("w1", "w3", "w2")),
}


@dataclass(frozen=True, slots=True)
class HFThinker:
    """config: of config.json, without what belongs to the tokenizer. tensors: by transformers' names, a tied head left out."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def check_leaves(options: dict[str, Any]) -> None:
    """Raise ValueError naming the option of a Thinker that no class of transformers has."""
    if options.get("short_conv"):
        raise ValueError(
            f"short_conv={options['short_conv']}: no class of transformers or llama.cpp has this convolution; Thinkers of "
            "size=tiny, small and base leave (short_conv: 0), and one of size=nano that is trained with "
            "backbone.thinker.short_conv=0"
        )
    if options.get("mlp", "swiglu") != "swiglu":
        raise ValueError(f"mlp={options['mlp']}: the classes of this shape have swiglu")


def to_transformers(thinker: Thinker) -> HFThinker:
    """Raises ValueError naming the option that no class of transformers has."""
    options: dict[str, Any] = vars(thinker)["options"]
    check_leaves(options)
    scale = qk_scale(options)
    return HFThinker(_config(options, scale), _tensors(thinker, options, scale))


def qk_scale(options: dict[str, Any]) -> float:
    """The power of two by which queries and keys are multiplied; 1 without QK-norm."""
    if not options.get("qk_norm"):
        return 1.0
    return float(2.0 ** round(math.log2(options["norm_eps"] / QK_EPS) / 2))


def _config(options: dict[str, Any], scale: float) -> dict[str, Any]:
    experts, window = options["num_experts"], options["window"]
    model_type, name = CLASSES[bool(options["qk_norm"]), bool(experts)]
    if model_type == "llama" and window:
        model_type, name = "mistral", "MistralForCausalLM"
    config: dict[str, Any] = {
        "architectures": [name], "model_type": model_type,
        "vocab_size": options["vocab_size"], "hidden_size": options["dim"], "intermediate_size": options["ff_dim"],
        "num_hidden_layers": options["num_layers"], "num_attention_heads": options["num_heads"],
        "num_key_value_heads": options["num_kv_heads"], "head_dim": options["dim"] // options["num_heads"],
        "hidden_act": "silu", "max_position_embeddings": options["max_length"], "rms_norm_eps": options["norm_eps"],
        "rope_theta": options["rope_theta"], "rope_scaling": None, "tie_word_embeddings": options["tied"],
        "attention_bias": False, "attention_dropout": 0.0, "use_cache": True, "torch_dtype": "float32",
    }  # fmt: skip
    if options["rope_scaling"] != 1.0:
        config["rope_scaling"] = {"rope_type": "linear", "factor": options["rope_scaling"]}
    if model_type == "llama":
        config["mlp_bias"] = False
    if window or model_type in ("mistral", "mixtral"):
        config["sliding_window"] = window
    if model_type.startswith("qwen3"):
        config |= {"use_sliding_window": bool(window), "max_window_layers": 0 if window else options["num_layers"]}
    if model_type == "qwen3_moe":
        config |= {
            "num_experts": experts, "num_experts_per_tok": options["experts_per_token"], "norm_topk_prob": True,
            "moe_intermediate_size": options["ff_dim"], "decoder_sparse_step": 1, "mlp_only_layers": [],
        }  # fmt: skip
    if model_type == "mixtral":
        config |= {"num_local_experts": experts, "num_experts_per_tok": options["experts_per_token"]}
    if scale != 1:
        config[OWN] = {QK_SCALE: scale}
    return config


def _tensors(thinker: Thinker, options: dict[str, Any], scale: float) -> dict[str, Tensor]:
    heads, groups, width = options["num_heads"], thinker.num_kv_heads, thinker.head_dim
    model_type, _ = CLASSES[bool(options["qk_norm"]), bool(options["num_experts"])]
    state = {key: value.detach() for key, value in thinker.state_dict().items()}
    tensors = {
        "model.embed_tokens.weight": state["embedding.weight"],
        "model.norm.weight": state["transformer.norm.weight"],
    }
    if not options["tied"]:
        tensors["lm_head.weight"] = state["head.weight"]
    for layer in range(thinker.num_layers):
        ours, theirs = f"transformer.blocks.{layer}.", f"model.layers.{layer}."
        query, key, value = state[f"{ours}attention.qkv.weight"].split((heads * width, groups * width, groups * width))
        found = {
            "self_attn.q_proj": query * scale if scale != 1 else query,
            "self_attn.k_proj": key * scale if scale != 1 else key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": state[f"{ours}attention.out.weight"],
            "input_layernorm": state[f"{ours}attention_norm.weight"],
            "post_attention_layernorm": state[f"{ours}mlp_norm.weight"],
        }
        if options["qk_norm"]:
            found["self_attn.q_norm"] = state[f"{ours}attention.query_norm.weight"]
            found["self_attn.k_norm"] = state[f"{ours}attention.key_norm.weight"]
        found |= _experts(state, f"{ours}mlp.", model_type) if options["num_experts"] else _mlp(state, f"{ours}mlp.")
        tensors |= {f"{theirs}{name}.weight": tensor for name, tensor in found.items()}
    return tensors


def _mlp(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    gate, up = state[f"{prefix}gate_up.weight"].chunk(2)
    return {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": state[f"{prefix}down.weight"]}


def _experts(state: dict[str, Tensor], prefix: str, model_type: str) -> dict[str, Tensor]:
    router, experts, names = MLP_NAMES[model_type]
    found = {router: state[f"{prefix}router.weight"]}
    for number, (gate_up, down) in enumerate(
        zip(state[f"{prefix}experts.gate_up"], state[f"{prefix}experts.down"], strict=True)
    ):
        for name, weight in zip(names, (*gate_up.chunk(2), down), strict=True):
            found[f"{experts}.{number}.{name}"] = weight
    return found
