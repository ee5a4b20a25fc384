"""What each family's config.json says, as options of a Thinker, and the other way: `RULES`."""

from collections.abc import Callable
from typing import Any

from muomni.interop.hf.thinker_config import FULL, SLIDING, ConfigReader

Options = dict[str, Any]
Config = dict[str, Any]


def _shape(c: ConfigReader) -> Options:
    """What the families of Llama's shape have in common."""
    dim, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    width = c.get("head_dim") if "head_dim" in c.config or "head_dim" in c.defaults else None
    kv_heads = heads if c.get("num_key_value_heads") is None else c.integer("num_key_value_heads")
    theta, scaling = c.rope()
    return {
        "vocab_size": c.integer("vocab_size"), "dim": dim, "num_layers": c.integer("num_hidden_layers"), "num_heads": heads,
        "num_kv_heads": kv_heads, "ff_dim": c.integer("intermediate_size"),
        "head_dim": None if width is None else c.integer("head_dim"),
        "max_length": c.integer("max_position_embeddings"), "norm_eps": c.number("rms_norm_eps"),
        "rope_theta": theta, "rope_scaling": scaling, "tied": c.switch("tie_word_embeddings"),
        "mlp": c.choice("hidden_act", {"silu": "swiglu"}),
    }  # fmt: skip


def _shape_config(o: Options) -> Config:
    scaling = o["rope_scaling"]
    if isinstance(scaling, int | float):
        scaling = None if scaling == 1 else {"rope_type": "linear", "factor": float(scaling)}
    return {
        "vocab_size": o["vocab_size"], "hidden_size": o["dim"], "num_hidden_layers": o["num_layers"],
        "num_attention_heads": o["num_heads"], "num_key_value_heads": o["num_kv_heads"],
        "head_dim": o["head_dim"] or o["dim"] // o["num_heads"], "intermediate_size": o["ff_dim"], "hidden_act": "silu",
        "max_position_embeddings": o["max_length"], "rms_norm_eps": o["norm_eps"], "rope_theta": o["rope_theta"],
        "rope_scaling": scaling, "tie_word_embeddings": o["tied"],
    }  # fmt: skip


def _llama(c: ConfigReader) -> Options:
    c.only("mlp_bias", False)
    bias = c.switch("attention_bias")
    return _shape(c) | {"qkv_bias": bias, "out_bias": bias}


def _llama_config(o: Options) -> Config:
    return _shape_config(o) | {"attention_bias": o["qkv_bias"], "mlp_bias": False}


def _mistral(c: ConfigReader) -> Options:
    window = c.get("sliding_window")
    return _shape(c) | {"window": None if window is None else c.integer("sliding_window")}


def _mistral_config(o: Options) -> Config:
    return _shape_config(o) | {"sliding_window": o["window"]}


def _mixtral(c: ConfigReader) -> Options:
    return _mistral(c) | {
        "num_experts": c.integer("num_local_experts"), "experts_per_token": c.integer("num_experts_per_tok"),
        "norm_topk_prob": True,
    }  # fmt: skip


def _mixtral_config(o: Options) -> Config:
    return _mistral_config(o) | {"num_local_experts": o["num_experts"], "num_experts_per_tok": o["experts_per_token"]}


def _some_windows(c: ConfigReader, sliding: list[bool]) -> Options:
    """Options of layers, some of which have a window."""
    if not any(sliding):
        return {"window": None, "full_attention": []}
    layers = [layer for layer, has_window in enumerate(sliding) if not has_window]
    return {"window": c.integer("sliding_window"), "full_attention": layers}


def _qwen_windows(c: ConfigReader) -> Options:
    count, used = c.integer("num_hidden_layers"), c.switch("use_sliding_window") and c.get("sliding_window") is not None
    first, sliding = c.get("max_window_layers"), c.layer_types(count)
    if sliding is None:
        sliding = [layer >= (first if isinstance(first, int) else count) for layer in range(count)]
    c.read.add("sliding_window")
    return _some_windows(c, [used and has_window for has_window in sliding])


def _windows_config(o: Options) -> Config:
    windowed = [o["window"] is not None and layer not in o["full_attention"] for layer in range(o["num_layers"])]
    return {"sliding_window": o["window"], "layer_types": [SLIDING if each else FULL for each in windowed]}


def _qwen2(c: ConfigReader) -> Options:
    return _shape(c) | _qwen_windows(c) | {"qkv_bias": True}


def _qwen2_config(o: Options) -> Config:
    used = {"use_sliding_window": o["window"] is not None, "max_window_layers": o["num_layers"]}
    return _shape_config(o) | used | _windows_config(o)


def _qk_norm(c: ConfigReader) -> Options:
    bias = c.switch("attention_bias")
    return {"qk_norm": True, "qk_norm_eps": c.number("rms_norm_eps"), "qkv_bias": bias, "out_bias": bias}


def _qwen3(c: ConfigReader) -> Options:
    return _shape(c) | _qwen_windows(c) | _qk_norm(c)


def _qwen3_config(o: Options) -> Config:
    return _qwen2_config(o) | {"attention_bias": o["qkv_bias"]}


def _qwen3_moe(c: ConfigReader) -> Options:
    c.only("decoder_sparse_step", 1)
    c.only("mlp_only_layers", None, [])
    c.read |= {"max_window_layers", "num_local_experts"}
    key = "num_local_experts" if "num_local_experts" in c.config else "num_experts"
    window = c.get("sliding_window") if c.switch("use_sliding_window") else None
    return _shape(c) | _qk_norm(c) | {
        "window": None if window is None else c.integer("sliding_window"), "ff_dim": c.integer("moe_intermediate_size"),
        "num_experts": c.integer(key), "experts_per_token": c.integer("num_experts_per_tok"),
        "norm_topk_prob": c.switch("norm_topk_prob"),
    }  # fmt: skip


def _qwen3_moe_config(o: Options) -> Config:
    window = {"use_sliding_window": o["window"] is not None, "sliding_window": o["window"]}
    return _shape_config(o) | window | {
        "attention_bias": o["qkv_bias"], "moe_intermediate_size": o["ff_dim"], "num_experts": o["num_experts"],
        "num_experts_per_tok": o["experts_per_token"], "norm_topk_prob": o["norm_topk_prob"], "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }  # fmt: skip


def _gemma3(c: ConfigReader) -> Options:
    c.only("attn_logit_softcapping", None)
    c.only("final_logit_softcapping", None)
    c.only("use_bidirectional_attention", False, None)
    count, sliding = c.integer("num_hidden_layers"), c.layer_types(c.integer("num_hidden_layers"))
    c.read |= {"sliding_window_pattern", "rope_local_base_freq", "sliding_window", "hidden_activation"}
    if sliding is None:
        key = "sliding_window_pattern" if "sliding_window_pattern" in c.config else "_sliding_window_pattern"
        sliding = [bool((layer + 1) % c.integer(key)) for layer in range(count)]
    theta, scaling = c.rope(section=FULL)
    local, unscaled = c.rope(section=SLIDING, theta="rope_local_base_freq")
    if unscaled != 1:
        raise ValueError(f"{c.where}: rope_parameters of {SLIDING} are scaled, which is not supported")
    shape = _shape(c) | _qk_norm(c) | _some_windows(c, sliding)
    return shape | {
        "mlp": c.choice("hidden_activation", {"gelu_pytorch_tanh": "geglu"}), "norm": "rms_offset", "output_norm": True,
        "embedding_scale": shape["dim"] ** 0.5, "attention_scale": c.number("query_pre_attn_scalar") ** -0.5,
        "rope_theta": theta, "rope_scaling": scaling, "local_rope_theta": local,
    }  # fmt: skip


def _gemma3_config(o: Options) -> Config:
    shape = _shape_config(o)
    scalar = shape["head_dim"] if o["attention_scale"] is None else o["attention_scale"] ** -2
    del shape["hidden_act"]
    return shape | _windows_config(o) | {
        "sliding_window": o["window"] or 1, "attention_bias": o["qkv_bias"], "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar,
        "rope_local_base_freq": o["local_rope_theta"] or 10000.0, "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }  # fmt: skip


def _gpt2(c: ConfigReader) -> Options:
    c.only("scale_attn_weights", True)
    c.only("scale_attn_by_inverse_layer_idx", False)
    c.only("add_cross_attention", False)
    dim, inner = c.integer("n_embd"), c.get("n_inner")
    activations = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
    return {
        "vocab_size": c.integer("vocab_size"), "dim": dim, "num_layers": c.integer("n_layer"),
        "num_heads": c.integer("n_head"), "num_kv_heads": c.integer("n_head"),
        "ff_dim": 4 * dim if inner is None else c.integer("n_inner"), "max_length": c.integer("n_positions"),
        "mlp": c.choice("activation_function", activations), "norm": "layer", "norm_eps": c.number("layer_norm_epsilon"),
        "qkv_bias": True, "out_bias": True, "learned_positions": True, "rope_theta": None,
        "tied": c.switch("tie_word_embeddings"),
    }  # fmt: skip


def _gpt2_config(o: Options) -> Config:
    return {
        "vocab_size": o["vocab_size"], "n_embd": o["dim"], "n_layer": o["num_layers"], "n_head": o["num_heads"],
        "n_inner": o["ff_dim"], "n_positions": o["max_length"], "layer_norm_epsilon": o["norm_eps"],
        "activation_function": "gelu" if o["mlp"] == "gelu" else "gelu_new", "tie_word_embeddings": o["tied"],
    }  # fmt: skip


#: Family -> its two directions.
RULES: dict[str, tuple[Callable[[ConfigReader], Options], Callable[[Options], Config]]] = {
    "llama": (_llama, _llama_config),
    "qwen2": (_qwen2, _qwen2_config),
    "qwen3": (_qwen3, _qwen3_config),
    "mistral": (_mistral, _mistral_config),
    "mixtral": (_mixtral, _mixtral_config),
    "qwen3_moe": (_qwen3_moe, _qwen3_moe_config),
    "gemma3": (_gemma3, _gemma3_config),
    "gpt2": (_gpt2, _gpt2_config),
}
