"""Several prompts answered at once: ragged rows, each with media of its own.

Shapes: B rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.inference.beam import Hypothesis, beam_search
from muomni.inference.generate import generate, left_pad
from muomni.inference.prompt import merge_features
from muomni.inference.runtime import Eager, Runtime
from muomni.inference.sampling import GenerationOptions, Sampler, preset
from muomni.inference.stats import Timings
from muomni.models.omni import MediaFeatures, Omni
from muomni.nn.cache import KVCache


@dataclass(slots=True)
class Read:
    """Prompts that were read: ids (B, T), padding (B) or None, a cache with room for the answers, the logits (B, V) of their
    first tokens, and limits (B) of their lengths."""

    ids: Tensor
    padding: Tensor | None
    cache: KVCache
    logits: Tensor
    limits: Tensor


def read_prompts(
    model: Omni,
    runtime: Runtime,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    max_new_tokens: int | None,
    timings: Timings,
) -> Read:
    """prompts: ids (T_i) with media slots; features: what fills each row's."""
    device = model.thinker.embedding.weight.device
    ids, padding = left_pad([prompt.cpu() for prompt in prompts])
    ids, padding = ids.to(device), None if padding is None else padding.to(device)
    room = [model.thinker.max_length - len(prompt) + 1 for prompt in prompts]  # the last token is never read
    limits = torch.tensor([min(most, max_new_tokens or most) for most in room])
    cache = runtime.new_cache(len(prompts), ids.shape[1] + int(limits.max()) - 1)
    with timings.span("prefill"):
        embeddings = model.embed(ids, features=merge_features(features))
        logits = runtime.prefill(ids, cache, embeddings=embeddings, padding=padding)
    timings.prompt_tokens = sum(len(prompt) for prompt in prompts)
    return Read(ids, padding, cache, logits, limits.to(device))


@torch.inference_mode()
def answer_batch(
    model: Omni,
    runtime: Runtime,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    options: GenerationOptions,
    timings: Timings,
) -> list[list[int]]:
    """Prompts as of `read_prompts` -> the ids of each answer, without EOS.

    A row ends at EOS, after `max_new_tokens`, or where it fills the context; under greedy it is what it is alone.
    """
    if options.num_beams > 1:
        return [best[0].ids for best in n_best(model, prompts, features, options=options, timings=timings)]
    read = read_prompts(model, runtime, prompts, features, max_new_tokens=options.max_new_tokens, timings=timings)
    sampler = Sampler(options, device=read.ids.device)
    sampler.note(read.ids, model.thinker.vocab_size)
    decoder = runtime.decoder(read.cache, sampler=sampler, padding=read.padding, timings=timings)
    answers = generate(decoder, sampler(read.logits), limits=read.limits).answers()
    timings.new_tokens = sum(len(answer) for answer in answers)
    return answers


@torch.inference_mode()
def n_best(
    model: Omni,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    options: GenerationOptions,
    timings: Timings,
) -> list[list[Hypothesis]]:
    """Prompts as of `read_prompts` -> the answers of each row by beam search, the best first. Always computed eagerly."""
    thinker = model.thinker
    read = read_prompts(
        model, Eager(thinker), prompts, features, max_new_tokens=options.max_new_tokens, timings=timings
    )
    sampler = Sampler(options, device=read.ids.device)
    sampler.note(read.ids, thinker.vocab_size)
    with timings.span("model"):
        found = beam_search(
            thinker,
            read.logits,
            read.cache,
            num_beams=options.num_beams,
            length_penalty=options.length_penalty,
            repetition_penalty=options.repetition_penalty,
            limits=read.limits,
            padding=read.padding,
            seen=sampler.seen,
        )
    timings.new_tokens = sum(len(row[0].ids) for row in found)
    return found


def greedy_answers(
    model: Omni, prompts: Sequence[Tensor], features: Sequence[MediaFeatures], *, max_new_tokens: int
) -> list[list[int]]:
    """`answer_batch` as a stage measures with it: greedy, at most `max_new_tokens` each."""
    options = preset("greedy", max_new_tokens=max_new_tokens)
    return answer_batch(model, Eager(model.thinker), prompts, features, options=options, timings=Timings())
