"""A conversation on one KV cache: earlier turns are never prefilled again.

Shapes: T tokens.
"""

import copy
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import torch

from muomni.inference.decoding.beam_search import beam_search
from muomni.inference.decoding.detokenizer import Detokenizer, detokenize
from muomni.inference.decoding.generate import decode
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.runtime import Runtime
from muomni.inference.decoding.sampling import INVALID_TOKEN, NOT_FINITE, Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.prompt import Prompt, PromptBuilder, Request
from muomni.inference.validation import require_bool, require_str
from muomni.special_tokens import EOS


class Conversation:
    """Turns on one KV cache.

    `notice` says if the last turn reset the history ("" otherwise); `timings` are those of the last turn.
    history: False makes every turn independent. system_prompt: goes before the first turn.
    """

    def __init__(self, prompter: PromptBuilder, runtime: Runtime, *, history: bool, system_prompt: str) -> None:
        require_bool("history", history)
        require_str("system_prompt", system_prompt)
        if system_prompt and prompter.format == "plain":
            raise ValueError("a plain prompt has no roles: leave out system_prompt=, or use format=chat")
        self.prompter, self.runtime = prompter, runtime
        self.history, self.system_prompt = history, system_prompt
        self.cache = runtime.new_cache(1, prompter.context)
        self.pending: list[int] = []  # generated but not in the cache yet: the last token of the answer, and its EOS
        self.present: set[int] = set()  # ids of all turns, for the repetition penalty
        self.timings = Timings()
        self.notice = ""

    def reset(self) -> None:
        """Forget all turns."""
        self.cache.reset()
        self.pending, self.present = [], set()

    def say(self, request: Request, options: GenerationOptions) -> Iterator[str]:
        """Prefill a turn; returns the answer's text in pieces, generated lazily: the caller may stop iterating at any piece.

        Raises ValueError if the turn alone is longer than the context.
        """
        self.timings, self.notice = Timings(), ""
        if not self.history:
            self.reset()
        prompt = self._prompt(request, options)
        ids = torch.cat([torch.tensor(self.pending, dtype=torch.long), prompt.ids])[None].to(self.prompter.device)
        sampler = Sampler(options, device=self.prompter.device, rng_offset=self.cache.position)
        with torch.inference_mode(), self.timings.span("prefill"):
            embeddings = self.prompter.embed(ids, [prompt.features])
            logits = self.runtime.prefill(ids, self.cache, embeddings=embeddings, padding=None)
        self.timings.prompt_tokens = ids.shape[1]
        self.present.update(ids[0].tolist())
        sampler.note(torch.tensor([sorted(self.present)], device=ids.device), self.prompter.thinker.vocab_size)
        if options.num_beams > 1:
            return iter([self._best(logits, sampler, options)])
        return self._answer(logits, sampler, options)

    def _prompt(self, request: Request, options: GenerationOptions) -> Prompt:
        """The turn after the history; if both do not fit, the turn alone, and the history is dropped."""
        features = self.prompter.encode_media(request)
        if self.cache.position:
            prompt = self.prompter.prompt(request, features, first=False)
            needed = len(self.pending) + len(prompt) + (options.max_new_tokens or 1) + 1
            if needed <= self.cache.remaining:
                return prompt
        if self.system_prompt and request.messages:
            raise ValueError(
                "messages= in a conversation with system_prompt=: put it into the messages, as role system"
            )
        if self.system_prompt and request.system_prompt not in ("", self.system_prompt):
            raise ValueError("system_prompt= in a conversation that has another one: give it to conversation() only")
        if self.system_prompt:
            request = replace(request, system_prompt=self.system_prompt)
        prompt = self.prompter.fitting(request, features, max_new_tokens=options.max_new_tokens)
        if self.cache.position:
            held = f"{self.cache.position} / {self.cache.capacity} tokens"
            self.notice = f"the context is full ({held}): the conversation starts again"
            self.reset()
        return prompt

    def _best(self, logits: torch.Tensor, sampler: Sampler, options: GenerationOptions) -> str:
        """The whole answer by beam search; it enters the cache with the next turn."""
        room = self.cache.remaining + 1  # the last token needs no slot
        limit = min(room, options.max_new_tokens or room)
        beam_cache = copy.copy(self.cache)  # the conversation's own rows stay as they are
        with self.timings.span("model"):
            best = beam_search(
                self.prompter.thinker,
                logits,
                beam_cache,
                options=options,
                limits=torch.tensor([limit], device=logits.device),
                padding=None,
                seen=sampler.seen,
                tokenizer=self.prompter.tokenizer,
            )[0][0]
        self.timings.new_tokens = len(best.ids)
        self.timings.text_cut = len(best.ids) == limit
        self.pending = [*best.ids, EOS]
        self.present.update(best.ids)
        return detokenize(self.prompter.tokenizer, best.ids, stop=options.stop)

    def _answer(self, logits: torch.Tensor, sampler: Sampler, options: GenerationOptions) -> Iterator[str]:
        stream = Detokenizer(self.prompter.tokenizer, stop=options.stop)
        self.pending = [EOS]
        decoder = self.runtime.decoder(self.cache, sampler=sampler, padding=None, timings=self.timings)
        with self.timings.span("sampling"):
            first = sampler(logits)
        steps = decode(decoder, first, max_tokens=options.max_new_tokens)
        with closing(steps), self.runtime.time_head(self.timings):
            for ids in steps:
                token = int(ids)
                if token == EOS:
                    break
                if token == INVALID_TOKEN:
                    self.pending = []
                    raise ValueError(NOT_FINITE)
                self.timings.new_tokens += 1
                self.pending = [token, EOS]
                self.present.add(token)
                piece = stream.push(token)
                if piece:
                    yield piece
                if stream.stopped:
                    break
            else:
                self.timings.text_cut = True
        rest = stream.close()
        if rest:
            yield rest
