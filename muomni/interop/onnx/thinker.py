"""Graph of the Thinker: a prompt and every token after it by the same file, the cache as inputs and outputs.

Legend: B batch, P tokens read so far, T new tokens, D width, V vocabulary, N media tokens.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from muomni.interop.onnx.past import PastCache, past_ports
from muomni.interop.onnx.spec import Graph, Port
from muomni.models.thinker import Thinker
from muomni.special_tokens import ASSISTANT, AUDIO, BOS, EOS, IMAGE, PAD, PIECES, SYSTEM, UNK, USER

MEDIA = {"image": IMAGE, "audio": AUDIO}
PROMPT = (
    "image and audio once a media token, bos, system and its text if there is one, user, the text, assistant; then comes the "
    "answer, up to eos; a language model without instruction tuning continues bos and a text"
)


class ThinkerGraph(nn.Module):
    """ids (B, T), attention_mask (B, P + T), tokens (N, D) of each of `media` in the order of their slots, past -> logits
    (B, T, V), present."""

    def __init__(self, thinker: Thinker, *, media: tuple[str, ...]) -> None:
        super().__init__()
        self.thinker, self.media = thinker, media

    def forward(self, ids: Tensor, attention_mask: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        tokens, past = rest[: len(self.media)], rest[len(self.media) :]
        x = self.thinker.embedding(ids)
        for name, media in zip(self.media, tokens, strict=True):
            x = fill_slots(x, ids == MEDIA[name], media)
        cache = PastCache(past, attention_mask > 0, num_layers=self.thinker.num_layers)
        hidden = self.thinker.forward_hidden(x, ids=ids, cache=cache).hidden
        return (self.thinker.head(hidden), *cache.present)


def fill_slots(x: Tensor, slots: Tensor, media: Tensor) -> Tensor:
    """x (B, T, D) with media (N, D) in the place of slots (B, T) bool, row by row. More slots than media are an error."""
    media = torch.cat([media.new_zeros(1, media.shape[1]), media])  # 0: no slot
    number = slots.flatten().long().cumsum(0) * slots.flatten().long()
    return torch.where(slots[..., None], media[number].view_as(x), x)


def place_slots(inputs: Sequence[Tensor], *, media: tuple[str, ...]) -> None:
    """Make the first ids of an example's inputs the slots of its media."""
    ids, slots = inputs[0].view(-1), []
    for name, tokens in zip(media, inputs[2:], strict=False):
        slots += [MEDIA[name]] * tokens.shape[0]
    ids[: len(slots)] = torch.tensor(slots, dtype=ids.dtype)


def thinker_graph(thinker: Thinker, *, media: tuple[str, ...], max_length: int) -> Graph:
    """media: of image and audio those that the export has projectors for. Raises ValueError for a mixture of experts."""
    if thinker.num_experts:
        raise ValueError(
            f"thinker: a mixture of {thinker.num_experts} experts has no ONNX graph (its grouped matrix product is no operator "
            "there); a dense Thinker has one, or leave it out by parts="
        )
    conv = (thinker.short_conv - 1, thinker.dim) if thinker.short_conv else None
    inputs, outputs = past_ports(
        num_layers=thinker.num_layers, kv_heads=thinker.num_kv_heads, head_dim=thinker.head_dim, conv=conv, new="tokens"
    )
    tokens = [
        Port(
            name=f"{name}_tokens",
            axes=(f"{name}s", thinker.dim),
            about=f"for the ids {MEDIA[name]} in ids, in order; may be none",
        )
        for name in media
    ]
    special = {
        "unk": UNK,
        "bos": BOS,
        "eos": EOS,
        "pad": PAD,
        "user": USER,
        "assistant": ASSISTANT,
        "system": SYSTEM,
        **MEDIA,
    }
    return Graph(
        name="thinker",
        about=f"token ids and a cache -> logits of the next token; a context of {max_length} tokens in all",
        module=ThinkerGraph(thinker, media=media),
        inputs=[
            Port(
                name="ids", axes=("batch", "tokens"), dtype="int64",
                about="new tokens", low=len(PIECES), high=thinker.vocab_size,
            ),
            Port(
                name="attention_mask", axes=("batch", "past + tokens"), dtype="int64",
                about="1 for real tokens, 0 for padding, which is on the left", low=1, high=2,
            ),
            *tokens,
            *inputs,
        ],
        outputs=[Port(name="logits", axes=("batch", "tokens", thinker.vocab_size), about="of what follows each token"), *outputs],
        extra={"special_tokens": special, "prompt": PROMPT, "max_length": max_length},
        arrange=partial(place_slots, media=media),
        traced={"images": 4, "audios": 2},
        checked={"images": 1, "audios": 3},
    )  # fmt: skip
