"""Projectors and the omni model."""

import pytest
import torch

from muomni.inference.batch import greedy_answers
from muomni.models.omni import MediaFeatures, Omni
from muomni.models.outputs import AudioOutput, VisionOutput
from muomni.models.projector import AudioProjector, ImageProjector
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer
from muomni.special_tokens import ASSISTANT, AUDIO, BOS, EOS, IMAGE, PIECES, USER


def thinker():
    torch.manual_seed(0)
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "ff_dim": 32, "max_length": 40}
    model = Thinker(vocab_size=40, short_conv=3, **shape).eval()
    for block in model.transformer.blocks:
        torch.nn.init.normal_(block.attention.short_conv.weight)
    return model


def seeing():
    vision = VisionTransformer(image_size=16, patch=4, dim=8, num_layers=1, num_heads=2, ff_dim=16)
    projector = ImageProjector(dim=8, out_dim=16, image_tokens="grid", grid=2, cell=4, hidden=12, positions=0.1)
    return Omni(thinker=thinker(), vision=vision, image_projector=projector).eval()


def test_reference_projector_is_one_linear_map_of_cls():
    projector = ImageProjector(dim=128, out_dim=256, image_tokens="cls")
    assert sum(p.numel() for p in projector.parameters()) == 128 * 256 + 256 and projector.num_tokens == 1
    features = VisionOutput(cls=torch.randn(2, 1, 128), grid=torch.randn(2, 196, 128))
    assert projector(projector.pool(features)).shape == (2, 1, 256)
    with pytest.raises(ValueError, match="image_tokens='all'"):
        ImageProjector(dim=8, out_dim=8, image_tokens="all")


def test_image_tokens_none_are_none():
    projector = ImageProjector(dim=8, out_dim=16, image_tokens="none", grid=2, cell=4)
    pooled = projector.pool(VisionOutput(cls=torch.randn(2, 1, 8), grid=torch.randn(2, 16, 8)))
    assert projector.num_tokens == 0 and projector(pooled).shape == (2, 0, 16)


def test_grid_tokens_keep_the_patches_of_their_cell():
    projector = ImageProjector(dim=1, out_dim=4, image_tokens="grid", grid=2, cell=4)
    pooled = projector.pool(VisionOutput(cls=torch.zeros(1, 1, 1), grid=torch.arange(16.0).view(1, 16, 1)))
    assert pooled[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_places_tell_equal_cells_apart():
    projector = ImageProjector(dim=3, out_dim=4, image_tokens="grid", grid=2, cell=1, positions=0.1)
    out = projector(torch.ones(1, 4, 3))
    assert not torch.allclose(out[0, 0], out[0, 1])


def test_audio_frames_are_stacked_and_padding_is_zero():
    projector = AudioProjector(dim=3, out_dim=4, stack=2, characters=5)
    hidden, logits = torch.randn(2, 5, 3), torch.randn(2, 5, 5)
    pooled, lengths = projector.pool(AudioOutput(hidden=hidden, lengths=torch.tensor([5, 3]), logits=logits))
    assert pooled.shape == (2, 3, 16) and lengths.tolist() == [3, 2]
    assert torch.equal(pooled[0, 1, :3], hidden[0, 2])
    assert torch.allclose(pooled[0, 1, 3:8], logits[0, 2].softmax(-1))
    assert pooled[1, 1, 8:].abs().sum() == 0 and pooled[1, 2].abs().sum() == 0


def test_embed_puts_media_into_their_slots_in_order():
    model = seeing()
    images = torch.randn(2, 3, 16, 16)
    ids = torch.tensor([[IMAGE] * 4 + [BOS, 9], [BOS, IMAGE, IMAGE, IMAGE, IMAGE, 9]])
    x = model.embed(ids, features=model.encode(images=images))
    tokens, _ = model.project(model.encode(images=images))
    assert torch.allclose(x[0, :4], tokens[:4]) and torch.allclose(x[1, 1:5], tokens[4:])
    assert torch.equal(x[0, 4], model.thinker.embedding.weight[BOS])


def test_slots_and_media_must_agree():
    model = seeing()
    with pytest.raises(ValueError, match="3 image slots.*4 image tokens"):
        model.embed(torch.tensor([[IMAGE] * 3]), features=model.encode(images=torch.randn(1, 3, 16, 16)))
    with pytest.raises(ValueError, match="1 audio slots.*0 audio tokens"):
        model.embed(torch.tensor([[AUDIO]]), features=MediaFeatures())


def test_a_missing_encoder_is_named():
    with pytest.raises(ValueError, match="no vision encoder"):
        Omni(thinker=thinker()).encode(images=torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="no audio encoder"):
        seeing().encode(mel=torch.zeros(1, 10, 4))


def test_answers_of_a_batch_equal_single_runs():
    model = seeing()
    features = [model.encode(images=torch.randn(1, 3, 16, 16)), MediaFeatures()]
    prompts = [torch.tensor([IMAGE] * 4 + [BOS, USER, 9, 10, ASSISTANT]), torch.tensor([BOS, USER, 11, ASSISTANT])]
    together = greedy_answers(model, prompts, features, max_new_tokens=6)
    for prompt, feature, answer in zip(prompts, features, together, strict=True):
        assert greedy_answers(model, [prompt], [feature], max_new_tokens=6) == [answer]
        x, apart, said = model.embed(prompt[None], features=feature), prompt[None], []
        for _ in range(6):  # without a cache
            logits = model.thinker(apart, embeddings=x).logits[0, -1]
            logits[[place for place in range(len(PIECES)) if place != EOS]] = -torch.inf  # no answer holds them
            following = int(logits.argmax())
            if following == EOS:
                break
            said.append(following)
            x = torch.cat((x, model.thinker.embedding(torch.tensor([[following]]))), dim=1)
            apart = torch.cat((apart, torch.tensor([[following]])), dim=1)
        assert said == answer
