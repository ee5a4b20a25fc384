"""Image encoders of transformers with the output of ours: CLIP (Radford et al. 2021, arXiv:2103.00020), SigLIP and SigLIP 2
at a fixed resolution (Zhai et al. 2023, arXiv:2303.15343), DINOv2 (Oquab et al. 2023, arXiv:2304.07193), ViT.

`grid` is transformers' `last_hidden_state` of the patches. `cls` is the vector that the encoder was trained to describe an image
by: CLIP's normed class token, SigLIP's attention pooling (the patches' mean without it), the class token of the others.

Legend: B batch, I image side in pixels, P patches in raster order, D width.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from muomni.models.hf_config import IMAGE_FAMILIES, build_encoder
from muomni.models.outputs import VisionOutput
from muomni.models.registry import register


@register("hf_vision")
class HfVision(nn.Module):
    """Image -> summary and patch grid.

    Args:
        model_type, config: transformers' names for the encoder and its values (hf_config.py).
        image_size: I, a multiple of `patch`; where it is not the configuration's, position embeddings are interpolated.
        patch, dim: pixels a side of a token, and D: the configuration's own, for those who read the options alone.
    """

    def __init__(self, *, model_type: str, config: Mapping[str, Any], image_size: int, patch: int, dim: int) -> None:
        super().__init__()
        if model_type not in IMAGE_FAMILIES:
            raise ValueError(f"hf_vision: model_type={model_type!r}; available: {', '.join(IMAGE_FAMILIES)}")
        if config.get("patch_size") != patch or config.get("hidden_size") != dim or image_size % patch:
            raise ValueError(
                f"hf_vision: patch {patch} and dim {dim} are the config's {config.get('patch_size')} and "
                f"{config.get('hidden_size')}, and image_size {image_size} is a multiple of the patch"
            )
        self.model_type, self.image_size, self.dim, self.side = model_type, image_size, dim, image_size // patch
        self.encoder = build_encoder(model_type, config)
        resized = image_size != config.get("image_size")
        # DINOv2 interpolates by itself, where it must.
        self.how = {} if model_type == "dinov2" else {"interpolate_pos_encoding": resized}

    def forward(self, images: Tensor) -> VisionOutput:
        """images (B, 3, I, I), normalised. Raises ValueError for another size."""
        _, _, H, W = images.shape
        if self.image_size != H or self.image_size != W:
            raise ValueError(f"hf_vision: images of {H} x {W}, the encoder was made for {self.image_size}")
        output = self.encoder(pixel_values=images, **self.how)
        hidden = output.last_hidden_state
        if self.model_type == "siglip_vision_model":
            pooled = output.pooler_output
            return VisionOutput(
                cls=hidden.mean(dim=1, keepdim=True) if pooled is None else pooled[:, None], grid=hidden
            )
        cls = output.pooler_output[:, None] if self.model_type == "clip_vision_model" else hidden[:, :1]
        return VisionOutput(cls=cls, grid=hidden[:, 1:])
