"""transformers computes what a Thinker computes: all logits, greedy tokens; what has no class is refused by name."""

import json

import pytest
import torch
from safetensors.torch import save_file

from muomni.interop.hf.folder import read_folder
from muomni.interop.hf.thinker import OWN, from_hf
from muomni.interop.hf.thinker_out import to_transformers
from muomni.models.thinker import Thinker
from tests.unit.interop import shapes

SHAPE = shapes.SHAPE | {"vocab_size": 96}
VARIANTS = {
    "LlamaForCausalLM": {"rope_theta": 5000.0, "rope_scaling": 2.0},
    "MistralForCausalLM": {"window": 8, "tied": True},
    "MixtralForCausalLM": {"num_experts": 4},
    "Qwen3ForCausalLM": {"qk_norm": True, "window": 8},
    "Qwen3MoeForCausalLM": {"qk_norm": True, "num_experts": 4},
}


def make_thinker(**options):
    torch.manual_seed(0)
    thinker = Thinker(**SHAPE, **options).eval().requires_grad_(False)
    for name, parameter in thinker.named_parameters():
        parameter.copy_(torch.rand_like(parameter) + 0.5) if "norm" in name else parameter.mul_(1.5)
    return thinker


def theirs(folder, thinker):
    transformers = pytest.importorskip("transformers")
    parts = to_transformers(thinker)
    (folder / "config.json").write_text(json.dumps(parts.config))
    tensors = {name: tensor.contiguous() for name, tensor in parts.tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model, said = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(said[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.mark.parametrize(("name", "options"), VARIANTS.items(), ids=VARIANTS)
def test_logits_and_greedy_tokens(tmp_path, name, options):
    thinker = make_thinker(**options)
    model = theirs(tmp_path, thinker)
    assert type(model).__name__ == name
    ids = torch.randint(9, SHAPE["vocab_size"], (2, 24))
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, thinker(ids).logits, rtol=0, atol=1e-4)
        row = ids[:1]
        found = model.generate(
            row,
            attention_mask=torch.ones_like(row),
            max_new_tokens=200,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        cache = thinker.new_cache(1, 256)
        for _ in range(200):
            new = row if cache.position == 0 else row[:, -1:]
            row = torch.cat([row, thinker(new, cache=cache).logits[:, -1:].argmax(-1)], dim=1)
    assert found.tolist() == row.tolist()


def test_the_two_epsilons_meet_without_loss():
    """Queries and keys leave as 4 times themselves, a power of two: 1e-5 / 16 is near to the 1e-6 of our norms of them."""
    thinker = make_thinker(qk_norm=True)
    parts = to_transformers(thinker)
    query = thinker.transformer.blocks[1].attention.qkv.weight[:64]
    torch.testing.assert_close(parts.tensors["model.layers.1.self_attn.q_proj.weight"], 4 * query, rtol=0, atol=0)
    assert parts.config[OWN] == {"qk_norm_eps": 1e-6}
    assert OWN not in to_transformers(make_thinker(qk_norm=True, norm_eps=1e-6)).config
    assert OWN not in to_transformers(make_thinker()).config


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_what_left_comes_back_bit_for_bit(tmp_path, options):
    thinker = make_thinker(**options)
    parts = to_transformers(thinker)
    (tmp_path / "config.json").write_text(json.dumps(parts.config))
    save_file({name: tensor.contiguous() for name, tensor in parts.tensors.items()}, tmp_path / "model.safetensors")
    back = from_hf(read_folder(tmp_path))
    for key, value in thinker.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value, rtol=0, atol=0)
    assert back.options["qk_norm_eps"] == thinker.options["qk_norm_eps"] or not options.get("qk_norm")


@pytest.mark.parametrize("own", [{"qk_norm_eps": 2.0}, {"other": 1}, [1]])
def test_an_entry_of_ours_that_is_not_ours_is_refused(tmp_path, own):
    parts = to_transformers(make_thinker(qk_norm=True))
    (tmp_path / "config.json").write_text(json.dumps(parts.config | {OWN: own}))
    save_file({name: tensor.contiguous() for name, tensor in parts.tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="config.json: muomni="):
        from_hf(read_folder(tmp_path))


@pytest.mark.parametrize(("options", "message"), [({"short_conv": 4}, "short_conv=4"), ({"mlp": "gelu"}, "mlp=gelu")])
def test_what_has_no_class_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        to_transformers(make_thinker(**options))
