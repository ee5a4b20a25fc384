"""The reference numbers, Generation: what tests/unit/inference does not name already.

Presets, temperature, top-p, top-k, min-p, repetition penalty and seed: tests/unit/inference/test_sampling.py; batch, stream,
stop and echo: test_engine.py, test_generate.py, test_detokenizer.py.
"""

import pytest
import torch

from muomni.inference.decoding.generate import prefill
from muomni.inference.decoding.sampling import filter_probs


def test_kv_cache_bytes(parts):
    """2 x layers x length x kv_heads x head_dim x bytes. (2 x 16 x 512 x 6 x 64 x 2 = 12,582,912:
    tests/unit/nn/test_cache.py)"""
    cache = parts["thinker"].new_cache(1)
    assert cache.nbytes == 2 * 4 * 512 * 4 * 64 * 4


@torch.inference_mode()
def test_chunked_prefill(parts):
    """cached equals uncached logits, chunked prefill included (100 tokens in chunks of 8: 13 chunks, padding never enters
    the cache)."""
    thinker, ids, widths = parts["thinker"], torch.randint(9, 5000, (1, 100)), []
    handle = thinker.transformer.register_forward_hook(lambda *_: widths.append(cache.position))
    cache = thinker.new_cache(1)
    logits = prefill(thinker, ids, cache, chunk=8)
    handle.remove()
    assert len(widths) == 13 and widths == [8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 100]
    assert not cache.left_padded and not cache.keys[:, :, :, 100:].any()
    torch.testing.assert_close(logits, thinker(ids).logits[:, -1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1e-9, 1e-5])
def test_temperature_is_at_least_1e_5(temperature):
    """logits / max(T, 1e-5)."""
    logits = torch.tensor([[0.2, 0.20001, 0.1]])
    share, _ = filter_probs(logits, temperature=temperature, top_k=0, top_p=1.0, min_p=0.0)
    torch.testing.assert_close(share, (logits / 1e-5).softmax(1))
