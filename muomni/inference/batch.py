"""Several prompts answered at once: ragged rows, each with media of its own.

Shapes: B rows, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.inference.generate import generate, left_pad
from muomni.inference.prompt import merge_features
from muomni.inference.runtime import Eager, Runtime
from muomni.inference.sampling import GenerationOptions, Sampler, preset
from muomni.inference.stats import Timings
from muomni.models.omni import MediaFeatures, Omni


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
    """prompts: ids (T_i) with media slots; features: what fills each row's -> the ids of each answer, without EOS.

    A row ends at EOS, after `max_new_tokens`, or where it fills the context; under greedy it is what it is alone.
    """
    device = model.thinker.embedding.weight.device
    ids, padding = left_pad([prompt.cpu() for prompt in prompts])
    ids, padding = ids.to(device), None if padding is None else padding.to(device)
    context = model.thinker.max_length
    room = [context - len(prompt) + 1 for prompt in prompts]  # the last token is never read
    limits = torch.tensor([min(most, options.max_new_tokens or most) for most in room])
    sampler = Sampler(options, device=device)
    cache = runtime.new_cache(len(prompts), ids.shape[1] + int(limits.max()) - 1)
    with timings.span("prefill"):
        embeddings = model.embed(ids, features=merge_features(features))
        logits = runtime.prefill(ids, cache, embeddings=embeddings, padding=padding)
    timings.prompt_tokens = sum(len(prompt) for prompt in prompts)
    sampler.note(ids, model.thinker.vocab_size)
    decoder = runtime.decoder(cache, sampler=sampler, padding=padding, timings=timings)
    answers = generate(decoder, sampler(logits), limits=limits.to(device)).answers()
    timings.new_tokens = sum(len(answer) for answer in answers)
    return answers


def greedy_answers(
    model: Omni, prompts: Sequence[Tensor], features: Sequence[MediaFeatures], *, max_new_tokens: int
) -> list[list[int]]:
    """`answer_batch` as a stage measures with it: greedy, at most `max_new_tokens` each."""
    options = preset("greedy", max_new_tokens=max_new_tokens)
    return answer_batch(model, Eager(model.thinker), prompts, features, options=options, timings=Timings())
