"""Optical character recognition with a trained `ocr` module: image -> text by greedy decoding.

Legend: B images, S image side.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from muomni import aliases
from muomni.frontends.char_vocab import decode_symbols
from muomni.inference.decoding.generate import TextDecoder, decode_step, generate, prefill
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.sampling import NOT_FINITE, Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import MuomniError
from muomni.models.ocr import Ocr
from muomni.special_tokens import BOS


@torch.inference_mode()
def read_images(model: Ocr, images: Tensor) -> list[str]:
    """images (B, 3, S, S), normalised -> the text of each. Raises ValueError for logits that are not finite."""
    decoder = model.decoder
    cache = decoder.new_cache(len(images), decoder.max_length)
    grid = model.encode_prompt(images)
    start = torch.full((len(images), 1), BOS, device=images.device)
    embeddings = torch.cat((grid, decoder.embedding(start).to(grid.dtype)), dim=1)
    ids = start.expand(-1, embeddings.shape[1])
    logits = prefill(decoder, ids, cache, embeddings=embeddings)
    step = functools.partial(decode_step, decoder, cache=cache)
    text = TextDecoder(step, cache, sampler=Sampler(preset("greedy"), device=images.device), timings=Timings())
    limits = torch.full((len(images),), model.max_characters, device=images.device)
    generated = generate(text, text.sampler(logits), limits=limits)
    if generated.has_invalid:
        raise MuomniError(NOT_FINITE)
    return [decode_symbols(row, model.characters) for row in generated.answers()]


def __getattr__(name: str) -> Any:
    return aliases.attribute(__name__, name)
