"""What a user gave, in a message: short, in one line; and names that no file can have."""

import numpy as np
import pytest
import torch

from muomni.inference.decoding.options import preset
from muomni.inference.decoding.weight_only import set_weight_dtype
from muomni.inference.validation import require_bool
from muomni.short_repr import shown
from muomni.user_path import user_path

ODD = (
    torch.full((400,), float("nan")),
    np.zeros((40, 4, 3)),
    "x" * 5000,
    ["dtype"],
    {"a": 1},
    "a\nb",
    None,
    float("nan"),
)


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "refuse",
    [
        lambda value: set_weight_dtype(torch.nn.Linear(2, 2), value),
        lambda value: require_bool("echo", value),
        lambda value: preset("greedy", temperature=value),
        lambda value: preset("greedy", stop=[value, 3]),
    ],
)
def test_any_value_is_refused_in_a_short_line(refuse, value):
    with pytest.raises(ValueError, match=r"(dtype|echo|temperature|stop)=") as found:
        refuse(value)
    assert len(str(found.value)) < 250 and "\n" not in str(found.value)


def test_short_values_are_shown_whole():
    assert shown("two") == "'two'" and shown("two", str) == "two" and shown(1e9) == "1000000000.0"
    assert len(shown("x" * 100)) == 60 and len(shown("x" * 100, most=80)) == 80


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "é" * 128, "a/" * 2100])
def test_a_name_that_no_file_can_have_is_a_missing_file(name):
    with pytest.raises(FileNotFoundError, match="its name is too long"):
        user_path(name)


def test_a_long_name_is_a_path(tmp_path):
    assert user_path(tmp_path / ("x" * 255)) == tmp_path / ("x" * 255)
