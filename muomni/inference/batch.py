"""Several prompts answered at once: ragged rows, each with media of its own.

Shapes: B rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.beam_search import Hypothesis, beam_search
from muomni.inference.decoding.detokenizer import RowStops, detokenize, stop_predicate
from muomni.inference.decoding.generate import generate, left_pad
from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.decoding.runtime import Eager, Runtime
from muomni.inference.decoding.sampling import NOT_FINITE, Sampler, row_seeds
from muomni.inference.decoding.timings import Timings
from muomni.inference.prompt import Prompt, Prompter, merge_features
from muomni.models.omni import MediaFeatures, Omni
from muomni.nn.cache import KVCache


@dataclass(slots=True)
class PrefillState:
    """Prompts that were read: ids (B, T), padding (B) or None, a cache with room for the answers, the logits (B, V) of their
    first tokens, and limits (B) of their lengths."""

    ids: Tensor
    padding: Tensor | None
    cache: KVCache
    logits: Tensor
    limits: Tensor


def prefill_prompts(
    model: Omni,
    runtime: Runtime,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    max_new_tokens: int | None,
    timings: Timings,
) -> PrefillState:
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
    return PrefillState(ids, padding, cache, logits, limits.to(device))


@torch.inference_mode()
def answer_batch(
    model: Omni,
    runtime: Runtime,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    options: GenerationOptions,
    timings: Timings,
    tokenizer: Tokenizer | None = None,
    strict: bool = True,
) -> list[list[int]]:
    """Prompts as of `prefill_prompts` -> the ids of each answer, without EOS.

    A row ends at EOS, at a stop string (which needs the tokenizer), after `max_new_tokens`, or where it fills the context;
    under greedy it is what it is alone. Raises ValueError where the model's numbers are not finite; not `strict`, such an
    answer ends there.
    """
    if options.num_beams > 1:
        found = n_best(model, prompts, features, options=options, timings=timings, tokenizer=tokenizer)
        return [best[0].ids for best in found]
    read = prefill_prompts(model, runtime, prompts, features, max_new_tokens=options.max_new_tokens, timings=timings)
    seeds = None if options.is_greedy else row_seeds(options.seed, list(map(_content, prompts, features)))
    sampler = Sampler(options, device=read.ids.device, seeds=seeds)
    sampler.note(read.ids, model.thinker.vocab_size)
    decoder = runtime.decoder(read.cache, sampler=sampler, padding=read.padding, timings=timings)
    stops = None if tokenizer is None or not options.stop else RowStops(tokenizer, rows=len(prompts), stop=options.stop)
    generated = generate(decoder, sampler(read.logits), limits=read.limits, stops=stops)
    if strict and generated.has_invalid:
        raise ValueError(NOT_FINITE)
    answers = generated.answers()
    timings.new_tokens = sum(len(answer) for answer in answers)
    return answers


def _content(prompt: Tensor, features: MediaFeatures) -> bytes:
    """What tells a prompt from others: its ids and its media."""
    tensors = [prompt, *(value for value in (features.images, features.audios) if value is not None)]
    return b"|".join(tensor.detach().cpu().float().numpy().tobytes() for tensor in tensors)


@torch.inference_mode()
def n_best(
    model: Omni,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    options: GenerationOptions,
    timings: Timings,
    tokenizer: Tokenizer | None = None,
) -> list[list[Hypothesis]]:
    """Prompts as of `prefill_prompts` -> the answers of each row by beam search, the best first. Always computed eagerly.
    tokenizer: where stop strings end beams."""
    thinker = model.thinker
    read = prefill_prompts(
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
            stopped=None if tokenizer is None else stop_predicate(tokenizer, options.stop),
        )
    timings.new_tokens = sum(len(row[0].ids) for row in found)
    return found


def answer_prompts(
    prompter: Prompter, runtime: Runtime, prompts: Sequence[Prompt], *, options: GenerationOptions, timings: Timings
) -> list[list[int]]:
    """`answer_batch` of prompts that are ready."""
    ids, features = [prompt.ids for prompt in prompts], [prompt.features for prompt in prompts]
    tokenizer = prompter.tokenizer
    return answer_batch(prompter.model, runtime, ids, features, options=options, timings=timings, tokenizer=tokenizer)


def n_best_texts(
    prompter: Prompter, prompts: Sequence[Prompt], *, options: GenerationOptions, timings: Timings
) -> list[list[tuple[str, float]]]:
    """The answers of `n_best` as texts with their scores, each text once: other tokens may be the same text, and what stands
    behind a stop string is none."""
    ids, features = [prompt.ids for prompt in prompts], [prompt.features for prompt in prompts]
    tokenizer = prompter.tokenizer
    rows: list[list[tuple[str, float]]] = []
    for found in n_best(prompter.model, ids, features, options=options, timings=timings, tokenizer=tokenizer):
        best: dict[str, float] = {}
        for hypothesis in found:
            best.setdefault(detokenize(tokenizer, hypothesis.ids, stop=options.stop), hypothesis.score)
        rows.append(list(best.items()))
    return rows


def greedy_answers(
    model: Omni, prompts: Sequence[Tensor], features: Sequence[MediaFeatures], *, max_new_tokens: int
) -> list[list[int]]:
    """`answer_batch` as a stage measures with it: greedy, at most `max_new_tokens` each; a model that breaks while it is
    trained answers less, and others say so."""
    options = preset("greedy", max_new_tokens=max_new_tokens)
    runtime = Eager(model.thinker)
    return answer_batch(model, runtime, prompts, features, options=options, timings=Timings(), strict=False)
