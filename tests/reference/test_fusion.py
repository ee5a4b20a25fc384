"""The reference numbers, Fusion."""

from dataclasses import replace

import pytest
import torch

from muomni.frontends.chat import encode_prompt
from muomni.inference.media import Media
from muomni.inference.prompt import PromptBuilder, Request
from muomni.models.omni import MediaFeatures, Omni
from muomni.special_tokens import AUDIO, BOS, IMAGE


@pytest.fixture
def omni(parts):
    names = ("thinker", "vision", "image_projector", "audio", "audio_projector")
    return Omni(**{name: parts[name] for name in names}).eval()


def row(images, audios, words):
    """Image slots, audio slots, BOS + text."""
    return torch.tensor([[IMAGE] * images + [AUDIO] * audios + [BOS] + list(range(10, 9 + words))])


def picture():
    return torch.randn(1, 3, 224, 224)


def second():
    """Mel of a second of sound."""
    return torch.randn(1, 100, 128)


@pytest.mark.parametrize(
    ("images", "audios", "words", "total"), [(1, 0, 8, 9), (0, 25, 5, 30), (1, 25, 9, 35)], ids=["9", "30", "35"]
)
def test_lengths(omni, images, audios, words, total):
    """1 + 8 = 9; 25 + 5 = 30; 1 + 25 + 9 = 35 -> logits (1,35,5000)."""
    media = {"images": picture()} if images else {}
    media |= {"mel": second(), "mel_lengths": torch.tensor([100])} if audios else {}
    ids = row(images, audios, words)
    assert ids.shape == (1, total)
    assert omni(ids, features=omni.encode(**media)).logits.shape == (1, total, 5000)


def test_order(omni, tokenizer):
    """Order: image, audio, BOS + text; the projected tokens stand in it."""
    content = [{"type": "image", "image": "a"}, {"type": "audio", "audio": "b"}, {"type": "text", "text": "Hello"}]
    messages = [{"role": "user", "content": content}]
    ids = encode_prompt(tokenizer, messages, image_tokens=omni.image_tokens, audio_tokens=[25]).ids
    assert ids[:27].tolist() == [IMAGE] + [AUDIO] * 25 + [BOS]
    image, mel = picture(), second()
    x = omni.embed(ids[None], features=omni.encode(images=image, mel=mel, mel_lengths=torch.tensor([100])))
    seen, heard = omni.project(omni.encode(images=image, mel=mel, mel_lengths=torch.tensor([100])))
    torch.testing.assert_close(x[0, :1], seen)
    torch.testing.assert_close(x[0, 1:26], heard)
    torch.testing.assert_close(x[0, 26], omni.thinker.embedding.weight[BOS])


def test_causal(omni):
    """What comes later changes nothing before it: neither text, nor sound behind the picture."""
    ids, image, mel = row(1, 25, 9), picture(), second()
    lengths = torch.tensor([100])
    before = omni(ids, features=omni.encode(images=image, mel=mel, mel_lengths=lengths)).logits
    other = ids.clone()
    other[0, 30:] = 77
    after = omni(other, features=omni.encode(images=image, mel=mel, mel_lengths=lengths)).logits
    torch.testing.assert_close(after[:, :30], before[:, :30], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(after[:, 30:], before[:, 30:])
    after = omni(ids, features=omni.encode(images=image, mel=mel + 1, mel_lengths=lengths)).logits
    torch.testing.assert_close(after[:, :1], before[:, :1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(after[:, 1:26], before[:, 1:26])


@pytest.fixture
def prompter(omni, tokenizer):
    return PromptBuilder(model=omni, tokenizer=tokenizer, media=Media(image=None, mel=None), format="plain")


def sized(prompter, tokens):
    """A request of so many tokens, BOS included."""
    pieces = prompter.tokenizer.encode("how are you " * 400)
    request = Request(text=prompter.tokenizer.decode(pieces[: tokens - 1]))
    assert len(prompter.tokenizer.encode(request.question, bos=True)) == tokens
    return request


def test_prompt_budget(prompter):
    """ctx_len - media tokens - max_new_tokens - 1. Too long: `Too many tokens: N > ctx_len`."""
    media, new = MediaFeatures(audio_lengths=torch.tensor([26])), 50
    room = 512 - 26 - new - 1
    assert len(prompter.fitting(sized(prompter, room), media, max_new_tokens=new)) == 26 + room
    with pytest.raises(ValueError, match=r"^Too many tokens: 513 > 512 "):
        prompter.fitting(sized(prompter, room + 1), media, max_new_tokens=new)


def test_truncation_is_explicit(prompter):
    """or explicit truncation by an option; never silent."""
    request, none = Request(text="how are you " * 300), MediaFeatures()
    with pytest.raises(ValueError, match=r"^Too many tokens"):
        prompter.fitting(request, none, max_new_tokens=50)
    shorter = prompter.fitting(replace(request, truncate=True), none, max_new_tokens=50)
    assert len(shorter) + 50 + 1 <= 512
    written = prompter.tokenizer.decode(shorter.ids.tolist()[1:])
    assert len(written) > 400 and request.text.rstrip().endswith(written.strip())
