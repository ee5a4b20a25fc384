"""The Thinker: the reference numbers, and one answer whichever way it reads."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from muomni.checkpoints.export import load_export, save_export
from muomni.cli.errors import CONF
from muomni.models.thinker import Thinker
from muomni.nn.masks import PaddingMask, SegmentMask


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(**options):
    shape = {"dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "ff_dim": 48, "max_length": 24}
    model = Thinker(vocab_size=40, **(shape | options)).eval()
    for block in model.transformer.blocks:
        if block.attention.short_conv is not None:
            torch.nn.init.normal_(block.attention.short_conv.weight)
    return model


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_reference_has_the_published_numbers():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["experiment=reference"])
    model = instantiate(cfg.backbone.thinker, _convert_="all", vocab_size=5000).eval()
    ids = torch.randint(0, 5000, (1, 6))
    output = model(ids)
    assert count(model) == 6_756_608
    assert model.embedding(ids).shape == output.hidden.shape == (1, 6, 256)
    assert output.logits.shape == (1, 6, 5000)
    assert model.max_length == 512
    assert model.transformer.norm.eps == 1e-5


#: What other families have (muomni/interop/hf).
FOREIGN = (
    {"head_dim": 12},
    {"qkv_bias": True},
    {"out_bias": True},
    {"norm": "rms_offset", "output_norm": True, "qk_norm": True, "qk_norm_eps": 1e-3},
    {"norm": "layer", "learned_positions": True, "rope_theta": None, "mlp": "gelu_tanh"},
    {"mlp": "geglu", "embedding_scale": 5.0, "attention_scale": 0.1},
    {"window": 3, "full_attention": [1], "local_rope_theta": 50.0},
    {"num_experts": 4, "norm_topk_prob": False},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}},
)


def randomised(model):
    """Norms and biases too."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and ("norm" in name or "bias" in name):
            torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qk_norm": True},
        {"window": 4},
        {"num_kv_heads": 1},
        {"rope_scaling": 2.0},
        {"tied": True},
        {"short_conv": 4},
        {"num_experts": 4},
        {"mlp": "gelu"},
        {"norm_eps": 1e-2},
        *FOREIGN,
    ],
)
def test_read_in_pieces_equals_read_at_once(options):
    model, ids = small(**options), torch.randint(0, 40, (2, 17))
    whole, cache = model(ids), model.new_cache(2)
    pieces = [model(ids[:, start : start + 8], cache=cache).logits for start in range(0, 17, 8)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole.logits, atol=1e-5, rtol=1e-5)
    assert cache.position == 17


def test_every_option_changes_the_model():
    ids = torch.randint(0, 40, (1, 12))
    plain = small(num_kv_heads=4)
    changes = ({"qk_norm": True}, {"window": 4}, {"rope_scaling": 2.0}, {"rope_theta": 100.0}, {"short_conv": 3})
    for options in (*changes, *(options for options in FOREIGN if "head_dim" not in options)):
        other = small(num_kv_heads=4, **options)
        randomised(other)
        other.load_state_dict(plain.state_dict(), strict=False)
        assert not torch.allclose(other(ids).logits, plain(ids).logits, atol=1e-6), options
    assert count(plain) - count(small(num_kv_heads=4, tied=True)) == 40 * 32
    blind = small(num_kv_heads=4, norm_eps=1.0)
    blind.load_state_dict(plain.state_dict())
    assert not torch.allclose(blind(ids).logits, plain(ids).logits, atol=1e-6)


@pytest.mark.parametrize("options", FOREIGN)
def test_packed_samples_are_as_if_alone(options):
    """Also with learned positions, which begin again with each sample."""
    model, first, second = small(**options), torch.randint(0, 40, (1, 5)), torch.randint(0, 40, (1, 7))
    packed = model(torch.cat((first, second), dim=1), mask=SegmentMask(torch.tensor([[1] * 5 + [2] * 7]))).logits
    torch.testing.assert_close(packed[:, :5], model(first).logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed[:, 5:], model(second).logits, atol=1e-5, rtol=1e-5)


def test_head_width_apart_from_the_width():
    model = small(num_kv_heads=2, head_dim=12)
    attention = model.transformer.blocks[0].attention
    assert attention.qkv.weight.shape == ((4 + 2 * 2) * 12, 32) and attention.out.weight.shape == (32, 4 * 12)
    assert model.new_cache(1).keys.shape[-1] == 12 and model.rope.inverse_frequency.shape == (6,)


def test_a_scaled_embedding_and_its_tied_head_by_hand():
    model, ids = small(embedding_scale=3.0, tied=True), torch.tensor([[4, 2]])
    torch.testing.assert_close(model.embedding(ids), 3 * model.embedding.weight[ids])
    output = model(ids)
    torch.testing.assert_close(output.logits, output.hidden @ model.embedding.weight.T)


def test_the_window_is_that_of_its_blocks_alone():
    """A block without one and a window as long as the text: nothing is forgotten; all blocks with a short one: it is."""
    ids = torch.randint(0, 40, (1, 12))
    whole, mixed, short = small(), small(window=4, full_attention=[0]), small(window=4)
    for other in (mixed, short):
        other.load_state_dict(whole.state_dict())
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % 40
    moved = [float((model(ids).logits - model(changed).logits)[0, -1].abs().max()) for model in (mixed, short)]
    assert moved[0] > 1e-4 and moved[1] < 1e-6
    with pytest.raises(ValueError, match="full_attention names block 2"):
        small(window=4, full_attention=[2])


def test_learned_positions_in_place_of_rotary_ones():
    model, ids = small(learned_positions=True, rope_theta=None), torch.tensor([[7, 7, 7]])
    with torch.no_grad():
        model.position_embedding.weight.zero_()
    same = model(ids).logits
    torch.testing.assert_close(same[0, 0], same[0, 2])  # without any position, equal tokens are equal
    with torch.no_grad():
        model.position_embedding.weight.normal_()
    assert not torch.allclose(model(ids).logits[0, 0], model(ids).logits[0, 2], atol=1e-3)


def test_experts_multiply_the_mlp_and_add_a_router():
    """A Thinker without them keeps the names of its parameters."""
    plain, mixed = small(), small(num_experts=4)
    mlp = 3 * 32 * 48
    assert count(mixed) - count(plain) == 2 * (3 * mlp + 4 * 32)
    own = {name for name, _ in plain.named_parameters() if ".mlp." in name}
    assert own == {f"transformer.blocks.{layer}.mlp.{name}.weight" for layer in (0, 1) for name in ("gate_up", "down")}
    output = mixed(torch.randint(0, 40, (2, 5)))
    assert [logits.shape for logits in output.router_logits] == [(2, 5, 4)] * 2
    assert plain(torch.randint(0, 40, (2, 5))).router_logits == []


def test_gelu_in_place_of_swiglu():
    """down(gelu(up(x))), with biases."""
    plain, other = small(), small(mlp="gelu")
    assert count(other) - count(plain) == 2 * (2 * 32 * 48 + 48 + 32 - 3 * 32 * 48)
    mlp, x = other.transformer.blocks[0].mlp, torch.randn(3, 32)
    wanted = torch.nn.functional.gelu(x @ mlp.up.weight.T + mlp.up.bias) @ mlp.down.weight.T + mlp.down.bias
    torch.testing.assert_close(mlp(x), wanted)


def test_an_mlp_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="mlp must be swiglu or .*gelu_tanh, not relu"):
        small(mlp="relu")
    with pytest.raises(ValueError, match="mlp must be swiglu, which experts are, not gelu"):
        small(mlp="gelu", num_experts=4)


def test_packed_samples_with_experts_are_as_if_alone():
    model, ids = small(num_experts=4), torch.randint(0, 40, (1, 9))
    packed = model(ids, mask=SegmentMask(torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0, 0]]))).logits
    for part in (slice(0, 4), slice(4, 7)):
        torch.testing.assert_close(packed[:, part], model(ids[:, part]).logits, atol=1e-5, rtol=1e-5)


def test_experts_are_exported_and_come_back(tmp_path):
    model, ids = small(num_experts=4), torch.randint(0, 40, (1, 5))
    save_export(tmp_path / "mixed", {"thinker": model}, metadata={}, files={})
    loaded = load_export(tmp_path / "mixed").modules["thinker"]
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_embeddings_in_place_of_ids():
    model, ids = small(), torch.randint(0, 40, (2, 5))
    torch.testing.assert_close(model(embeddings=model.embedding(ids)).logits, model(ids).logits)
    with pytest.raises(ValueError, match="ids or embeddings"):
        model()


def test_last_only_gives_the_last():
    model, ids = small(), torch.randint(0, 40, (2, 5))
    torch.testing.assert_close(model(ids, last_only=True).logits, model(ids).logits[:, -1:])


@pytest.mark.parametrize("options", [{}, {"short_conv": 4}, {"num_experts": 4}])
def test_left_padding_changes_no_answer(options):
    model, ids = small(**options), torch.randint(0, 40, (2, 9))
    padding = torch.tensor([4, 0])
    keep = torch.arange(9)[None] >= padding[:, None]
    positions = (torch.arange(9)[None] - padding[:, None]).clamp_min(0)
    both = model(ids, mask=PaddingMask(keep), positions=positions).logits
    torch.testing.assert_close(both[0, 4:], model(ids[:1, 4:]).logits[0], atol=1e-5, rtol=1e-5)


def test_rolled_back_it_goes_on_as_if_nothing_had_been_read():
    model, ids = small(short_conv=4), torch.randint(0, 40, (2, 12))
    cache = model.new_cache(2)
    model(ids[:, :6], cache=cache)
    model(torch.randint(0, 40, (2, 5)), cache=cache)
    cache.roll_back(6)
    torch.testing.assert_close(model(ids[:, 6:], cache=cache).logits, model(ids).logits[:, 6:], atol=1e-5, rtol=1e-5)


def test_a_full_cache_is_refused():
    model = small()
    cache = model.new_cache(1, 4)
    with pytest.raises(ValueError, match="Too many tokens: 5 > 4"):
        model(torch.zeros(1, 5, dtype=torch.long), cache=cache)


def test_a_fresh_model_is_as_unsure_as_its_vocabulary():
    logits = small()(torch.randint(0, 40, (4, 20))).logits
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    assert entropy.item() == pytest.approx(torch.tensor(40.0).log().item(), abs=0.01)
