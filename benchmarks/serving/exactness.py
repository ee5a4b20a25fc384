"""python -m benchmarks.serving.exactness     answers that share steps, compared with those of the engine alone, token by token.

ckpt=DIR        an export with a Thinker, default checkpoints/omni_sft
total=60000     tokens that are compared
streams=8       requests at once
tokens=100      the most of an answer; none ends before, but at the end of the context
temperature=0   of the sampling; 0 is greedy
seconds=0       end after so many, with what was compared until then; 0: never
compile=MODE    of the scheduler's steps: none, default, max
out=FILE        the numbers as JSON, default reports/exactness.json
"""

import queue
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, takewhile
from typing import Any

from benchmarks.results import write_results
from benchmarks.serving.scheduler import never_end
from muomni.cli.key_value import read_options, run_program
from muomni.inference.answer import Answer, Piece
from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.special_tokens import PIECES

OWN = {
    "ckpt": "checkpoints/omni_sft",
    "total": 60000,
    "streams": 8,
    "tokens": 100,
    "temperature": 0.0,
    "seconds": 0,
    "compile": "none",
    "out": "reports/exactness.json",
}


@dataclass
class Compared:
    """Answers and their tokens, those among them that differ from the engine's, and tokens that were computed once more."""

    answers: int = 0
    tokens: int = 0
    differing_answers: int = 0
    differing_tokens: int = 0
    replayed: int = 0
    mean_batch: float = 0.0

    def add(self, engine: Engine, shared: Answer, alone: Answer) -> None:
        """Compare an answer with the engine's. Tokens from the first other character on count as differing."""
        self.answers += 1
        self.tokens += alone.completion_tokens
        if (shared.text, shared.completion_tokens) == (alone.text, alone.completion_tokens):
            return
        pairs = zip(shared.text, alone.text, strict=False)
        same = "".join(character for character, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self.differing_answers += 1
        self.differing_tokens += max(1, alone.completion_tokens - len(engine.require_prompter().tokenizer.encode(same)))


def prompts(engine: Engine) -> Iterator[str]:
    """Random pieces, 2 to 60: the answers to ordinary questions would soon repeat each other."""
    rng, tokenizer = random.Random(0), engine.require_prompter().tokenizer
    while True:
        ids = rng.choices(range(len(PIECES), tokenizer.vocab_size), k=rng.randint(2, 60))
        text = tokenizer.decode(index for index in ids if not tokenizer.is_byte(index)).strip()
        if text:
            yield text


def answer_together(scheduler: Scheduler, texts: list[str], options: GenerationOptions) -> list[Answer]:
    """The answers of one group, which is submitted at once."""
    queues: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in texts]
    for text, items in zip(texts, queues, strict=True):
        scheduler.submit(Request(text=text), options, emit=items.put)
    answers: list[Answer] = []
    for items in queues:
        while isinstance(item := items.get(), Piece):
            pass
        if isinstance(item, Exception):
            raise item
        answers.append(item)
    return answers


def compare(options: dict[str, Any]) -> Compared:
    """Groups of answers until `total` tokens or `seconds` are over."""
    engine = load_model(options["ckpt"], device="cpu")
    never_end(engine)
    scheduler = Scheduler(engine, slots=options["streams"], compile=options["compile"])
    compared, texts, start = Compared(), prompts(engine), time.perf_counter()
    while compared.tokens < options["total"] and (
        not options["seconds"] or time.perf_counter() - start < options["seconds"]
    ):
        chosen = preset(
            "greedy", max_new_tokens=options["tokens"], temperature=options["temperature"], seed=compared.answers
        )
        group = list(islice(texts, options["streams"]))
        shared = answer_together(scheduler, group, chosen)
        for text, answer in zip(group, shared, strict=True):
            compared.add(engine, answer, engine.answer(text, generation=chosen))
        stats = scheduler.stats()
        compared.replayed, compared.mean_batch = stats.replayed, stats.mean_batch
    scheduler.close(grace=0)
    return compared


def main(arguments: list[str]) -> None:
    options = read_options(arguments, OWN)
    compared = compare(options)
    print(
        f"{compared.tokens} tokens in {compared.answers} answers, {compared.mean_batch:.1f} a step: {compared.differing_tokens} "
        f"differ, in {compared.differing_answers} answers; {compared.replayed} near ties were computed alone"
    )
    write_results(options["out"], {"options": options, "results": asdict(compared)})


if __name__ == "__main__":
    run_program(main)
