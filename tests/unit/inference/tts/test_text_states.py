"""A Talker that is told the states of a Thinker speaks any text: the same alone, in a batch, as a stream and among others; with
the Thinker that it was trained with, or not at all."""

import queue

import pytest
import torch

from muomni.checkpoints.export import load_export, save_export, weights_fingerprint
from muomni.checkpoints.single_file import save_single
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.row_blocks import with_row_blocks
from muomni.inference.errors import MissingModule
from muomni.inference.load import load_model, read_modules
from muomni.inference.scheduling.speech_request import SpeechDone
from muomni.inference.scheduling.speech_scheduler import SpeechScheduler
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.text_states import TextStates
from muomni.interop.onnx.talker import talker_text_graph
from muomni.models.talker import Talker
from tests.unit.inference.conftest import MEL, tiny_thinker

TEXT = "the red circle is on the left. It was 7 - 2 = 5, who likes it?"


def save(folder, parts, tokenizer_path, *, thinker=None, **metadata):
    """An export of stage=talker. thinker: whose states its Talker is told; None: none."""
    modules = {name: parts[name] for name in ("talker", "codec")} | (
        {} if thinker is None else {"talker_thinker": thinker}
    )
    facts = {"stage": "talker", "codec_mel": MEL.metadata(), "tokenizer": Tokenizer.load(tokenizer_path).fingerprint()}
    told = {} if thinker is None else {"talker_thinker": weights_fingerprint(thinker)}
    return save_export(folder, modules, metadata=facts | told | metadata, files={"tokenizer.model": tokenizer_path})


@pytest.fixture(scope="module")
def told(parts):
    torch.manual_seed(5)
    options = parts["talker"].options | {"alignment": "durations", "conditioning": "both", "state_width": 32}
    talker = Talker(**options).eval()
    with torch.no_grad():
        talker.text.step.bias.fill_(-0.7)
    return {"talker": talker, "codec": parts["codec"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, told, tokenizer_path):
    return save(tmp_path_factory.mktemp("told") / "talker", told, tokenizer_path, thinker=tiny_thinker())


@pytest.fixture(scope="module")
def speaking(folder):
    engine = load_model(folder, device="cpu")
    engine.speaker.decoder.vocoder.iterations = 1
    return engine


def test_states_are_those_of_the_thinker_at_the_token_of_each_character(tokenizer_path):
    thinker, tokenizer = tiny_thinker(), Tokenizer.load(tokenizer_path)
    states = TextStates(thinker, tokenizer, metadata={}, folder="checkpoints/thinker")
    text = "the red circle"
    ids = tokenizer.encode(text, bos=True)
    hidden = thinker(torch.tensor([ids])).hidden[0]
    found = states([text, "who"], reads="letters")
    assert found.shape == (2, len(text), 32) and not found.requires_grad
    assert not found[1, 3:].any(), "nothing after a shorter text"
    pieces = [tokenizer.token_bytes(index, first=number == 0).decode() for number, index in enumerate(ids[1:])]
    at = 0
    for number, piece in enumerate(pieces, 1):
        torch.testing.assert_close(found[0, at : at + len(piece)], hidden[number].expand(len(piece), -1))
        at += len(piece)
    assert at == len(text)
    torch.testing.assert_close(states(["who"], reads="letters")[0], found[1, :3])
    assert not any(parameter.requires_grad for parameter in thinker.parameters())


def test_the_states_decide_what_is_said(speaking, monkeypatch):
    own = speaking.generate_speech(TEXT)
    monkeypatch.setattr(
        speaking.speaker, "states", TextStates(tiny_thinker(short_conv=0), speaking.tokenizer, metadata={}, folder="x")
    )
    assert not torch.equal(speaking.generate_speech(TEXT), own)


@pytest.mark.parametrize("look_ahead", [None, 4])
def test_a_stream_has_the_samples_of_the_whole(speaking, look_ahead):
    whole = speaking.generate_speech(TEXT, look_ahead=look_ahead)
    for size in (1, 7, 40):
        pieces = [TEXT[begin : begin + size] for begin in range(0, len(TEXT), size)]
        assert torch.equal(torch.cat(list(speaking.generate_speech_stream(pieces, look_ahead=look_ahead))), whole)


def test_a_batch_and_a_scheduler_have_the_samples_of_each_alone(speaking):
    texts = ["the red circle", "who", "a blue square"]
    alone = [speaking.generate_speech(text) for text in texts]
    together = [each.waveform for each in speaking.speak(texts)]
    scheduler = SpeechScheduler(speaking, slots=3)
    try:
        results = [queue.Queue() for _ in texts]
        for text, result in zip(texts, results, strict=True):
            scheduler.submit(text, emit=result.put)
        served = []
        for result in results:
            chunks = []
            while not isinstance(item := result.get(timeout=60), SpeechDone):
                assert not isinstance(item, Exception), item
                chunks.append(item)
            served.append(torch.cat(chunks))
    finally:
        scheduler.close(grace=0)
    for own, batched, other in zip(alone, together, served, strict=True):
        assert torch.equal(own, batched) and torch.equal(own, other)


def test_the_operators_say_what_torch_says(speaking, told):
    rows = {}
    for name, talker in (("torch", told["talker"]), ("operator", with_row_blocks(told["talker"]))):
        speaker = Speaker(talker, told["codec"], speaking.speaker.decoder.vocoder, states=speaking.speaker.states)
        rows[name] = speaker.say(["the red circle"], [0])[0][0]
    assert torch.equal(rows["torch"], rows["operator"]) and len(rows["torch"]) > 3


def test_every_form_of_the_export_speaks_alike(speaking, folder, tmp_path, export):
    expected = speaking.speak(["the red circle"])[0].codes
    single = save_single(tmp_path / "single.safetensors", load_export(folder))
    for path in (single, folder):
        assert torch.equal(load_model(path, device="cpu").speak(["the red circle"])[0].codes, expected)
    joined = read_modules(export, talker=folder)  # the omni model's own Thinker is another one
    assert weights_fingerprint(joined.modules["talker_thinker"]) == joined.metadata["talker_thinker"]
    omni = load_model(save_single(tmp_path / "omni.safetensors", joined), device="cpu")
    assert omni.prompter.thinker is not omni.speaker.states.thinker
    assert torch.equal(omni.speak(["the red circle"])[0].codes, expected)
    back = read_modules(tmp_path / "omni.safetensors", talker=export)
    assert "talker_thinker" not in back.modules, "that of the Talker that was replaced"


def test_another_thinker_is_refused_by_name(told, tokenizer_path, tmp_path, speaking):
    theirs = weights_fingerprint(tiny_thinker())
    wrong = save(tmp_path / "wrong", told, tokenizer_path, thinker=tiny_thinker(short_conv=0), talker_thinker=theirs)
    with pytest.raises(
        ValueError, match=f"wrong: talker_thinker differs: it was trained with '{theirs}', this run has"
    ):
        load_model(wrong, device="cpu")
    with pytest.raises(MissingModule, match="no Thinker whose states its Talker could be told: train stage=talker"):
        load_model(save(tmp_path / "without", told, tokenizer_path), device="cpu")
    wide = save(tmp_path / "wide", told, tokenizer_path, thinker=tiny_thinker(dim=64))
    with pytest.raises(ValueError, match=r"talker\.state_width is 32, but talker_thinker\.dim is 64"):
        load_model(wide, device="cpu")
    with pytest.raises(ValueError, match="conditioning=both has no ONNX graph"):
        talker_text_graph(told["talker"])


def test_another_tokenizer_is_refused_by_name(folder, parts, tmp_path):
    path = tmp_path / "tokenizer.model"
    other = Tokenizer.train(["other words", "and a few more of them"] * 20, 290, path, exact=False)
    facts = {"stage": "thinker", "tokenizer": other.fingerprint()}
    thinker = tiny_thinker(vocab_size=other.vocab_size)
    mute = save_export(tmp_path / "mute", {"thinker": thinker}, metadata=facts, files={"tokenizer.model": path})
    with pytest.raises(ValueError, match="its Talker is told the states of a Thinker with another tokenizer"):
        read_modules(mute, talker=folder)
    audio = save_export(tmp_path / "audio", {"audio": parts["audio"]}, metadata={"mel": MEL.metadata()}, files={})
    assert load_model(save_single(tmp_path / "a.safetensors", read_modules(audio, talker=folder)), device="cpu").speaker


def test_a_sentence_that_the_thinker_cannot_read_at_once_is_divided(speaking, monkeypatch):
    monkeypatch.setattr(speaking.speaker.states.thinker, "max_length", 12)
    sentences = speaking.speaker.prepare("what colour is the circle and the square", speaking.tokenizer)
    assert len(sentences) > 1 and all(speaking.speaker.states.fits(each.text) for each in sentences)
    with pytest.raises(ValueError, match=r"'what colour is.*\d+ tokens, the Thinker .* reads 12 at once"):
        speaking.speaker.say(["what colour is the circle and the square"], [0])
