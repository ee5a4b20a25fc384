"""RMSNorm, SwiGLU and the block, by hand."""

import pytest
import torch
import torch.nn.functional as F

from muomni.nn.attention import Attention
from muomni.nn.initialise import initialise
from muomni.nn.mlp import GeGLU, GeluMLP, GeluTanhMLP, SwiGLU
from muomni.nn.norm import OffsetRMSNorm, RMSNorm
from muomni.nn.transformer import Block, Transformer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_rms_norm_by_hand():
    """(3, 4) has a root mean square of sqrt(12.5)."""
    norm = RMSNorm(2, eps=0.0)
    norm.weight.data = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 8.0]) / 12.5**0.5)


def test_epsilon_stands_under_the_root():
    """(3, 4): mean square 12.5, and 3.5 more."""
    torch.testing.assert_close(RMSNorm(2, eps=3.5)(torch.tensor([3.0, 4.0])), torch.tensor([0.75, 1.0]))


def test_rms_norm_ignores_scale_keeps_dtype_and_survives_zeros():
    norm, x = RMSNorm(8, eps=1e-5), torch.randn(4, 8)
    torch.testing.assert_close(norm(1000 * x), norm(x), atol=1e-4, rtol=1e-4)
    assert norm(x.to(torch.bfloat16)).dtype == torch.bfloat16
    assert torch.isfinite(norm(torch.zeros(1, 8))).all()


def test_swiglu_by_hand():
    mlp, x = SwiGLU(6, hidden=10), torch.randn(2, 6)
    gate, up = mlp.gate_up.weight[:10], mlp.gate_up.weight[10:]
    torch.testing.assert_close(mlp(x), (F.silu(x @ gate.T) * (x @ up.T)) @ mlp.down.weight.T)
    assert sum(p.numel() for p in mlp.parameters()) == 3 * 6 * 10


def test_gelu_mlp_has_biases():
    mlp = GeluMLP(6, hidden=10)
    torch.testing.assert_close(mlp(torch.zeros(1, 6)), mlp.down(F.gelu(mlp.up.bias))[None])


def test_a_norm_whose_weights_are_around_zero():
    norm, plain, x = OffsetRMSNorm(8, eps=1e-5), RMSNorm(8, eps=1e-5), torch.randn(4, 8)
    torch.testing.assert_close(norm(x), plain(x))
    norm.weight.data.fill_(0.5)
    torch.testing.assert_close(norm(x), 1.5 * plain(x))


def test_gelu_by_tanh_gated_and_not():
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    def gelu(x):
        return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))

    gated, plain, x = GeGLU(6, hidden=10), GeluTanhMLP(6, hidden=10), torch.randn(2, 6)
    gate, up = gated.gate_up(x).chunk(2, dim=-1)
    torch.testing.assert_close(gated(x), gated.down(gelu(gate) * up))
    torch.testing.assert_close(plain(x), plain.down(gelu(plain.up(x))))


def make_stack(layers=2, dropout=0.0):
    blocks = [
        Block(
            attention=Attention(16, heads=2, kv_heads=1, causal=True),
            mlp=SwiGLU(16, hidden=24),
            norm=lambda: RMSNorm(16, eps=1e-5),
            dropout=dropout,
        )
        for _ in range(layers)
    ]
    return Transformer(blocks, norm=RMSNorm(16, eps=1e-5))


def test_block_is_two_residual_steps():
    stack = make_stack(layers=1).eval()
    block, x = stack.blocks[0], torch.randn(2, 5, 16)
    middle = x + block.attention(block.attention_norm(x))
    torch.testing.assert_close(stack(x).hidden, stack.norm(middle + block.mlp(block.mlp_norm(middle))))


def test_a_block_may_norm_what_it_adds():
    attention = Attention(16, heads=2, kv_heads=1, causal=True)
    block = Block(
        attention=attention, mlp=SwiGLU(16, hidden=24), norm=lambda: RMSNorm(16, eps=1e-5), dropout=0.0, output_norm=True
    ).eval()  # fmt: skip
    x = torch.randn(2, 5, 16)
    torch.nn.init.normal_(block.attention_output_norm.weight)
    torch.nn.init.normal_(block.mlp_output_norm.weight)
    middle = x + block.attention_output_norm(attention(block.attention_norm(x)))
    torch.testing.assert_close(block(x)[0], middle + block.mlp_output_norm(block.mlp(block.mlp_norm(middle))))


def test_dropout_acts_in_training_only():
    stack, x = make_stack(dropout=0.5), torch.randn(1, 4, 16)
    assert not torch.equal(stack.train()(x).hidden, stack(x).hidden)
    assert torch.equal(stack.eval()(x).hidden, stack(x).hidden)


def test_initialise_scales_what_writes_to_the_residual_stream():
    stack = make_stack(layers=8)
    initialise(stack, num_layers=8)
    written = torch.cat([b.attention.out.weight.flatten() for b in stack.blocks])
    read = torch.cat([b.mlp.gate_up.weight.flatten() for b in stack.blocks])
    assert read.std().item() == pytest.approx(0.02, rel=0.05)
    assert written.std().item() == pytest.approx(0.02 / 4, rel=0.05)
