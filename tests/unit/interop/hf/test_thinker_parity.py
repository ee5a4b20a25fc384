"""Thinkers of transformers' own classes, small and random: the same logits and tokens, and the same tensors again."""

import json

import pytest
import torch

from muomni.inference.decoding.generate import decode_step, left_pad, prefill
from muomni.interop.hf.folder import CONFIG, read_folder
from muomni.interop.hf.thinker import from_hf, plan_thinker, to_hf

transformers = pytest.importorskip("transformers")

VOCABULARY, LENGTH = 97, 300
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": LENGTH, "initializer_range": 0.2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
#: Name -> transformers' class of configuration, and values that are not the defaults.
MODELS = {
    "llama": ("LlamaConfig", SHAPE | {"rope_scaling": LLAMA3, "rope_theta": 500.0, "head_dim": 12, "rms_norm_eps": 1e-3}),
    "llama_bias": ("LlamaConfig", SHAPE | {"attention_bias": True, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    "smollm2": ("LlamaConfig", SHAPE | {"tie_word_embeddings": True, "num_key_value_heads": 1, "rope_theta": 1e5}),
    "qwen2": ("Qwen2Config", SHAPE | {"rope_scaling": YARN, "tie_word_embeddings": True}),
    "qwen2_windows": (
        "Qwen2Config", SHAPE | {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1, "rope_theta": 1e6}
    ),
    "qwen3": ("Qwen3Config", SHAPE | {"head_dim": 16, "attention_bias": True, "rms_norm_eps": 1e-4}),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        SHAPE | {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True},
    ),
    "qwen3_moe_unnormed": (
        "Qwen3MoeConfig", SHAPE | {"num_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
    ),
    "mixtral": ("MixtralConfig", SHAPE | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mistral": ("MistralConfig", SHAPE | {"sliding_window": 7, "head_dim": 10}),
    "gemma3": (
        "Gemma3TextConfig",
        SHAPE | {
            "head_dim": 12, "sliding_window": 8, "query_pre_attn_scalar": 20, "num_hidden_layers": 3, "attention_bias": True,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
    ),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LENGTH, "n_inner": 40,
            "initializer_range": 0.2, "layer_norm_epsilon": 1e-3,
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def models(request, tmp_path_factory):
    """transformers' model, its folder, and our Thinker of it."""
    name, options = MODELS[request.param]
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**options)).eval()
    for key, parameter in theirs.named_parameters():
        if parameter.dim() == 1:  # norms and biases too
            torch.nn.init.normal_(parameter, mean=0.0 if "bias" in key or "gemma" in request.param else 1.0, std=0.2)
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder, max_shard_size="20KB")
    return theirs, folder, from_hf(read_folder(folder))


@torch.inference_mode()
def test_logits_are_equal_at_every_position(models):
    theirs, _, ours = models
    ids = torch.randint(0, VOCABULARY, (2, 120))
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_greedy_tokens_from_a_cache_in_a_padded_batch_are_theirs(models):
    """Each of 200 tokens is what theirs finds most probable after all before it."""
    theirs, _, ours = models
    rows = [torch.randint(9, VOCABULARY, (length,)) for length in (5, 17)]
    ids, padding = left_pad(rows)
    cache = ours.new_cache(2)
    logits, found = prefill(ours, ids, cache, padding=padding), []
    for _ in range(200):
        found.append(logits.argmax(-1))
        logits = decode_step(ours, found[-1], cache, padding=padding)
    for row, tokens in zip(rows, torch.stack(found, 1), strict=True):
        whole = torch.cat((row, tokens))[None]
        assert torch.equal(theirs(whole).logits[0, len(row) - 1 : -1].argmax(-1), tokens)


def test_the_round_trip_is_bit_exact(models, tmp_path):
    theirs, folder, ours = models
    plan = plan_thinker(read_folder(folder))
    config, tensors = to_hf(ours, plan.model_type)
    stored = read_folder(folder).tensors
    assert set(tensors) == set(stored)
    assert all(torch.equal(tensors[key], stored[key]) for key in stored)
    theirs.save_pretrained(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(0, VOCABULARY, (1, 40))
    assert torch.equal(again(ids).logits, theirs(ids).logits)
