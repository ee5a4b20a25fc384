"""A voice of a clip: the mean of its embedded codes, whatever its length and its batch; a number is a vector too."""

import pytest
import torch

from tests.unit.models.test_talker import build, inputs


def test_the_vector_is_the_projected_mean_of_the_embedded_codes():
    talker = build(speaker_vector=True)
    codes, lengths = torch.randint(10, (3, 8, 2)), torch.tensor([8, 5, 1])
    vectors = talker.speaker_vectors(codes, lengths)
    for row, length in enumerate(lengths.tolist()):
        frames = [
            talker.code_embedding.weight[codes[row, t, 0]] + talker.code_embedding.weight[10 + codes[row, t, 1]]
            for t in range(length)
        ]
        mean = torch.stack(frames).mean(0)
        normed = mean / (mean.square().mean() + 1e-5).sqrt()
        torch.testing.assert_close(vectors[row], talker.reference.proj(normed), rtol=1e-4, atol=1e-5)
    turned = codes.clone()
    turned[0] = codes[0].flip(0)
    turned[1, 5:] = 9
    torch.testing.assert_close(talker.speaker_vectors(turned, lengths), vectors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alignment", ["free", "durations"])
@torch.no_grad()
def test_a_number_is_the_vector_that_stands_for_it(alignment):
    talker, (text, lengths, codes, speakers) = build(alignment=alignment), inputs()
    vectors = talker.text.speaker_vectors(speakers)
    one = talker(text, lengths, codes, speakers=speakers)
    other = talker(text, lengths, codes, speakers=vectors)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.durations, other.durations)
    changed = talker(text, lengths, codes, speakers=vectors + 1.0)
    assert not torch.equal(one.logits, changed.logits) and not torch.equal(one.durations, changed.durations)


def test_a_talker_of_one_voice_has_none_to_add():
    talker = build(num_speakers=1, speaker_vector=True)
    vectors = talker.text.speaker_vectors(torch.zeros(2, dtype=torch.long))
    assert not vectors.any() and vectors.shape == (2, 32)


def test_without_the_option_weights_are_as_they_were():
    plain, vectors = build(), build(speaker_vector=True)
    own = {name for name, _ in vectors.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert own == {"reference.norm.weight", "reference.proj.weight", "reference.proj.bias"}
    assert plain.options["speaker_vector"] is False
