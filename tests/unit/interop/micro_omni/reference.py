"""micro-omni's networks by their definitions: functions of a state dict, torch alone, one head and one token at a time where
that is plainest.

Legend: B batch, T time, D width, H query heads, G key-value heads, K head width.
"""

import math

import torch
import torch.nn.functional as F


def rms(x, weight):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight


def turned(x, theta=10000.0):
    """Rotary positions, half-split: x (B, H, T, K), position t turns the pair (i, i + K/2) by t / theta^(2i/K)."""
    T, K = x.shape[-2:]
    angle = torch.arange(T).float()[:, None] / theta ** (torch.arange(K // 2).float() * 2 / K)[None]
    a, b = x[..., : K // 2], x[..., K // 2 :]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), dim=-1)


def attention(query, key, value, heads, *, rotary=False, causal=False):
    """query (B, T, D), key and value (B, T, G K) -> (B, T, D); query head i takes key-value head i // (H / G)."""
    B, T, D = query.shape
    K = D // heads
    groups = key.shape[-1] // K
    q, k, v = (x.view(B, T, -1, K).transpose(1, 2) for x in (query, key, value))
    if rotary:
        q, k = turned(q), turned(k)
    outs = []
    for head in range(heads):
        group = head // (heads // groups)
        scores = q[:, head] @ k[:, group].transpose(1, 2) / math.sqrt(K)
        if causal:
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
        outs.append(scores.softmax(-1) @ v[:, group])
    return torch.cat(outs, dim=-1)


def block(state, i):
    begin = f"blocks.{i}."
    return {key.removeprefix(begin): value for key, value in state.items() if key.startswith(begin)}


def num_blocks(state):
    return len({key.split(".")[1] for key in state if key.startswith("blocks.")})


def swiglu(state, name, x):
    gate, up = x @ state[f"{name}.gate_proj.weight"].T, x @ state[f"{name}.up_proj.weight"].T
    return (gate * torch.sigmoid(gate) * up) @ state[f"{name}.down_proj.weight"].T


def mixture(state, x, per_token=2):
    """Token by token: the likeliest experts, by their probabilities over the sum of these."""
    out = torch.zeros_like(x)
    for b, t in torch.cartesian_prod(torch.arange(x.shape[0]), torch.arange(x.shape[1])).tolist():
        share, chosen = (x[b, t] @ state["moe.router.weight"].T).softmax(-1).topk(per_token)
        for weight, expert in zip(share / share.sum(), chosen.tolist(), strict=True):
            out[b, t] += weight * swiglu(state, f"moe.experts.{expert}", x[b, t])
    return out


def decode(state, x, heads):
    """x (B, T, D) -> hidden states after the final norm."""
    for i in range(num_blocks(state)):
        p = block(state, i)
        y = rms(x, p["norm1.weight"])
        if "attn.qkv.weight" in p:
            q, k, v = (y @ p["attn.qkv.weight"].T).chunk(3, dim=-1)
        else:
            q, k, v = (y @ p[f"attn.{name}.weight"].T for name in "qkv")
        x = x + attention(q, k, v, heads, rotary=True, causal=True) @ p["attn.o.weight"].T
        y = rms(x, p["norm2.weight"])
        if "mlp.fc1.weight" in p:
            y = exact_gelu(F.linear(y, p["mlp.fc1.weight"], p["mlp.fc1.bias"]))
            x = x + F.linear(y, p["mlp.fc2.weight"], p["mlp.fc2.bias"])
        else:
            x = x + (mixture(p, y) if "moe.router.weight" in p else swiglu(p, "mlp", y))
    return rms(x, state["norm.weight"])


def thinker(state, x, heads=4):
    """Ids (B, T), or embeddings (B, T, D) -> logits and hidden states."""
    hidden = decode(state, state["tok_emb.weight"][x] if x.dim() == 2 else x, heads)
    return hidden @ state["lm_head.weight"].T, hidden


def talker(state, codes, heads=3):
    """codes (B, T, 2) -> base and residual logits (B, T, 128): of the positions behind the start frame."""
    frames = state["emb.weight"][codes[..., 0]] + state["emb.weight"][codes[..., 1]]
    hidden = decode(state, torch.cat((state["start"].expand(len(codes), 1, -1), frames), dim=1), heads)[:, 1:]
    return tuple(F.linear(hidden, state[f"{name}.weight"], state[f"{name}.bias"]) for name in ("base_head", "res_head"))


def exact_gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def audio(state, mel, heads=3):
    """mel (B, T, 128) -> hidden states (B, T / R, 192)."""
    convolutions = sorted(
        key.removesuffix(".weight") for key in state if key.startswith("down") and key.endswith("weight")
    )
    x = mel[:, None]
    for name in convolutions:
        x = exact_gelu(F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1))
    B, C, T, M = x.shape
    x = F.linear(x.permute(0, 2, 1, 3).reshape(B, T, C * M), state["proj.weight"], state["proj.bias"])
    for i in range(num_blocks(state)):
        p = block(state, i)
        older = "attn.in_proj_weight" in p
        qkv, out = ("attn.in_proj_", "attn.out_proj.") if older else ("qkv_proj.", "out_proj.")
        y = F.linear(rms(x, p["norm1.weight"]), p[f"{qkv}weight"], p[f"{qkv}bias"])
        x = x + F.linear(attention(*y.chunk(3, dim=-1), heads), p[f"{out}weight"], p[f"{out}bias"])
        y = exact_gelu(F.linear(rms(x, p["norm2.weight"]), p["mlp.0.weight"], p["mlp.0.bias"]))
        x = x + F.linear(y, p["mlp.2.weight"], p["mlp.2.bias"])
    return rms(x, state["norm.weight"])


def vision(state, images, heads=2):
    """images (B, 3, 224, 224) -> CLS (B, 1, 128) and grid (B, 196, 128)."""
    x = F.conv2d(images, state["proj.weight"], state["proj.bias"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat((state["cls"].expand(len(x), 1, -1), x), dim=1) + state["pos"]
    for i in range(num_blocks(state)):
        p = block(state, i)
        y = F.layer_norm(x, (128,), p["norm1.weight"], p["norm1.bias"], 1e-5)
        y = F.linear(y, p["self_attn.in_proj_weight"], p["self_attn.in_proj_bias"])
        y = attention(*y.chunk(3, dim=-1), heads)
        x = x + F.linear(y, p["self_attn.out_proj.weight"], p["self_attn.out_proj.bias"])
        y = F.layer_norm(x, (128,), p["norm2.weight"], p["norm2.bias"], 1e-5)
        y = exact_gelu(F.linear(y, p["linear1.weight"], p["linear1.bias"]))
        x = x + F.linear(y, p["linear2.weight"], p["linear2.bias"])
    x = rms(x, state["norm.weight"])
    return x[:, :1], x[:, 1:]


def quantise(state, mel):
    """mel (B, T, 128) -> codes (B, T, 2) and the mel that they stand for."""
    residual = F.linear(mel, state["proj_in.weight"], state["proj_in.bias"])
    codes, total = [], torch.zeros_like(residual)
    for k in range(2):
        book = state[f"codebooks.{k}.weight"]
        index = (residual[..., None, :] - book).square().sum(-1).argmin(-1)
        codes.append(index)
        residual, total = residual - book[index], total + book[index]
    return torch.stack(codes, dim=-1), F.linear(total, state["proj_out.weight"], state["proj_out.bias"])
