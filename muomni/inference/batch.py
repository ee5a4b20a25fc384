"""Batched generation: prompts of different lengths, each with its own media.

Shapes: B rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import Answer, NBest
from muomni.inference.decoding.beam_search import Hypothesis, beam_search
from muomni.inference.decoding.detokenizer import Detokenizer, RowStops, detokenize
from muomni.inference.decoding.generate import generate, left_pad
from muomni.inference.decoding.logprobs import LogprobRecorder
from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.decoding.runtime import Eager, Runtime
from muomni.inference.decoding.sampling import NOT_FINITE, Sampler, row_seeds
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import MuomniError
from muomni.inference.prompt import Prompt, PromptBuilder
from muomni.models.omni import MediaFeatures, Omni, merge_features
from muomni.nn.cache import KVCache


@dataclass(slots=True)
class PrefillState:
    """Result of a prefill: ids (B, T), padding (B) or None, a cache with room for the answers, logits (B, V) of the first
    tokens, and the maximum lengths (B) of the answers."""

    ids: Tensor
    padding: Tensor | None
    cache: KVCache
    logits: Tensor
    limits: Tensor


@dataclass(slots=True)
class GeneratedRow:
    """The ids of an answer without EOS, and whether EOS ended it."""

    ids: list[int]
    ended: bool


def prefill_prompts(
    model: Omni,
    runtime: Runtime,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    max_new_tokens: int | None,
    timings: Timings,
) -> PrefillState:
    """prompts: ids (T_i) with media slots; features: what fills the slots of each row."""
    device = model.thinker.embedding.weight.device
    ids, padding = left_pad([prompt.cpu() for prompt in prompts])
    ids, padding = ids.to(device), None if padding is None else padding.to(device)
    room = [model.thinker.max_length - len(prompt) + 1 for prompt in prompts]  # the last token needs no slot
    limits = torch.tensor([min(limit, max_new_tokens or limit) for limit in room])
    cache = runtime.new_cache(len(prompts), ids.shape[1] + int(limits.max()) - 1)
    with timings.span("prefill"):
        embeddings = model.embed(ids, features=merge_features(features))
        logits = runtime.prefill(ids, cache, embeddings=embeddings, padding=padding)
    timings.prompt_tokens = sum(len(prompt) for prompt in prompts)
    return PrefillState(ids, padding, cache, logits, limits.to(device))


@torch.inference_mode()
def generate_rows(
    model: Omni,
    runtime: Runtime,
    prompts: Sequence[Tensor],
    features: Sequence[MediaFeatures],
    *,
    options: GenerationOptions,
    timings: Timings,
    tokenizer: Tokenizer | None = None,
    strict: bool = True,
) -> tuple[list[GeneratedRow], LogprobRecorder | None]:
    """Prompts and features as in `prefill_prompts` -> the answers, and their log-probabilities if the options request them.

    A row ends at EOS, at a stop string (which needs the tokenizer), after `max_new_tokens`, or when it fills the context; under
    greedy decoding it equals its single run. strict: raise MuomniError for logits that are not finite, else end the row there.
    """
    if options.num_beams > 1:
        rows = n_best(model, prompts, features, options=options, timings=timings, tokenizer=tokenizer)
        return [GeneratedRow(row[0].ids, row[0].ended) for row in rows], None
    state = prefill_prompts(model, runtime, prompts, features, max_new_tokens=options.max_new_tokens, timings=timings)
    seeds = None if options.is_greedy else row_seeds(options.seed, list(map(_content, prompts, features)))
    sampler = Sampler(options, device=state.ids.device, seeds=seeds)
    sampler.note(state.ids, model.thinker.vocab_size)
    decoder = runtime.decoder(state.cache, sampler=sampler, padding=state.padding, timings=timings)
    stops = None if tokenizer is None or not options.stop else RowStops(tokenizer, rows=len(prompts), stop=options.stop)
    generated = generate(decoder, sampler(state.logits), limits=state.limits, stops=stops)
    if strict and generated.has_invalid:
        raise MuomniError(NOT_FINITE)
    answers = generated.answers()
    timings.new_tokens = sum(len(answer) for answer in answers)
    return list(map(GeneratedRow, answers, generated.ended.tolist())), sampler.logprobs


def _content(prompt: Tensor, features: MediaFeatures) -> bytes:
    """The bytes of a prompt's ids and media, equal only for equal prompts."""
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
    """Prompts and features as in `prefill_prompts` -> the answers of each row by beam search, best first. Always eager.
    tokenizer: needed for stop strings."""
    thinker = model.thinker
    state = prefill_prompts(
        model, Eager(thinker), prompts, features, max_new_tokens=options.max_new_tokens, timings=timings
    )
    sampler = Sampler(options, device=state.ids.device)
    sampler.note(state.ids, thinker.vocab_size)
    with timings.span("model"):
        rows = beam_search(
            thinker,
            state.logits,
            state.cache,
            options=options,
            limits=state.limits,
            padding=state.padding,
            seen=sampler.seen,
            tokenizer=tokenizer,
        )
    timings.new_tokens = sum(len(row[0].ids) for row in rows)
    return rows


@torch.inference_mode()
def answer_prompts(
    prompter: PromptBuilder, runtime: Runtime, prompts: Sequence[Prompt], *, options: GenerationOptions
) -> list[Answer]:
    """The answers to a prompt builder's prompts, by `generate_rows`. Their `timings` are those of the whole batch."""
    ids, features = [prompt.ids for prompt in prompts], [prompt.features for prompt in prompts]
    tokenizer, timings = prompter.tokenizer, Timings()
    rows, logprobs = generate_rows(
        prompter.model, runtime, ids, features, options=options, timings=timings, tokenizer=tokenizer
    )
    answers: list[Answer] = []
    for index, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        stream = Detokenizer(tokenizer, stop=options.stop)
        text = "".join([*map(stream.push, row.ids), stream.close()]) if options.stop else tokenizer.decode(row.ids)
        answers.append(
            Answer(
                text=text,
                finish_reason="stop" if row.ended or stream.stopped else "length",
                prompt_tokens=len(prompt),
                cached_tokens=0,
                completion_tokens=len(row.ids),
                logprobs=None if logprobs is None else logprobs.row(tokenizer, index, begin=0, end=len(row.ids)),
                timings=timings,
            )
        )
    timings.text_cut = any(answer.finish_reason == "length" for answer in answers)
    return answers


def n_best_texts(prompter: PromptBuilder, prompts: Sequence[Prompt], *, options: GenerationOptions) -> NBest:
    """The answers of `n_best` as texts with their scores, each text once: different tokens may spell the same text, and text
    after a stop string is dropped."""
    tokenizer, timings = prompter.tokenizer, Timings()
    rows: list[list[tuple[str, float]]] = []
    if not prompts:
        return NBest(rows, timings)
    ids, features = [prompt.ids for prompt in prompts], [prompt.features for prompt in prompts]
    for hypotheses in n_best(prompter.model, ids, features, options=options, timings=timings, tokenizer=tokenizer):
        best: dict[str, float] = {}
        for hypothesis in hypotheses:
            best.setdefault(detokenize(tokenizer, hypothesis.ids, stop=options.stop), hypothesis.score)
        rows.append(list(best.items()))
    return NBest(rows, timings)


def greedy_answers(
    model: Omni, prompts: Sequence[Tensor], features: Sequence[MediaFeatures], *, max_new_tokens: int
) -> list[list[int]]:
    """The ids of each answer for the evaluation of a stage: greedy, at most `max_new_tokens` each, and not strict, since guards
    report a model that diverges in training."""
    options = preset("greedy", max_new_tokens=max_new_tokens)
    runtime = Eager(model.thinker)
    rows, _ = generate_rows(model, runtime, prompts, features, options=options, timings=Timings(), strict=False)
    return [row.ids for row in rows]
