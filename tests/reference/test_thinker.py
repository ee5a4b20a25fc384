"""The reference numbers, Thinker (text)."""

import pytest
import torch
import torch.nn.functional as F

from muomni.nn.attention import Attention
from muomni.nn.context import AttentionContext
from muomni.nn.rope import rotate
from muomni.special_tokens import BOS, EOS, UNK


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def thinker(parts):
    return parts["thinker"]


def test_width_layers_heads_context(thinker):
    """256, 4, 4 x 64, 512."""
    block = thinker.transformer.blocks[0]
    assert (thinker.dim, len(thinker.transformer.blocks)) == (256, 4)
    assert (block.attention.heads, block.attention.kv_heads, block.attention.head_dim) == (4, 4, 64)
    assert thinker.max_length == 512


def test_vocabulary(thinker, config, tokenizer):
    """5000 (SentencePiece BPE; unk 0, bos 1, eos 2)."""
    assert config().vocab_size == thinker.vocab_size == 5000
    assert (UNK, BOS, EOS) == (0, 1, 2)
    assert [tokenizer.piece(index) for index in range(3)] == ["<unk>", "<s>", "</s>"]


def test_block(thinker):
    """pre-RMSNorm (eps 1e-5) -> causal attention with RoPE (half-split, theta 10000, fp32) -> residual; RMSNorm -> SwiGLU
    (d_ff 1024, no bias) -> residual: written out in plain torch, the second block gives the same."""
    block, x = thinker.transformer.blocks[1], torch.randn(2, 7, 256)

    def norm(x, weight):
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight

    frequency = 10000.0 ** (-torch.arange(32) / 32)
    angle = torch.arange(7.0)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()

    def turn(heads):  # B H T 64, pairs are (i, i + 32)
        first, second = heads[..., :32], heads[..., 32:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    qkv = norm(x, block.attention_norm.weight) @ block.attention.qkv.weight.T
    query, key, value = (each.view(2, 7, 4, 64).transpose(1, 2) for each in qkv.split(256, dim=-1))
    scores = turn(query) @ turn(key).mT / 8
    scores = scores.masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -torch.inf)
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(2, 7, 256)
    middle = x + mixed @ block.attention.out.weight.T
    gate, up = (norm(middle, block.mlp_norm.weight) @ block.mlp.gate_up.weight.T).split(1024, dim=-1)
    expected = middle + (F.silu(gate) * up) @ block.mlp.down.weight.T
    torch.testing.assert_close(
        block(x, AttentionContext(thinker.rope(torch.arange(7))))[0], expected, atol=1e-5, rtol=1e-5
    )
    assert not any(name.endswith("bias") for name, _ in thinker.named_parameters())


def test_rope_is_computed_in_fp32(thinker):
    cos, sin = thinker.rope(torch.arange(512, dtype=torch.int64))
    assert cos.dtype == sin.dtype == torch.float32
    x = torch.randn(1, 4, 512, 64, dtype=torch.bfloat16)
    assert rotate(x, cos, sin).dtype == torch.bfloat16
    torch.testing.assert_close(rotate(x, cos, sin), rotate(x.float(), cos, sin).bfloat16())


def test_head(thinker):
    """final RMSNorm -> lm_head, untied; embeddings unscaled."""
    ids, seen = torch.randint(0, 5000, (1, 6)), []
    handle = thinker.transformer.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    output = thinker(ids)
    handle.remove()
    torch.testing.assert_close(seen[0], thinker.embedding.weight[ids])
    assert thinker.transformer.norm.eps == 1e-5
    assert thinker.head.weight is not thinker.embedding.weight and thinker.head.bias is None
    torch.testing.assert_close(output.logits, output.hidden @ thinker.head.weight.T)


def test_parameters(thinker):
    """6,756,608."""
    assert count(thinker) == 6_756_608


def test_a_greeting(thinker, tokenizer):
    """BOS + 5 pieces -> ids (1,6) -> embeddings (1,6,256) -> logits (1,6,5000). (With its "?" the greeting is one piece
    longer here: SentencePiece parts signs from letters.)"""
    ids = torch.tensor([tokenizer.encode("Hello, how are you", bos=True)])
    assert ids.shape == (1, 6) and ids[0, 0] == BOS
    assert thinker.embedding(ids).shape == (1, 6, 256)
    assert thinker(ids).logits.shape == (1, 6, 5000)


def test_forward_takes_ids_or_embeddings(thinker):
    ids = torch.randint(0, 5000, (1, 6))
    torch.testing.assert_close(thinker(embeddings=thinker.embedding(ids)).logits, thinker(ids).logits)


def test_options_are_off_in_the_reference(thinker):
    """GQA, QK-norm, sliding window, MoE with load-balance loss, tied embeddings, RoPE scaling; and the short convolution,
    which the reference does not have."""
    attention: Attention = thinker.transformer.blocks[0].attention
    assert attention.kv_heads == attention.heads
    assert isinstance(attention.query_norm, torch.nn.Identity)
    assert attention.window is None and attention.short_conv is None
    assert thinker.num_experts == 0 and thinker.rope.scaling == 1.0


@pytest.mark.parametrize("ablation", ["gqa", "qk_norm", "sliding_window", "moe", "tied", "rope_scaling"])
def test_and_each_can_be_switched_on(thinker, config, ablation):
    options = config(f"ablation={ablation}").backbone.thinker
    changed = [key for key, value in thinker.options.items() if key in options and options[key] != value]
    assert changed, ablation
