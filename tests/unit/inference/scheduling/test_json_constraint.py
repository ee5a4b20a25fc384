"""Answers under a JSON schema parse and satisfy it, or are cut off and say so."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import Answer
from muomni.inference.decoding.options import preset
from muomni.inference.errors import InvalidOption
from muomni.inference.prompt import Request
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.special_tokens import EOS, PIECES

pytest.importorskip("llguidance")
from muomni.inference.scheduling.json_constraint import JsonGrammar, token_bytes

FEW = settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
NAMES = st.sampled_from(["a", "the colour", "größe", 'x"y', "▁", "日本", ""])
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": "string", "maxLength": 6}),
    st.just({"type": "integer", "minimum": -5, "maximum": 120}),
    st.just({"type": "number"}),
    st.lists(st.one_of(NAMES, st.integers(-9, 9), st.none(), st.booleans()), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
)


def objects(inner):
    def build(properties):
        return {
            "type": "object", "properties": properties, "required": sorted(properties)[::2], "additionalProperties": False
        }  # fmt: skip

    return st.dictionaries(NAMES, inner, max_size=3).map(build)


def arrays(inner):
    return st.tuples(inner, st.integers(0, 2)).map(
        lambda pair: {"type": "array", "items": pair[0], "minItems": pair[1], "maxItems": pair[1] + 1}
    )


SCHEMAS = st.recursive(LEAVES, lambda inner: st.one_of(objects(inner), arrays(inner)), max_leaves=5)
TYPES = {"boolean": bool, "null": type(None), "string": str, "integer": int, "number": (int, float), "object": dict,
         "array": list}  # fmt: skip


def satisfies(value, schema) -> bool:
    """For the schemas above."""
    if "enum" in schema:
        return any(value == one and type(value) is type(one) for one in schema["enum"])
    if not isinstance(value, TYPES[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return False
    if schema["type"] == "object":
        known = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(known) and all(
            satisfies(item, known[name]) for name, item in value.items()
        )
    if schema["type"] == "array":
        return schema["minItems"] <= len(value) <= schema["maxItems"] and all(
            satisfies(item, schema["items"]) for item in value
        )
    within = schema.get("minimum", value) <= value <= schema.get("maximum", value) if "minimum" in schema else True
    return within and len(value if isinstance(value, str) else "") <= schema.get("maxLength", 0)


@pytest.fixture(scope="module")
def grammar(tokenizer_path) -> JsonGrammar:
    return JsonGrammar(Tokenizer.load(tokenizer_path))


@FEW
@given(schema=SCHEMAS, seed=st.integers(0, 99))
def test_any_allowed_tokens_write_json_of_the_schema(grammar, schema, seed):
    rng, ids, constraint = random.Random(seed), [], grammar.constraint(schema)
    while len(ids) < 600:
        allowed = constraint.allowed().nonzero()[:, 0].tolist()
        assert (EOS in allowed) == constraint.accepting
        assert not set(allowed) & set(range(EOS)) and not set(allowed) & set(range(EOS + 1, len(PIECES)))
        token = EOS if constraint.accepting and rng.random() < 0.3 else rng.choice(allowed)
        if token == EOS:
            break
        ids.append(token)
        constraint.push(token)
    if constraint.accepting:
        assert satisfies(json.loads(grammar.tokenizer.decode(ids)), schema), grammar.tokenizer.decode(ids)


def test_answers_of_the_scheduler_parse_or_are_cut(engine, grammar, receive):
    scheduler = Scheduler(engine, slots=4)
    schemas = [
        {"enum": ["red", "blue"]},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["a"],
         "additionalProperties": False},
        {"type": "string", "minLength": 40, "maxLength": 60},
    ]  # fmt: skip
    submitted = []
    for index in range(12):
        schema, receiver = schemas[index % 4], receive()
        options = preset("greedy", max_new_tokens=32, temperature=0.8 * (index % 3 > 0), seed=index)
        scheduler.submit(Request(text="red"), options, emit=receiver, constraint=grammar.constraint(schema))
        submitted.append((schema, receiver))
    for schema, receiver in submitted:
        answer = receiver.wait()
        assert isinstance(answer, Answer), answer
        if schema is schemas[3]:
            assert answer.finish_reason == "length"
            assert answer.completion_tokens == 32
        else:
            assert answer.finish_reason == "stop"
            assert satisfies(json.loads(answer.text), schema)
    scheduler.close(grace=1)


@pytest.mark.parametrize(
    "schema",
    [{"type": "colour"}, {"type": "string", "pattern": "("}, {"not": {}}, [], 5, {"enum": []}, {"a": object()},
     {"enum": ["x" * 70_000]}, {"$ref": "https://example.org/schema"}, {"type": "integer", "minimum": 5, "maximum": 3}],
)  # fmt: skip
def test_what_is_no_schema_is_refused_in_one_line(grammar, schema):
    with pytest.raises(InvalidOption) as caught:
        grammar.constraint(schema)
    assert str(caught.value).startswith("response_format: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert caught.value.param == "response_format"


def test_a_deep_schema_is_refused(grammar):
    deep: dict = {}
    for _ in range(900):
        deep = {"type": "array", "items": deep}
    with pytest.raises(InvalidOption):
        grammar.constraint(deep)


def test_a_vocabulary_without_braces_is_refused(tmp_path):
    tokenizer = Tokenizer.train(
        ["red blue, [ ] { } : what"] * 20, 40, tmp_path / "t.model", byte_fallback=False, exact=False
    )
    with pytest.raises(InvalidOption, match="cannot write"):
        JsonGrammar(tokenizer).constraint({"enum": ["red"]})


def test_tokens_spell_what_they_decode_to(grammar):
    ids = grammar.tokenizer.encode("what colour ▁ äß 日本 \n")
    spelt = b"".join(token_bytes(grammar.tokenizer, token) for token in ids)
    assert spelt.decode() == " what colour ▁ äß 日本 \n"
