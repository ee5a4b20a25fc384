"""The reader: shapes, nothing of the future, greedy decoding on the cache equals the whole pass."""

import pytest
import torch

from muomni.frontends.char_vocab import NUM_SYMBOLS as V
from muomni.frontends.char_vocab import decode_symbols
from muomni.inference.ocr import read_images
from muomni.models.ocr import Ocr
from muomni.special_tokens import BOS, EOS, PIECES


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Ocr(
        num_symbols=V, max_characters=7, image_size=16, patch=4, stem_channels=[], stem_patch=2, encoder_layers=1,
        num_layers=2, dim=16, num_heads=2, ff_dim=32,
    ).eval()  # fmt: skip


def test_a_character_sees_the_picture_and_those_before_it(model):
    images, ids = torch.randn(2, 3, 16, 16), torch.randint(9, V, (2, 5))
    ids[:, 0] = BOS
    logits = model(images, ids).logits
    assert logits.shape == (2, 5, V)
    later = ids.clone()
    later[:, 3:] = 20
    torch.testing.assert_close(model(images, later).logits[:, :3], logits[:, :3])
    assert not torch.allclose(model(images.flip(0), ids).logits[:, 0], logits[:, 0])


@torch.inference_mode()
def test_reading_is_greedy_decoding(model):
    images = torch.randn(3, 3, 16, 16)
    texts = read_images(model, images)
    for image, text in zip(images, texts, strict=True):
        ids = [BOS]
        while len(ids) <= model.max_characters:
            logits = model(image[None], torch.tensor([ids])).logits[0, -1]
            logits[[index for index in range(len(PIECES)) if index != EOS]] = -torch.inf  # no special token is written
            best = int(logits.argmax())
            if best == EOS:
                break
            ids.append(best)
        assert text == decode_symbols(ids[1:])
