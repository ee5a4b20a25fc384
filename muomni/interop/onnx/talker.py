"""Graphs of the Talker: its text encoder, and one for the text and every frame after it, the cache as inputs and outputs.

Legend: B batch, C characters, F frames, P text and frames read so far, D width, K codebooks, E entries.
"""

import torch
from torch import Tensor, nn

from muomni.frontends.char_vocab import STANDARD
from muomni.frontends.phonemes import ALPHABET
from muomni.interop.onnx.past import PastCache, past_ports
from muomni.interop.onnx.spec import Graph, Port
from muomni.models.talker import Talker
from muomni.nn.context import AttentionContext


class TalkerTextGraph(nn.Module):
    """text (B, C), lengths (B), speakers (B) -> prefix (B, C, D), char_times (B, C), text_frames (B, F, D), for the most frames
    that the Talker speaks; with durations prefix (B, 0, D), char_times (B, 0) and text_frames (B, F, D + 1)."""

    def __init__(self, talker: Talker) -> None:
        super().__init__()
        self.talker = talker

    def forward(self, text: Tensor, lengths: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        read, count = self.talker.read(text, lengths, speakers), self.talker.max_frames
        if self.talker.aligned is not None:
            return (
                read.prefix,
                read.times[:, :0],
                self.talker.aligned(read.units, read.times, read.lengths, count=count),
            )
        return read.prefix, read.times, text_frames(read.units, read.times, lengths, count=count)


def text_frames(prefix: Tensor, char_times: Tensor, lengths: Tensor, *, count: int) -> Tensor:
    """`upsample_text` without a sorted search, which ONNX lacks: characters before each frame are counted."""
    frames = torch.arange(count, device=prefix.device) + 0.5
    high = (char_times[:, None] < frames[:, None]).sum(-1)  # B F
    high = high.minimum((lengths - 1)[:, None])
    low = (high - 1).clamp_min(0)
    start, end = char_times.gather(1, low), char_times.gather(1, high)
    share = ((frames - start) / (end - start).clamp_min(1e-6)).clamp(0, 1)[..., None]
    width = prefix.shape[2]
    before = prefix.gather(1, low[..., None].expand(-1, -1, width))
    return before * (1 - share) + prefix.gather(1, high[..., None].expand(-1, -1, width)) * share


class TalkerGraph(nn.Module):
    """prefix (B, C, D) and char_times (B, C) with the first frame, later none of them; codes (B, K) of the frame before; frame
    (B); text_frame (B, D); attention_mask (B, P + C + 1); past -> logits (B, K, E), stop (B), present."""

    def __init__(self, talker: Talker) -> None:
        super().__init__()
        self.talker = talker

    def forward(
        self, prefix: Tensor, char_times: Tensor, codes: Tensor, frame: Tensor, text_frame: Tensor, attention_mask: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        talker = self.talker
        before = talker.code_embedding(codes + talker.code_offset).sum(1)  # B D
        x = torch.where((frame == 0)[:, None], talker.start[0], before) + text_frame[:, : talker.dim]
        cache = PastCache(past, attention_mask > 0, num_layers=talker.num_layers)
        context = AttentionContext(talker.rope(torch.cat([char_times, frame[:, None].float()], dim=1)), cache=cache)
        hidden = talker.transformer(torch.cat([prefix, x[:, None]], dim=1), context).hidden[:, -1]
        logits = talker.code_logits(hidden[:, None])[:, 0]
        stop = text_frame[:, -1] if talker.stop is None else talker.stop(hidden)[:, 0]
        return (logits, stop, *cache.present)


def talker_text_graph(talker: Talker) -> Graph:
    """The text encoder. Raises ValueError for a Talker that has no graphs."""
    if talker.lag:
        raise ValueError("talker: pattern=delay has no ONNX graph: train one with pattern=parallel or depth")
    if talker.conditioning != "text":
        raise ValueError(
            f"talker: conditioning={talker.conditioning} has no ONNX graph: train one with backbone.talker.conditioning=text"
        )
    dim, symbols = talker.dim, talker.num_symbols
    prefix = "characters" if talker.aligned is None else "none"
    return Graph(
        name="talker_text",
        about="characters of texts -> what talker.onnx reads of them",
        module=TalkerTextGraph(talker),
        inputs=[
            Port(
                name="text",
                axes=("batch", "characters"),
                dtype="int64",
                about="numbers of `symbols`, padded by 0",
                high=symbols,
            ),
            Port(
                name="lengths", axes=("batch",), dtype="int64", about="characters of each row", low=1, high="characters"
            ),
            Port(name="speakers", axes=("batch",), dtype="int64", about="voices", high=talker.num_speakers),
        ],
        outputs=[
            Port(name="prefix", axes=("batch", prefix, dim), about="for the first call of talker.onnx"),
            Port(
                name="char_times",
                axes=("batch", prefix),
                about="for the first call: frames; the last is the duration",
            ),
            Port(
                name="text_frames",
                axes=("batch", talker.max_frames, talker.told_width),
                about="what each frame adds to its input",
            ),
        ],
        extra={"symbols": ["", *(ALPHABET if talker.reads == "phonemes" else talker.characters or STANDARD)]},
    )


def talker_graph(talker: Talker) -> Graph:
    """The decoder of frames."""
    dim, codebooks, entries = talker.dim, talker.num_codebooks, talker.codebook_size
    inputs, outputs = past_ports(
        num_layers=talker.num_layers,
        kv_heads=talker.num_heads,
        head_dim=talker.head_dim,
        conv=None,
        new="characters + frame",
    )
    about = "text, then codes frame by frame, and a cache -> logits of the codes of a frame, for codec_decoder.onnx"
    return Graph(
        name="talker",
        about=about,
        module=TalkerGraph(talker),
        inputs=[
            Port(name="prefix", axes=("batch", "characters", dim), about="of talker_text.onnx with frame 0, later none of it"),
            Port(name="char_times", axes=("batch", "characters"), about="of talker_text.onnx with frame 0, later none of it"),
            Port(name="codes", axes=("batch", codebooks), dtype="int64", about="of the frame before", high=entries),
            Port(name="frame", axes=("batch",), dtype="int64", about="number of the frame, from 0", high=4),
            Port(name="text_frame", axes=("batch", talker.told_width), about="text_frames[:, frame] of talker_text.onnx"),
            Port(
                name="attention_mask", axes=("batch", "past + characters + frame"), dtype="int64",
                about="1 for characters and frames, 0 for padding of the text", low=1, high=2,
            ),
            *inputs,
        ],
        outputs=[
            Port(name="logits", axes=("batch", codebooks, entries), about="of the codes of this frame"),
            Port(name="stop", axes=("batch",), about="above 0: this frame is the last"),
            *outputs,
        ],
        extra={"max_frames": talker.max_frames},
        traced={"frame": 1},
        checked={"frame": 1},
    )  # fmt: skip
