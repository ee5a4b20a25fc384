"""Hostile JSON: numbers, nesting, names, types, encodings; schemas that an answer cannot follow."""

import json
import random
from typing import Any

from benchmarks.serving.hostile.shot import CHAT, COMPLETIONS, EMBEDDINGS, SPEECH, Shot, post, user, valid

ROUTES = (CHAT, COMPLETIONS, SPEECH, EMBEDDINGS)
NUMBERS = {
    CHAT: ("temperature", "top_p", "top_k", "min_p", "n", "seed", "max_tokens", "max_completion_tokens",
    "frequency_penalty",
           "presence_penalty", "repetition_penalty", "top_logprobs"),
    COMPLETIONS: ("temperature", "n", "seed", "max_tokens", "logprobs", "best_of"),
    SPEECH: ("speed",),
    EMBEDDINGS: ("dimensions",),
}  # fmt: skip
OTHER_FIELDS = {
    CHAT: ("messages", "stop", "stream", "logprobs", "response_format", "modalities", "audio", "logit_bias", "model"),
    COMPLETIONS: ("prompt", "stop", "stream", "echo", "model", "suffix"),
    SPEECH: ("input", "voice", "response_format", "model", "stream_format"),
    EMBEDDINGS: ("input", "model", "encoding_format"),
}
HUGE = (
    "1e999", "-1e999", "1" + "0" * 400, "-1" + "0" * 4000, "9" * 6000, "1e308", "1e-320", "0.1e309",
    "18446744073709551616",
)  # fmt: skip
NAMES = (
    "__proto__",
    "constructor",
    "",
    "\0",
    "a" * 20_000,
    "\N{SNOWMAN}" * 300,
    "a.b[0]",
    "../../etc/passwd",
    "model ",
    "Model",
)


def _with(path: str, field: str, text: str) -> bytes:
    """A valid body whose field has a value as it is written."""
    body = valid(path)
    body.pop(field, None)
    return f'{json.dumps(body)[:-1]}, "{field}": {text}}}'.encode()


def no_numbers(rng: random.Random) -> Shot:
    """Words that JSON does not know."""
    path = rng.choice(ROUTES)
    word = rng.choice(("NaN", "Infinity", "-Infinity", "nan", "undefined", "0x10", "01", "1_000", "+1", ".5"))
    return post(path, _with(path, rng.choice(NUMBERS[path]), word))


def huge_numbers(rng: random.Random) -> Shot:
    """More than any field takes."""
    path = rng.choice(ROUTES)
    field, text = rng.choice(NUMBERS[path]), rng.choice(HUGE)
    small = text in ("1e308", "1e-320", "18446744073709551616") or field.startswith("max_")  # a limit, not a promise
    return post(path, _with(path, field, text), field=None if small or len(text) > 4300 else field, passes=small)


def wrong_types(rng: random.Random) -> Shot:
    """A value that the field does not have."""
    path = rng.choice(ROUTES)
    field = rng.choice(NUMBERS[path] + OTHER_FIELDS[path])
    value: Any = rng.choice(([[]], {"": {}}, [{}], [None, 1], {"type": ["text"]}, {"type": "none"}, {"__class__": "x"}))
    return post(path, valid(path) | {field: value}, field=rf"{field}.*")


def unknown_names(rng: random.Random) -> Shot:
    """Fields that nobody has."""
    path, name = rng.choice(ROUTES), rng.choice(NAMES)
    return post(path, valid(path) | {name: 1})


def surrogates(rng: random.Random) -> Shot:
    """Halves of characters, in names and values."""
    path = rng.choice(ROUTES)
    half = rng.choice(("\ud800", "a\udfff", "\udc80b", "\ud83d"))
    if rng.random() < 0.3:
        return post(path, valid(path) | {half: 1})
    field = rng.choice([name for name, value in valid(path).items() if isinstance(value, str)])
    if path == CHAT and rng.random() < 0.5:
        return post(path, user(half), field=r"messages\[0\].*")
    return post(path, valid(path) | {field: half}, field=field)


def odd_texts(rng: random.Random) -> Shot:
    """Characters that no training text has."""
    text = rng.choice(
        ("\0", "\x7f\x1b[2J", "\u202e", "\ufffe", "\U0010ffff", "a\u0300" * 3000, "<|im_end|>", "<eos>", " " * 50)
    )
    path = rng.choice((CHAT, COMPLETIONS, SPEECH, EMBEDDINGS))
    if path == CHAT:
        return post(path, user(text), passes=True)
    return post(path, valid(path) | {rng.choice(("input", "voice")) if path == SPEECH else
                                     "prompt" if path == COMPLETIONS else "input": text}, passes=True)  # fmt: skip


def deep(rng: random.Random) -> Shot:
    """Bottomless nesting."""
    path, depth = rng.choice(ROUTES), rng.choice((65, 500, 5000, 100_000, 1_000_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")))
    body = opening * depth + b"1" + (closing * depth if rng.random() < 0.7 else b"")
    if rng.random() < 0.5:
        body = b'{"model": "m", "metadata": ' + body + b"}"
    return post(path, body)


def wide(rng: random.Random) -> Shot:
    """Very many members."""
    path, count = rng.choice(ROUTES), rng.choice((1000, 50_000, 200_000))
    choice = rng.randrange(4)
    if choice == 0:
        return post(path, valid(path) | {f"f{index}": 1 for index in range(count)})
    if choice == 1:
        return post(CHAT, user("a") | {"messages": [{"role": "user", "content": "a"}] * count}, field="messages.*")
    if choice == 2:
        return post(CHAT, user([{"type": "text", "text": "a"}] * count), field=r"messages\[0\].*")
    return post(EMBEDDINGS, valid(EMBEDDINGS) | {"input": ["a"] * count}, field="input|model")


def long_texts(rng: random.Random) -> Shot:
    """Longer than the context, the limits, or patience."""
    path, count = rng.choice(ROUTES), rng.choice((3000, 90_000, 2_000_000))
    text = rng.choice(("a", "the red ", "1", "\N{SNOWMAN}", "\n")) * count
    if path == CHAT:
        return post(path, user(text))
    field = {COMPLETIONS: "prompt", SPEECH: "input", EMBEDDINGS: "input"}[path]
    return post(path, valid(path) | {field: text}, field=f"{field}|model", passes=True)


def twice(rng: random.Random) -> Shot:
    """A field given twice."""
    path = rng.choice(ROUTES)
    return post(path, json.dumps(valid(path)).encode()[:-1] + b', "model": "other"}', field="model")


def wrong_utf8(rng: random.Random) -> Shot:
    """Bytes that are no UTF-8."""
    path = rng.choice(ROUTES)
    body = json.dumps(valid(path)).encode()
    where = rng.randrange(1, len(body))
    broken = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80")
    choice = rng.randrange(4)
    if choice == 0:
        return post(path, json.dumps(valid(path)).encode(rng.choice(("utf-16", "utf-32", "cp037"))))
    if choice == 1:
        return post(path, b"\xef\xbb\xbf" + body)
    return post(path, body[:where] + rng.choice(broken) + body[where:])


def damaged(rng: random.Random) -> Shot:
    """JSON with bytes missing, added or changed."""
    path = rng.choice(ROUTES)
    body = bytearray(json.dumps(valid(path)).encode())
    for _ in range(rng.randrange(1, 4)):
        where = rng.randrange(len(body))
        body[where : where + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return post(path, bytes(body), passes=True)


def no_object(rng: random.Random) -> Shot:
    """JSON, but no object; or nothing."""
    return post(
        rng.choice(ROUTES),
        rng.choice((b"", b"null", b"[]", b"1", b'"a"', b"true", b" ", b"{}", b"[{}]", b"\0", b"//\n{}")),
    )


def schemas(rng: random.Random) -> Shot:
    """JSON schemas made to blow up, or to open addresses and files."""
    anything: dict[str, Any] = {"type": "string"}
    for _ in range(30):
        anything = {"anyOf": [anything, anything]}
    bad: list[Any] = [
        {"$ref": "file:///etc/passwd"}, {"$ref": "http://127.0.0.1:9/a"}, {"$ref": "#/$defs/none"}, {"$ref": "#"},
        {"type": "none"},
        {"allOf": [{"$ref": "#"}]}, {"type": "string", "pattern": "(a+)+$(?!x)"},
        {"type": "string", "pattern": "(" * 5000},
        {"type": "string", "minLength": 10**9}, {"type": "array", "items": {}, "minItems": 10**12}, {"enum": []},
        {"enum": ["a" * 100] * 20_000}, {"type": "string", "pattern": "[a-z]{1,100000}"}, {"not": {}},
        {"type": "integer", "minimum": "x"},
        {"type": "object", "required": [f"f{index}" for index in range(5000)]}, {"const": float("1e300")},
        {"type": "object", "properties": {f"p{index}": {"type": "string"} for index in range(3000)}},
        anything if rng.random() < 0.1 else {},
        {"type": "string", "format": "../../etc/passwd"}, {"type": ["string", "string"] * 500},
        {"multipleOf": 0, "type": "number"},
    ]  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": rng.choice(bad)}}
    return post(CHAT, user("a", response_format=wanted), field=r"response_format.*", passes=True, seconds=25)


def biases(rng: random.Random) -> Shot:
    """Tokens that there are not, and too many of them."""
    bad: Any = rng.choice(
        ({"99999999": 1}, {"-1": 1}, {"a": 1}, {"1": 101}, {"1": "x"}, {str(i): 1 for i in range(5000)}, {"\u0663": 1})
    )
    return post(rng.choice((CHAT, COMPLETIONS)), user("a", logit_bias=bad) | {"prompt": "a"})


MAKERS = (
    no_numbers, huge_numbers, wrong_types, unknown_names, surrogates, odd_texts, deep, wide, long_texts, twice,
    wrong_utf8, damaged,
    no_object, schemas, biases,
)  # fmt: skip
