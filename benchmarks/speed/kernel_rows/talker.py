"""A frame of the Talker, with transformers' Llama as its transformer.

Legend: B rows, C characters, K codebooks, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.decoders import network
from benchmarks.speed.kernel_rows.contest import Call, Contest, inference, missing, share_unequal
from muomni.frontends.char_vocab import encode_characters
from muomni.inference.decoding.native import library
from muomni.inference.decoding.row_blocks import with_row_blocks
from muomni.inference.tts.frame_choice import greedy_frames
from muomni.inference.tts.frame_decoder import FrameDecoder
from muomni.models.talker import Talker, upsample_text

TEXT = "the small red circle is on the left of the big blue square"
FRAMES = 48


def hf_llama(ours: Talker) -> nn.Module:
    """transformers' Llama with the weights of the Talker's blocks."""
    from transformers import LlamaConfig, LlamaModel

    blocks: Any = ours.transformer.blocks
    attention, mlp = blocks[0].attention, blocks[0].mlp
    config = LlamaConfig(
        vocab_size=1, hidden_size=attention.qkv.in_features, num_hidden_layers=len(blocks),
        num_attention_heads=attention.heads, intermediate_size=mlp.down.in_features,
        rms_norm_eps=blocks[0].mlp_norm.eps, max_position_embeddings=4096, pad_token_id=0,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    theirs = LlamaModel(config).eval().requires_grad_(False)
    state = {"norm.weight": ours.transformer.norm.weight, "embed_tokens.weight": theirs.embed_tokens.weight}
    for number, block in enumerate(blocks):
        layer = {
            "input_layernorm": block.attention_norm.weight, "post_attention_layernorm": block.mlp_norm.weight,
            "self_attn.o_proj": block.attention.out.weight, "mlp.down_proj": block.mlp.down.weight,
        }  # fmt: skip
        layer |= dict(zip(("mlp.gate_proj", "mlp.up_proj"), block.mlp.gate_up.weight.chunk(2), strict=True))
        rows = block.attention.qkv.weight.chunk(3)
        layer |= {f"self_attn.{name}_proj": each for name, each in zip("qkv", rows, strict=True)}
        state |= {f"layers.{number}.{name}.weight": tensor for name, tensor in layer.items()}
    theirs.load_state_dict(state)
    return theirs


class Ours:
    """The Talker behind a text, as `Speaker` runs it; a call decodes the same frames again."""

    def __init__(self, talker: Talker, text: Tensor) -> None:
        lengths, speakers = torch.tensor([text.shape[1]]), torch.zeros(1, dtype=torch.long)
        cache = talker.new_cache(1, text.shape[1] + FRAMES + 1)
        self.first = greedy_frames(talker.prefill(text, lengths, speakers=speakers, cache=cache))
        cache.left_padded = False  # as `Speaker.begin` has it for one text
        self.decoder, self.position = FrameDecoder(talker, cache), cache.position

    def __call__(self) -> Tensor:
        """Codes (FRAMES, K)."""
        self.decoder.cache.roll_back(self.position)
        tokens, frames = self.first, []
        for _ in range(FRAMES):
            tokens = self.decoder(tokens)[:, 0]
            frames.append(tokens[0, :-1])
        return torch.stack(frames)


class Peer:
    """The same with transformers' blocks and cache; what is around the blocks is ours."""

    def __init__(self, talker: Talker, text: Tensor) -> None:
        from transformers import DynamicCache

        self.talker, self.llama, self.cache = talker, hf_llama(talker), DynamicCache()
        lengths, speakers = torch.tensor([text.shape[1]]), torch.zeros(1, dtype=torch.long)
        prefix, durations = talker.text(text, torch.ones_like(text, dtype=torch.bool), speakers)
        times = durations.cumsum(1)
        self.text = upsample_text(prefix, times, lengths, count=FRAMES + 1)
        x = torch.cat([prefix, talker.start + self.text[:, :1]], dim=1)
        self.first = self._codes(x, torch.cat([times, torch.zeros(1, 1)], dim=1))
        self.position = x.shape[1]

    def _codes(self, x: Tensor, positions: Tensor) -> Tensor:
        out = self.llama(inputs_embeds=x, position_ids=positions, past_key_values=self.cache, use_cache=True)
        hidden = out.last_hidden_state[:, -1:]
        assert self.talker.stop is not None
        self.talker.stop(hidden)  # ours predicts it too
        return torch.stack([head(hidden) for head in self.talker.heads], dim=2)[:, 0].argmax(-1)

    def __call__(self) -> Tensor:
        """Codes (FRAMES, K)."""
        self.cache.crop(self.position - self.cache.get_seq_length())
        codes, frames = self.first, []
        for frame in range(1, FRAMES + 1):
            x = self.talker.code_embedding(codes[:, None] + self.talker.code_offset).sum(2)
            codes = self._codes(x + self.text[:, frame : frame + 1], torch.full((1, 1), frame))
            frames.append(codes[0])
        return torch.stack(frames)


def frame(size: str) -> Contest:
    """Decoding of one frame after a text."""
    talker = network("talker", size)
    text = torch.tensor([encode_characters(TEXT)])
    why, peers = missing("transformers"), dict[str, Call]()
    with torch.inference_mode():
        library.available()  # a sentence does not wait until they are built, and would go on without them
        ours = Ours(with_row_blocks(talker), text)
        if not why:
            peers["transformers' Llama"] = inference(Peer(talker, text))
    read = sum(each.nbytes for part in (talker.transformer, talker.heads) for each in part.parameters())
    return Contest(
        case=f"a frame after {len(TEXT)} characters, batch 1, size={size}, float32", units=FRAMES,
        ours=inference(ours), peers=peers, absent={"transformers' Llama": why} if why else {},
        difference=share_unequal, read=read, aim=3.0,
    )  # fmt: skip
