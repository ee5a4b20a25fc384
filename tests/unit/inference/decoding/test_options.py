import pytest

from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.errors import InvalidOption


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"min_new_tokens": -1}, "min_new_tokens=-1 is out of its range"),
        ({"min_new_tokens": 101}, "min_new_tokens=101 is over max_new_tokens=100"),
        ({"no_repeat_ngram": 1.5}, "no_repeat_ngram=1.5 is out of its range"),
        ({"frequency_penalty": 2.1}, "frequency_penalty=2.1 is out of its range: from -2 to 2"),
        ({"presence_penalty": float("nan")}, "presence_penalty=nan is out of its range"),
        ({"logprobs": 21}, "logprobs=21 is out of its range: a whole number from 0 to 20"),
        ({"logprobs": True}, "logprobs=True is out of its range"),
        ({"logprobs": 0, "num_beams": 2}, "logprobs=0: beam search returns scores"),
        ({"logit_bias": [3]}, "logit_bias="),
        ({"logit_bias": {"a": 1}}, "'a' is no token id"),
        ({"logit_bias": {-1: 1}}, "-1 is no token id"),
        ({"logit_bias": {3: 101}}, "101 of token 3 is out of its range"),
        ({"logit_bias": {3: float("nan")}}, "nan of token 3 is out of its range"),
    ],
)
def test_values_out_of_range_name_their_option(changes, line):
    with pytest.raises(InvalidOption, match=line) as caught:
        preset("greedy", **changes)
    assert caught.value.param in changes


def test_a_bias_has_numbers_as_ids_as_in_json_or_not():
    assert preset("greedy", logit_bias={"5": 1, 6: -100}).logit_bias == {5: 1.0, 6: -100.0}
    assert preset("greedy", logit_bias=None) == preset("greedy") == GenerationOptions()
    assert len({GenerationOptions(), GenerationOptions(logit_bias={3: 1})}) == 2  # hashable
