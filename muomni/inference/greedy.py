"""Greedy answers to many prompts at once: what a stage measures with.

Legend: B rows, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.inference.generate import left_pad, prefill
from muomni.inference.prompt import merge_features
from muomni.models.omni import MediaFeatures, Omni
from muomni.special_tokens import EOS


@torch.no_grad()
def greedy_answers(
    model: Omni, prompts: Sequence[Tensor], features: Sequence[MediaFeatures], *, max_new_tokens: int
) -> list[list[int]]:
    """prompts: ids (T_i) with media slots; features: each row's -> the ids of each answer, without EOS."""
    device = model.thinker.embedding.weight.device
    ids, padding = left_pad([prompt.cpu() for prompt in prompts])
    ids, padding = ids.to(device), padding.to(device)
    room = min(ids.shape[1] + max_new_tokens, model.thinker.max_length)
    cache = model.thinker.new_cache(len(prompts), room)
    embeddings = model.embed(ids, features=merge_features(features))
    logits = prefill(model.thinker, ids, cache, embeddings=embeddings, padding=padding)
    rows: list[Tensor] = []
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    while True:
        chosen = logits.argmax(dim=-1).masked_fill(done, EOS)
        done |= chosen == EOS
        rows.append(chosen)
        if bool(done.all()) or len(rows) == max_new_tokens or not cache.remaining:
            break
        positions = cache.position - padding[:, None]
        logits = model.thinker(chosen[:, None], positions=positions, cache=cache, last_only=True).logits[:, -1]
    answers = torch.stack(rows, dim=1).tolist()
    return [answer[: answer.index(EOS)] if EOS in answer else answer for answer in answers]
