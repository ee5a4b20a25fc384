"""The image encoder and contrastive training, with transformers' ViT and CLIP of the same shape.

Legend: B images, P patches, D width, T tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.decoders import network
from benchmarks.speed.kernel_rows.contest import (
    Call,
    Contest,
    count_flops,
    inference,
    largest_difference,
    missing,
)
from benchmarks.speed.kernel_rows.training import stage_step, train_step
from benchmarks.stages import compose_config
from muomni.batch import ImageTextBatch
from muomni.models.vision import VisionTransformer

IMAGES, PAIRS, TOKENS = 8, 32, 16


def hf_vit(ours: VisionTransformer) -> nn.Module:
    """transformers' ViT with our weights; its final norm is ours, which it does not have."""
    from transformers import ViTConfig, ViTModel

    block: Any = ours.transformer.blocks[0]
    config = ViTConfig(
        hidden_size=ours.dim, num_hidden_layers=len(ours.transformer.blocks), num_attention_heads=block.attention.heads,
        intermediate_size=block.mlp.up.out_features, image_size=ours.image_size, patch_size=ours.image_size // ours.side,
        layer_norm_eps=block.mlp_norm.eps, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    theirs = ViTModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    state = {
        "embeddings.cls_token": ours.cls, "embeddings.position_embeddings": ours.positions,
        "embeddings.patch_embeddings.projection.weight": ours.stem.project.weight,
        "embeddings.patch_embeddings.projection.bias": ours.stem.project.bias,
        "layernorm.weight": torch.ones(ours.dim), "layernorm.bias": torch.zeros(ours.dim),
    }  # fmt: skip
    for number, each in enumerate(ours.transformer.blocks):
        state |= {f"layers.{number}.{name}": tensor for name, tensor in _hf_layer(each).items()}
    theirs.load_state_dict(state)
    theirs.layernorm = ours.transformer.norm
    return theirs


def _hf_layer(block: Any) -> dict[str, Tensor]:
    """The weights of a block by the names of the peer."""
    modules = {
        "attention.o_proj": block.attention.out, "layernorm_before": block.attention_norm, "layernorm_after": block.mlp_norm,
        "mlp.fc1": block.mlp.up, "mlp.fc2": block.mlp.down,
    }  # fmt: skip
    state = {f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()}
    for key, tensor in block.attention.qkv.state_dict().items():
        state |= {f"attention.{name}_proj.{key}": each for name, each in zip("qkv", tensor.chunk(3), strict=True)}
    return state


def vit(size: str) -> Contest:
    """Images -> features, in float32 and operation by operation, as an engine does it."""
    ours = network("vision", size)
    if ours.stem.first is not None:
        raise ValueError(
            f"size={size}: its image encoder has a stem of convolutions, which ViT has not; size=tiny has none"
        )
    images = torch.randn(IMAGES, 3, ours.image_size, ours.image_size, generator=torch.Generator().manual_seed(0))
    why, peers = missing("transformers"), dict[str, Call]()

    def features() -> Tensor:
        out = ours(images)
        return torch.cat((out.cls, out.grid), dim=1)

    if not why:
        theirs = hf_vit(ours)
        peers["transformers' ViT"] = inference(lambda: theirs(images).last_hidden_state)
    return Contest(
        case=f"{IMAGES} images of {ours.image_size} x {ours.image_size}, encoder of size={size}, float32",
        ours=inference(features), peers=peers, absent={"transformers' ViT": why} if why else {},
        difference=largest_difference, tolerance=1e-3, flops=count_flops(inference(features)), aim=1.5,
    )  # fmt: skip


def hf_clip(size: str) -> nn.Module:
    """transformers' CLIP of the shapes of our encoder and text tower."""
    from transformers import CLIPConfig, CLIPModel

    parts = compose_config("stage=vision", f"size={size}").backbone
    image, text = parts.vision, parts.text_tower
    shapes = [
        {
            "hidden_size": each.dim, "intermediate_size": each.ff_dim, "num_hidden_layers": each.num_layers,
            "num_attention_heads": each.num_heads, "hidden_act": "gelu",
        }
        for each in (image, text)
    ]  # fmt: skip
    config = CLIPConfig(
        vision_config=shapes[0] | {"image_size": image.image_size, "patch_size": image.patch},
        text_config=shapes[1] | {"vocab_size": text.vocab_size, "max_position_embeddings": text.max_length},
        projection_dim=text.embed_dim,
    )
    config._attn_implementation = "sdpa"
    return CLIPModel(config)


class ClipLoss(nn.Module):
    """CLIP that returns its loss."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor, ids: Tensor, keep: Tensor) -> Tensor:
        return self.clip(input_ids=ids, pixel_values=images, attention_mask=keep, return_loss=True).loss


def contrastive_step(size: str, *, compiled: bool = True) -> Contest:
    """Forward, loss, backward, clipping and AdamW, of the stage as train.py builds it with the loss of CLIP."""
    shape = compose_config("stage=vision", f"size={size}").backbone
    generator = torch.Generator().manual_seed(0)
    side, vocabulary = shape.vision.image_size, shape.text_tower.vocab_size
    images = torch.randn(PAIRS, 3, side, side, generator=generator)
    ids = torch.randint(8, vocabulary, (PAIRS, TOKENS), generator=generator)
    lengths = torch.full((PAIRS,), TOKENS)
    batch = ImageTextBatch(images, ids, lengths, [], [], [], [str(number) for number in range(PAIRS)])
    batch.precompute()
    overrides = ("contrastive=global",)
    ours, flops = stage_step("vision", size, batch, compiled=compiled, overrides=overrides)
    why, peers = missing("transformers"), dict[str, Call]()
    if not why:
        example = (images, ids, torch.ones_like(ids))
        peers["transformers' CLIP"] = train_step(ClipLoss(hf_clip(size)), example, compiled=compiled)
    return Contest(
        case=f"{PAIRS} pairs, captions of {TOKENS} tokens, size={size}{', compiled' if compiled else ''}",
        ours=ours, peers=peers, absent={"transformers' CLIP": why} if why else {}, flops=flops, autocast=True, aim=1.6,
    )  # fmt: skip
