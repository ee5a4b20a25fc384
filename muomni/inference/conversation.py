"""A conversation on one KV cache: earlier turns are never prefilled again.

Shapes: T tokens.
"""

import copy
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import torch

from muomni.inference.answer import Answer, AnswerStream, Piece
from muomni.inference.decoding.beam_search import beam_search
from muomni.inference.decoding.detokenizer import Detokenizer, find_stop
from muomni.inference.decoding.generate import decode
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.runtime import Runtime
from muomni.inference.decoding.sampling import INVALID_TOKEN, NOT_FINITE, Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import ContextLength, InvalidOption, MuomniError, raised_as
from muomni.inference.prompt import Prompt, PromptBuilder, Request
from muomni.inference.validation import require_bool, require_str
from muomni.models.omni import MediaFeatures
from muomni.special_tokens import EOS


@dataclass(slots=True)
class Turn:
    """What was asked with which `max_new_tokens`, and the answer so far: its text, and its ids without EOS."""

    request: Request
    max_new_tokens: int | None
    text: str = ""
    ids: list[int] = field(default_factory=list)


class Conversation:
    """Turns on one KV cache; one turn at a time. Conversations of one engine may run in different threads.

    `notice` says if the last turn reset the history ("" otherwise); `timings` are those of the last turn.
    `turns` are those that the cache holds. history: False makes every turn independent. system_prompt: goes before the first
    turn.
    """

    def __init__(self, prompter: PromptBuilder, runtime: Runtime, *, history: bool, system_prompt: str) -> None:
        require_bool("history", history)
        require_str("system_prompt", system_prompt)
        if system_prompt and prompter.format == "plain":
            raise InvalidOption(
                "a plain prompt has no roles: leave out system_prompt=, or use format=chat", param="system_prompt"
            )
        self.prompter, self.runtime = prompter, runtime
        self.history, self.system_prompt = history, system_prompt
        self.cache = runtime.new_cache(1, prompter.context)
        self.pending: list[int] = []  # generated but not in the cache yet: the last token of the answer, and its EOS
        self.present: set[int] = set()  # ids of all turns, for the repetition penalty
        self.turns: list[Turn] = []
        self.timings = Timings()
        self.notice = ""

    def reset(self) -> None:
        """Forget all turns."""
        self.cache.reset()
        self.pending, self.present, self.turns = [], set(), []

    @raised_as(MuomniError, param=None)
    def restore(self, turns: Sequence[Turn]) -> None:
        """Forget all turns, and read others into the cache as if they had been said here. Raises ContextLength if they do not
        fit, and as `say`; all turns are then forgotten."""
        self.reset()
        try:
            for turn in turns:
                self.notice = ""
                self._prefill(turn.request, GenerationOptions(max_new_tokens=turn.max_new_tokens), Timings())
                if self.notice or len(turn.ids) > self.cache.remaining + 1:
                    raise ContextLength(
                        f"the {len(turns)} turns do not fit the context of {self.prompter.context} tokens", param="path"
                    )
                self._read_answer(turn)
        except BaseException:
            self.reset()
            raise

    @torch.inference_mode()
    def _read_answer(self, turn: Turn) -> None:
        """Append an answer to the cache; its last token is pending, as after `say`."""
        if len(turn.ids) > 1:
            ids = torch.tensor([turn.ids[:-1]], device=self.prompter.device)
            embeddings = self.prompter.embed(ids, [MediaFeatures()])
            self.runtime.prefill(ids, self.cache, embeddings=embeddings, padding=None)
        self.pending = [*turn.ids[-1:], EOS]
        self.present.update(turn.ids)
        self.turns[-1] = replace(turn, ids=list(turn.ids))

    @raised_as(MuomniError, param=None)
    def say(self, request: Request, options: GenerationOptions) -> AnswerStream:
        """Prefill a turn; returns the answer in pieces, generated lazily: the caller may stop iterating at any piece.

        Raises MuomniError if the turn alone is longer than the context, and for what is wrong with its media or options.
        """
        options.check_vocabulary(self.prompter.thinker.vocab_size)
        timings = self.timings = Timings()
        self.notice = ""
        if not self.history:
            self.reset()
        logits, sampler = self._prefill(request, options, timings)
        pieces = self._best if options.num_beams > 1 else self._answer
        return AnswerStream(pieces(logits, sampler, options, timings), timings)

    def _prefill(self, request: Request, options: GenerationOptions, timings: Timings) -> tuple[torch.Tensor, Sampler]:
        """Append a turn to the cache -> logits (1, V) of the answer's first token, and the answer's sampler."""
        prompt = self._prompt(request, options)
        ids = torch.cat([torch.tensor(self.pending, dtype=torch.long), prompt.ids])[None].to(self.prompter.device)
        sampler = Sampler(options, device=self.prompter.device, rng_offset=self.cache.position)
        with torch.inference_mode(), timings.span("prefill"):
            embeddings = self.prompter.embed(ids, [prompt.features])
            logits = self.runtime.prefill(ids, self.cache, embeddings=embeddings, padding=None)
        timings.prompt_tokens = ids.shape[1]
        self.pending = [EOS]
        self.turns.append(Turn(request, options.max_new_tokens))
        self.present.update(ids[0].tolist())
        sampler.note(torch.tensor([sorted(self.present)], device=ids.device), self.prompter.thinker.vocab_size)
        return logits, sampler

    def _prompt(self, request: Request, options: GenerationOptions) -> Prompt:
        """The turn after the history; if both do not fit, the turn alone, and the history is dropped."""
        features = self.prompter.encode_media(request)
        if self.cache.position:
            prompt = self.prompter.prompt(request, features, first=False)
            needed = len(self.pending) + len(prompt) + (options.max_new_tokens or 1) + 1
            if needed <= self.cache.remaining:
                return prompt
        if self.system_prompt and request.messages:
            raise InvalidOption(
                "messages= in a conversation with system_prompt=: put it into the messages, as role system",
                param="messages",
            )
        if self.system_prompt and request.system_prompt not in ("", self.system_prompt):
            raise InvalidOption(
                "system_prompt= in a conversation that has another one: give it to conversation() only",
                param="system_prompt",
            )
        if self.system_prompt:
            request = replace(request, system_prompt=self.system_prompt)
        prompt = self.prompter.fitting(request, features, max_new_tokens=options.max_new_tokens)
        if self.cache.position:
            held = f"{self.cache.position} / {self.cache.capacity} tokens"
            self.notice = f"the context is full ({held}): the conversation starts again"
            self.reset()
        return prompt

    def _best(
        self, logits: torch.Tensor, sampler: Sampler, options: GenerationOptions, timings: Timings
    ) -> Generator[Piece, None, Answer]:
        """The whole answer by beam search as one piece; it enters the cache with the next turn."""
        start = self.cache.position
        room = self.cache.remaining + 1  # the last token needs no slot
        limit = min(room, options.max_new_tokens or room)
        beam_cache = copy.copy(self.cache)  # the conversation's own rows stay as they are
        with timings.span("model"):
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
        timings.new_tokens = len(best.ids)
        self.pending = [*best.ids, EOS]
        self.present.update(best.ids)
        text = self.prompter.tokenizer.decode(best.ids)
        end = find_stop(text, options.stop)
        timings.text_cut = end is None and not best.ended
        text = text if end is None else text[:end]
        self.turns[-1].text, self.turns[-1].ids = text, list(best.ids)
        if text:
            yield Piece(text)
        return self._whole(text, start=start, timings=timings, sampler=sampler)

    def _answer(
        self, logits: torch.Tensor, sampler: Sampler, options: GenerationOptions, timings: Timings
    ) -> Generator[Piece, None, Answer]:
        start, turn = self.cache.position, self.turns[-1]
        stream = Detokenizer(self.prompter.tokenizer, stop=options.stop)
        decoder = self.runtime.decoder(self.cache, sampler=sampler, padding=None, timings=timings)
        with timings.span("sampling"):
            first = sampler(logits)
        emitted = 0  # tokens

        def piece(text: str) -> Piece:
            nonlocal emitted
            turn.text += text
            begin, emitted = emitted, timings.new_tokens
            recorder = sampler.logprobs
            if recorder is None:
                return Piece(text)
            return Piece(text, recorder.row(self.prompter.tokenizer, 0, begin=begin, end=emitted))

        steps = decode(decoder, first, max_tokens=options.max_new_tokens)
        with closing(steps):
            for ids in steps:
                token = int(ids)
                if token == EOS:
                    break
                if token == INVALID_TOKEN:
                    self.pending = []
                    raise MuomniError(NOT_FINITE)
                timings.new_tokens += 1
                self.pending = [token, EOS]
                self.present.add(token)
                turn.ids.append(token)
                text = stream.push(token)
                if text:
                    yield piece(text)
                if stream.stopped:
                    break
            else:
                timings.text_cut = True
        rest = stream.close()
        if rest or (sampler.logprobs is not None and emitted < timings.new_tokens):
            yield piece(rest)
        return self._whole(turn.text, start=start, timings=timings, sampler=sampler)

    def _whole(self, text: str, *, start: int, timings: Timings, sampler: Sampler) -> Answer:
        """The answer that was generated after `start` tokens in the cache."""
        recorder, tokenizer = sampler.logprobs, self.prompter.tokenizer
        return Answer(
            text=text,
            finish_reason="length" if timings.text_cut else "stop",
            prompt_tokens=start,
            cached_tokens=start - timings.prompt_tokens,
            completion_tokens=timings.new_tokens,
            logprobs=None if recorder is None else recorder.row(tokenizer, 0, begin=0, end=timings.new_tokens),
            timings=timings,
        )
