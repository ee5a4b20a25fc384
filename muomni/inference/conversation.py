"""A conversation whose cache lives on from turn to turn: history is never read again.

Shapes: T tokens.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from muomni.inference.generate import decode, prefill
from muomni.inference.prompt import Prompt, Prompter, Request
from muomni.inference.sampling import GenerationOptions, Sampler
from muomni.inference.stats import Timings
from muomni.inference.text_stream import TextStream
from muomni.special_tokens import EOS


class Conversation:
    """Turns on one KV cache.

    `notice` holds what happened to the history at the last turn ("" for nothing), `timings` what the turn took.
    history: False makes every turn independent. system_prompt: goes before the first turn.
    """

    def __init__(self, prompter: Prompter, *, history: bool, system_prompt: str) -> None:
        self.prompter, self.history, self.system_prompt = prompter, history, system_prompt
        self.cache = prompter.thinker.new_cache(1)
        self.pending: list[int] = []  # written but not read back: the last token of the answer, and its EOS
        self.timings = Timings()
        self.notice = ""

    def reset(self) -> None:
        """Forget all turns."""
        self.cache.reset()
        self.pending = []

    def say(self, request: Request, options: GenerationOptions) -> Iterator[str]:
        """Read a turn and yield the answer's text in pieces. Stop iterating early, and the rest is never written.

        Raises ValueError where the turn alone is longer than the context.
        """
        self.timings, self.notice = Timings(), ""
        if not self.history:
            self.reset()
        prompt = self._prompt(request)
        needed = len(prompt) + len(self.pending) + (options.max_new_tokens or 1) + 1
        if self.cache.position and needed > self.cache.remaining:
            held = f"{self.cache.position} / {self.cache.capacity} tokens"
            self.notice = f"the context is full ({held}): the conversation starts anew"
            self.reset()
            prompt = self._prompt(request)
        if self.cache.position == 0:
            self.prompter.check_budget(len(prompt), options.max_new_tokens)
        ids = torch.cat([torch.tensor(self.pending, dtype=torch.long), prompt.ids])
        thinker = self.prompter.thinker
        sampler = Sampler(options, device=self.prompter.device)
        with torch.inference_mode(), self.timings.span("prefill"):
            ids = ids.to(self.prompter.device)
            embeddings = self.prompter.embed(ids[None], [prompt.features])
            logits = prefill(thinker, ids[None], self.cache, embeddings=embeddings)
        self.timings.prompt_tokens = len(ids)
        sampler.note(ids[None].to(self.prompter.device), thinker.vocab_size)
        yield from self._answer(logits, sampler, options)

    def _prompt(self, request: Request) -> Prompt:
        first = self.cache.position == 0
        if first and self.system_prompt and not request.messages:
            request = replace(request, system_prompt=self.system_prompt)
        return self.prompter.prompt(request, first=first)

    def _answer(self, logits: torch.Tensor, sampler: Sampler, options: GenerationOptions) -> Iterator[str]:
        thinker = self.prompter.thinker
        stream = TextStream(self.prompter.tokenizer, stop=options.stop)
        self.pending = [EOS]
        steps = decode(
            thinker,
            logits,
            self.cache,
            sampler=sampler,
            max_new_tokens=options.max_new_tokens,
            timings=self.timings,
        )
        with self.timings.watch_head(thinker.head):
            for ids in steps:
                token = int(ids)
                if token == EOS:
                    break
                self.pending = [token, EOS]
                piece = stream.push(token)
                if piece:
                    yield piece
                if stream.stopped:
                    break
        rest = stream.close()
        if rest:
            yield rest
