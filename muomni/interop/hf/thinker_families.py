"""Families of transformers' decoders: a config.json -> options of a Thinker, and back.

Each direction is one function a family. A Thinker can be written as a family if reading what would be written has its very
options (`config_of`); what differs then names what the family lacks.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from muomni.interop.hf.thinker_config import ConfigReader
from muomni.interop.hf.thinker_keys import GEMMA, GPT2, LLAMA, MIXTRAL, Names
from muomni.interop.hf.thinker_options import RULES, Config, Options
from muomni.models.thinker import Thinker

#: Options that change no logits, and the epsilon of queries' and keys' norms, which `to_hf` puts into their projections.
NOT_COMPARED = ("dropout", "qk_norm_eps")


@dataclass(frozen=True, slots=True)
class Family:
    """architecture: transformers' class. names: of its tensors. options, config: the two directions. defaults: of its keys that
    a config.json may lack."""

    architecture: str
    names: Names
    options: Callable[[ConfigReader], Options]
    config: Callable[[Options], Config]
    defaults: Mapping[str, Any]


def complete(options: Mapping[str, Any]) -> Options:
    """All options of a Thinker: those given, the others at their defaults."""
    signature = inspect.signature(Thinker.__init__).parameters
    defaults = {name: p.default for name, p in signature.items() if p.default is not inspect.Parameter.empty}
    whole = defaults | dict(options)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in whole.items()}


def canonical(options: Options) -> Options:
    """The same Thinker's options, those without effect at their defaults, and each value in one way of writing it."""
    default, found = complete({}), dict(options)
    if not found["num_experts"]:
        found |= {key: default[key] for key in ("experts_per_token", "norm_topk_prob")}
    if found["window"] is None or len(set(found["full_attention"])) == found["num_layers"]:
        found |= {key: default[key] for key in ("window", "full_attention", "local_rope_theta")}
    width = found["head_dim"] or found["dim"] // found["num_heads"]
    if width * found["num_heads"] == found["dim"]:
        found["head_dim"] = None
    if found["attention_scale"] == width**-0.5:
        found["attention_scale"] = None
    return found | {"full_attention": sorted(set(found["full_attention"]))}


_BASE: Config = {
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "attention_bias": False,
    "num_key_value_heads": None,
}  # fmt: skip
_QWEN: Config = _BASE | {
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28, "num_key_value_heads": 32,
}  # fmt: skip
#: model_type -> its family. The order is that in which a Thinker's family is looked for.
FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", LLAMA, *RULES["llama"], _BASE | {"max_position_embeddings": 2048}),
    "qwen2": Family("Qwen2ForCausalLM", LLAMA, *RULES["qwen2"], _QWEN),
    "qwen3": Family("Qwen3ForCausalLM", LLAMA, *RULES["qwen3"], _QWEN | {"head_dim": 128}),
    "mistral": Family(
        "MistralForCausalLM", LLAMA, *RULES["mistral"], _BASE | {"num_key_value_heads": 8, "sliding_window": 4096}
    ),
    "mixtral": Family(
        "MixtralForCausalLM", MIXTRAL, *RULES["mixtral"],
        _BASE | {"num_key_value_heads": 8, "sliding_window": None, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM", LLAMA, *RULES["qwen3_moe"],
        _QWEN | {"num_key_value_heads": 4, "norm_topk_prob": False},
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM", GEMMA, *RULES["gemma3"],
        _BASE | {
            "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "sliding_window": 4096,
            "tie_word_embeddings": True, "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
            "_sliding_window_pattern": 6,
        },
    ),
    "gpt2": Family(
        "GPT2LMHeadModel", GPT2, *RULES["gpt2"],
        {
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_inner": None, "tie_word_embeddings": True,
            "n_positions": 1024,
        },
    ),
}  # fmt: skip


def options_of(config: Mapping[str, Any], *, where: str) -> tuple[str, Options]:
    """A config.json -> its model_type, and all options of a Thinker. where: the file, for errors.

    Raises ValueError naming a family that is not known, a key that is missing or of another type, or one that this Thinker
    cannot follow.
    """
    kind = config.get("model_type")
    if kind == "gemma3" and isinstance(config.get("text_config"), dict):
        config, kind, where = (
            {"model_type": "gemma3_text", **config["text_config"]},
            "gemma3_text",
            f"{where}, text_config",
        )
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise ValueError(f"{where}: model_type={kind!r} is not known; known: {', '.join(FAMILIES)}")
    reader = ConfigReader(config, defaults=family.defaults, where=where)
    options = family.options(reader)
    reader.finish()
    return str(kind), canonical(complete(options))


def config_of(options: Options, model_type: str | None = None) -> tuple[str, Config]:
    """All options of a Thinker -> model_type and config.json. model_type: None is the first family that has them all.

    Raises ValueError naming the options that no family, or this one, has.
    """
    if model_type is not None and model_type not in FAMILIES:
        raise ValueError(f"model_type={model_type!r} is not known; known: {', '.join(FAMILIES)}")
    options = canonical(options)
    kinds = list(FAMILIES) if model_type is None else [model_type]
    lacking: dict[str, list[str]] = {}
    for kind in kinds:
        config, lacking[kind] = _written(options, kind)
        if not lacking[kind]:
            return kind, config
    nearest = min(kinds, key=lambda kind: len(lacking[kind]))
    what = ", ".join(f"{name}={options[name]}" for name in lacking[nearest])
    raise ValueError(f"no transformers class has such a Thinker: {FAMILIES[nearest].architecture} lacks {what}")


def _written(options: Options, kind: str) -> tuple[Config, list[str]]:
    """The config.json of a family, and the options that would be others when it is read."""
    family = FAMILIES[kind]
    config = {"architectures": [family.architecture], "model_type": kind, **family.config(options)}
    try:
        _, found = options_of(config, where=kind)
    except ValueError:  # a value that the family cannot have
        return config, [name for name in options if name not in NOT_COMPARED]
    return config, [name for name in options if options[name] != found[name] and name not in NOT_COMPARED]
