"""Targets: calls of an engine with values of any type; overrides of the command lines."""

import math
import random
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz.harness import Target
from benchmarks.fuzz.models import seeds
from benchmarks.fuzz.mutate import ODD
from muomni.cli.errors import check_overrides
from muomni.cli.overrides import readable
from muomni.inference.asr.recognition import TRANSCRIBE_OPTIONS
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.inference.tts.options import NAMES as SPEECH

MESSAGES = ("messages", "system_prompt", "truncate")
GENERATION = tuple(field.name for field in fields(GenerationOptions))
CALLS: dict[str, tuple[str, ...]] = {
    "generate": ("text", "echo", "image", "audio", *MESSAGES, "generation", *GENERATION, "nonsense"),
    "generate_batch": ("requests", "image", *GENERATION),
    "generate_n_best": ("requests", "num_beams", "length_penalty"),
    "transcribe": ("audio", *TRANSCRIBE_OPTIONS, "nonsense"),
    "generate_speech": ("text", "voice", *SPEECH),
    "speak": ("texts", "voices", *SPEECH),
    "load_model": ("path", "device", "format", "talker", "vocoder", "compile", "dtype"),
}
#: The first argument as it should be, and what keeps a call short.
USUAL: dict[str, dict[str, Any]] = {
    "generate": {"text": "what is it?", "max_new_tokens": 3},
    "generate_batch": {"requests": ["what?", "where?"], "max_new_tokens": 3},
    "generate_n_best": {"requests": ["what?"], "max_new_tokens": 3},
    "transcribe": {"audio": torch.sin(torch.arange(4000) / 5.0) * 0.1},
    "generate_speech": {"text": "a circle"},
    "speak": {"texts": ["a circle"]},
    "load_model": {"device": "cpu"},
}
OVERRIDES = {
    "train": """stage size data budget optim.lr trainer.max_steps datamodule.batch_size data.train seed resume callbacks logger
        module.training.loss_weights experiment vocab_size backbone.thinker.dim nonsense data.trian""",
    "infer": "ckpt text image audio_out generation generation.top_k device beams threads nonsense vocoder",
}
WORDS = (
    *("", "null", "a", "a b", "a,b", "[a", "{a: b", "${x}", "${now:}", "é", "1e", "-1", "nan", "[1,2]"),
    *("=", "a=b", "\\", "'", '"', "~", "@", "x" * 3000),
)
#: Odd values of Python and torch, on top of the plain data in ODD.
MORE: tuple[Any, ...] = (
    *(torch.zeros(0), torch.zeros(3, 4, 4, dtype=torch.uint8), torch.full((400,), math.nan), torch.zeros(2, 2, 2, 2)),
    *(np.zeros(5), np.zeros((4, 4, 3), np.uint8), object(), lambda: 3, 3 + 2j, b"x", {1, 2}, range(3), 10**18, -0.0),
    *("nothing.png", Path("nothing.wav"), Path(), ["what?", None], "é ☃ 漢字", "<user>", "a " * 500),
    *([{"role": "user", "content": "a"}], [{"role": "robot", "content": []}]),
    [{"role": "user", "content": [{"type": "image"}]}],
)
#: What makes sense alone; together, or for another method, perhaps not.
SENSIBLE: dict[str, tuple[Any, ...]] = {
    "text": ("tell me 1 2 3", "<user> what?", "", "Ünïcode ☃", "a\nb", "a " * 30),
    "echo": (True, False),
    "image": (torch.zeros(3, 8, 8, dtype=torch.uint8), [torch.full((3, 40, 9), 255, dtype=torch.uint8)] * 2, ()),
    "audio": (torch.sin(torch.arange(9000) / 9.0), torch.zeros(16000), torch.zeros(1), torch.ones(100000), ()),
    "messages": ([{"role": "user", "content": "a"}], [{"role": "system", "content": "be brief"}], (), None),
    "system_prompt": ("be brief", ""),
    "truncate": (True, False),
    "generation": ("greedy", "balanced", "chat", "beam"),
    "temperature": (0, 0.0, 0.7, 1e-9, 1e9),
    "top_k": (0, 1, 5, 10**6),
    "top_p": (1, 0.9, 1e-9),
    "min_p": (0, 0.1, 0.999),
    "repetition_penalty": (1, 1.3, 1e-3, 1e6),
    "max_new_tokens": (1, 5, 40, None),
    "seed": (0, 1, 2**62),
    "stop": ("a", ["a", "e"], (), "what is it"),
    "num_beams": (1, 2, 4),
    "length_penalty": (0, 1, 2.5, 1e6),
    "requests": (["what?"], [], ["a"] * 5, ["", "a " * 40]),
    "timestamps": (True, False),
    "beams": (1, 4, 64),
    "lm": ("thinker", None),
    "lm_weight": (0, 0.5, 1e9, None),
    "voice": (0, 1),
    "guidance": (0, 1.0, 20, 1e9),
    "code_penalty": (0, 0.5, 100, -1),
    "code_temperature": (0, 0.7, 10, 1e9),
    "code_seed": (0, 3, 2**62, -1),
    "texts": (["a", "what is it"], [], ["a circle " * 9]),
    "voices": ([0], [1, 0], [0, 5], None),
    "device": ("cpu", "auto"),
    "format": ("chat", "plain", "auto"),
    "vocoder": ("auto", "griffin_lim"),
    "compile": ("none",),
    "dtype": ("float32", "bfloat16", "float16", "int8", "int4"),
}


@cache
def engine() -> Engine:
    """Loaded once, before the processes that try are forked."""
    return load_model(seeds() / "export", device="cpu")


def make_call(rng: random.Random, folder: Path) -> tuple[str, dict[str, Any]]:
    """A method of the engine and arguments of which one to three are unusual, half of them odd."""
    method = rng.choice(list(CALLS))
    arguments = dict(USUAL[method])
    if method == "load_model":
        arguments["path"] = seeds() / "export"
    for name in rng.sample(CALLS[method], min(len(CALLS[method]), rng.choice((1, 1, 1, 2, 3)))):
        chance = rng.random()
        known = SENSIBLE.get(name)
        arguments[name] = rng.choice(known if chance < 0.5 and known else ODD if chance < 0.75 else MORE)
    return method, arguments


def call(made: tuple[str, dict[str, Any]]) -> None:
    method, arguments = made
    if method == "load_model":
        load_model(**arguments)
        return
    getattr(engine(), method)(**arguments)


def make_override(rng: random.Random, folder: Path) -> tuple[str, list[str]]:
    """A program, and one or two options with words that its grammar does not expect."""
    program = rng.choice(list(OVERRIDES))
    names = rng.sample(OVERRIDES[program].split(), rng.choice((1, 1, 2)))
    return program, [f"{name}={rng.choice(WORDS)}" for name in names]


def compose(made: tuple[str, list[str]]) -> None:
    """Compose the configuration as the program does; a mistake is one line of text, which is as good as an error."""
    program, words = made
    problem = check_overrides([each for word in words for each in readable(word, multirun=False)], config=program)
    if problem is not None:
        raise ValueError(problem)


TARGETS = (
    Target("call", make_call, call, share=15, names=False),
    Target("override", make_override, compose, share=1.5, names=False),
)
