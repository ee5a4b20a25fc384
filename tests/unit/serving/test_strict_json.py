"""JSON that is not quite JSON is refused in one line, whatever it is."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muomni.serving.errors import ApiError
from muomni.serving.strict_route import MAX_DEPTH, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_read_as_it_is(value):
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\xff\xfe{}", "not valid UTF-8 at byte 0"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "Infinity is no number"),
        (b'{"a": 1, "a": 2}', "a: this field is given twice"),
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested too deeply: at most 64 levels"),
        (b"1" * 10_000, "not valid JSON"),
    ],
)
def test_anything_else_is_refused(body, message):
    with pytest.raises(ApiError, match=message) as raised:
        read_json(body)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'"\\ud800"', None),
        (b'{"a": "x\\udfff"}', "a"),
        (b'{"a": [1, {"b": "\\ud83d"}]}', "a[1].b"),
        (b'{"a": {"\\udc00": 1}}', "a"),
        (b'{"\\ud800": 1}', None),
    ],
)
def test_half_a_character_is_refused(body, param):
    with pytest.raises(ApiError, match="half of a character") as raised:
        read_json(body)
    assert raised.value.param == param
    assert read_json(b'{"a": "\\ud83d\\ude00 \\u00e9"}') == {"a": "\U0001f600 \u00e9"}


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body):
    with suppress(ApiError):
        read_json(body)
