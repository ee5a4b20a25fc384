"""Steps of few rows with the operators."""

import pytest
import torch
from torch import nn

from muomni.inference.decoding.native import library
from muomni.inference.decoding.weight_only import HalfLinear, StreamedLinear, for_few_rows, set_weight_dtype
from tests.unit.inference.conftest import tiny_thinker

pytestmark = pytest.mark.skipif(not library.available(), reason="no C++ compiler")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tied", [False, True])
def test_linear_layers_stream_from_the_same_memory(dtype, tied):
    thinker, ids = tiny_thinker(tied=tied, mlp="gelu"), torch.arange(20, 24)[None]
    set_weight_dtype(thinker, dtype)
    twin = for_few_rows(thinker)
    assert not any(isinstance(layer, nn.Linear | HalfLinear) for layer in twin.modules())
    assert isinstance(twin.head, StreamedLinear)
    assert twin.head.weight.data_ptr() == thinker.head.weight.data_ptr()
    assert twin.embedding.weight is thinker.embedding.weight
    with torch.no_grad():
        torch.testing.assert_close(twin(ids).logits, thinker(ids).logits, rtol=1e-4, atol=1e-5)


def test_without_operators_the_module_stays(monkeypatch):
    monkeypatch.setattr(library, "_found", [False])
    for dtype in ("float32", "bfloat16"):
        thinker = tiny_thinker()
        set_weight_dtype(thinker, dtype)
        assert for_few_rows(thinker) is thinker
