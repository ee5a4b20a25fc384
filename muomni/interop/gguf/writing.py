"""A Thinker in transformers' terms -> a GGUF file (version 3), by the `gguf` package, tensor by tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muomni.interop.gguf.tensors import (
    ARCHITECTURES,
    DTYPES,
    in_llama_cpp,
    interleaved,
    is_stacked,
    rotated_heads,
    stored,
    to_numpy,
)
from muomni.interop.gguf.vocabulary import Vocabulary
from muomni.interop.hf.leaving import window_within_context
from muomni.interop.hf.thinker import OWN

MISSING = "to write or read GGUF files:  pip install 'muomni[gguf]'"
FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
#: Keys that the `gguf` package has no method for in all its versions, and ours, which an import reads.
QK_EPS = "muomni.qk_norm_eps"
SUPPRESS = "tokenizer.ggml.suppress_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """How text goes in and out. special: bos, eos, unk, pad -> id. suppressed: ids that are never an answer's."""

    vocabulary: Vocabulary
    special: Mapping[str, int]
    add_bos: bool
    chat_template: str | None = None
    suppressed: Sequence[int] = ()


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ValueError naming what llama.cpp's architecture has not."""
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f"a {model_type} is not written as GGUF here, {', '.join(ARCHITECTURES)} are: write a folder by  python -m "
            "muomni.interop.hf export  and convert it by llama.cpp's convert_hf_to_gguf.py"
        )
    if window := window_within_context(config):
        raise ValueError(f"window={window}: llama.cpp's {ARCHITECTURES[model_type]} attends to all tokens")
    scaling = config.get("rope_scaling")
    if scaling and scaling.get("rope_type", scaling.get("type")) not in ("default", "linear", "llama3"):
        raise ValueError(f"rope_scaling={scaling}: written as GGUF are linear and llama3")


def write_gguf(
    path: Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    dtype: str,
    text: Text | None,
    about: Mapping[str, Any],
) -> None:
    """config, tensors: as transformers has them. dtype: of the matrices, of DTYPES. text: None lets tokens go in and out as
    numbers. about: name, author, description, license: strings; languages, tags: lists of them.

    Raises ValueError naming what llama.cpp has not, or that the `gguf` package is missing.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype}: available are {', '.join(DTYPES)}")
    check_config(config)
    try:
        import gguf
    except ImportError as error:
        raise ValueError(MISSING) from error
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, architecture)
    _describe(writer, about, dtype)
    _shape(writer, config)
    _write_text(writer, text)
    plan = in_llama_cpp(tensors)
    kinds: dict[str, str] = {}
    for target, members in plan.items():
        first = tensors[members[0]]
        shape = (len(members), *first.shape) if is_stacked(target) else tuple(first.shape)
        kinds[target] = stored(target, shape, dtype)
        kind = gguf.GGMLQuantizationType[kinds[target].upper()]
        in_bytes = gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(target, in_bytes, np.dtype(np.uint8), int(np.prod(in_bytes)), raw_dtype=kind)
    frequencies = _rope_factors(config)
    if frequencies is not None:
        writer.add_tensor_info("rope_freqs.weight", frequencies.shape, np.dtype(np.float32), frequencies.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for target, members in plan.items():
        first = tensors[members[0]]
        heads = rotated_heads(members[0], config)
        whole = torch.stack([tensors[each] for each in members]) if is_stacked(target) else first
        writer.write_tensor_data(to_numpy(interleaved(whole, heads) if heads else whole, kinds[target]))
    if frequencies is not None:
        writer.write_tensor_data(frequencies)
    writer.close()


def _describe(writer: Any, about: Mapping[str, Any], dtype: str) -> None:
    import gguf

    writer.add_type("model")
    for key in ("name", "author", "description", "license", "languages", "tags"):
        if about.get(key):
            getattr(writer, f"add_{key}")(about[key])
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[dtype]])
    if dtype == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _shape(writer: Any, config: Mapping[str, Any]) -> None:
    import gguf

    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(config["rope_theta"]))
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type", scaling.get("type")) == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    writer.add_vocab_size(config["vocab_size"])
    if OWN in config:
        writer.add_float32(QK_EPS, config[OWN]["qk_norm_eps"])
    experts = config.get("num_experts") or config.get("num_local_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config.get("moe_intermediate_size") or config["intermediate_size"])


def _rope_factors(config: Mapping[str, Any]) -> np.ndarray | None:
    """By what Llama 3's scaling divides each frequency (K/2 float32); None for other scalings."""
    scaling = config.get("rope_scaling") or {}
    if scaling.get("rope_type", scaling.get("type")) != "llama3":
        return None
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    theta, factor = float(config["rope_theta"]), float(scaling["factor"])
    wavelengths = 2 * np.pi * theta ** (np.arange(0, width, 2, dtype=np.float64) / width)
    original = float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    smooth = np.clip((original / wavelengths - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _write_text(writer: Any, text: Text | None) -> None:
    if text is None:
        writer.add_tokenizer_model("no_vocab")
        return
    vocabulary = text.vocabulary
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    for role in ("bos", "eos", "unk", "pad"):
        if role in text.special:
            getattr(writer, f"add_{role}_token_id")(text.special[role])
    writer.add_add_bos_token(text.add_bos)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(vocabulary.space_prefix)
    if text.chat_template is not None:
        writer.add_chat_template(text.chat_template)
    if text.suppressed:
        writer.add_array(SUPPRESS, [int(index) for index in text.suppressed])
