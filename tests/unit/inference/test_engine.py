import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import muomni
from muomni.checkpoints.export import read_description, save_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.generate import generate, prefill
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.inference.tts.frame_limit import frame_limit
from muomni.models.conv_vision import ConvEncoder
from muomni.models.omni import MediaFeatures
from muomni.special_tokens import EOS


def test_load_model_is_the_front_door(export):
    assert muomni.load_model(export, device="cpu").generate("tell me", max_new_tokens=3)


def test_the_stream_equals_the_answer_and_the_echo_leads_it(engine):
    options = {"max_new_tokens": 20}
    answer = engine.generate("what colour", **options)
    assert "".join(engine.generate_stream("what colour", **options)) == answer
    assert engine.generate("what colour", echo=True, **options) == f"what colour {answer}"


def test_a_batch_with_media_equals_single_runs(engine, picture, sound):
    requests = [
        Request(text="what colour is it", images=[picture]),
        Request(text="tell me"),
        Request(audios=[sound]),
        Request(text="what is the big square", images=[picture], audios=[sound]),
    ]
    together = engine.generate_batch(requests, max_new_tokens=10)
    for request, batched in zip(requests, together, strict=True):
        alone = engine.generate(request.text, image=request.images, audio=request.audios, max_new_tokens=10)
        assert batched == alone
    assert len(set(together)) == 4
    assert engine.generate_batch([]) == []


def test_a_convolutional_encoder_takes_the_place_of_the_transformer(export, tmp_path, parts, tokenizer_path, picture):
    """From an export, alone and among others, also with eight-bit weights."""
    torch.manual_seed(2)
    encoder = ConvEncoder(image_size=32, patch=8, dim=24, stem_width=12, widths=[8, 16], num_blocks=1).eval()
    encoder.norm.weight.data.fill_(20.0)  # features as loud as those of a trained encoder
    metadata = read_description(export)["facts"]
    folder = save_export(
        tmp_path / "conv", parts | {"vision": encoder}, metadata=metadata, files={"tokenizer.model": tokenizer_path}
    )
    black = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for options in ({}, {"dtype": "int8"}):
        engine = load_model(folder, device="cpu", **options)
        answer = engine.generate("what colour", image=picture, max_new_tokens=8)
        assert answer != engine.generate("what colour", image=black, max_new_tokens=8)
        requests = [Request(text="what colour", images=[picture]), Request(text="and the square")]
        assert engine.generate_batch(requests, max_new_tokens=8)[0] == answer


def test_media_change_the_answer(engine, picture):
    black = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert engine.generate("what colour", image=picture) != engine.generate("what colour", image=black)


def test_sampled_answers_repeat_by_seed(engine):
    first, again, other = (engine.chat("tell me", generation="chat", seed=seed) for seed in (3, 3, 4))
    assert first == again != other


@torch.inference_mode()
def test_the_cache_of_a_conversation_equals_reading_it_all(engine, picture):
    prompter, thinker = engine.prompter, engine.prompter.thinker
    turns = [Request(text="what colour", images=[picture], system_prompt="tell me"), Request(text="and the square")]
    ids, features, answers = [], [], []
    for place, turn in enumerate(turns):  # everything is read anew for each answer
        prompt = prompter.prompt(turn, prompter.encode_media(turn), first=place == 0)
        ids += prompt.ids.tolist()
        features.append(prompt.features)
        cache = thinker.new_cache(1)
        everything = torch.tensor([ids])
        logits = prefill(thinker, everything, cache, embeddings=prompter.embed(everything, features))
        sampler = Sampler(preset("greedy"), device="cpu")
        decoder = engine.runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings())
        row = generate(decoder, sampler(logits), limits=torch.tensor([8])).answers()[0]
        answers.append(engine.tokenizer.decode(row))
        ids += [*row, EOS]
    conversation = engine.conversation(system_prompt="tell me")
    first = engine.chat("what colour", image=picture, conversation=conversation, max_new_tokens=8)
    read = conversation.cache.position
    second = engine.chat("and the square", conversation=conversation, max_new_tokens=8)
    assert [first, second] == answers
    assert second != engine.chat("and the square", max_new_tokens=8)
    assert conversation.timings.prompt_tokens < read  # history is not read again


def test_without_history_every_turn_is_the_first(engine):
    conversation = engine.conversation(history=False)
    answers = [engine.chat("what colour", conversation=conversation) for _ in range(2)]
    assert answers[0] == answers[1] == engine.chat("what colour")


def test_a_full_conversation_starts_anew_with_a_notice(engine):
    conversation = engine.conversation()
    notices = []
    for _ in range(6):
        engine.chat("what colour is the big red circle", conversation=conversation, max_new_tokens=30)
        notices.append(conversation.notice)
    assert notices[0] == ""
    assert any("starts again" in notice for notice in notices)


def test_the_budget_is_an_error_and_truncation_an_option(engine):
    long = "what colour is the big red circle " * 40
    with pytest.raises(ValueError, match=r"Too many tokens: \d+ > 128"):
        engine.generate(long)
    with pytest.raises(ValueError, match=r"Too many tokens: \d+ > 128"):
        engine.generate_batch([long])
    assert engine.generate(long, truncate=True, max_new_tokens=20)
    with pytest.raises(ValueError, match="Too many tokens"):
        engine.generate("tell me", max_new_tokens=128, truncate=True)


def test_long_audio_is_an_error(engine):
    with pytest.raises(ValueError, match="audio tokens, at most 32"):
        engine.generate(audio=torch.zeros(16000 * 3), max_new_tokens=5)


def test_stop_strings_end_single_and_batched_answers(engine):
    whole = engine.generate("tell me", max_new_tokens=20)
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    cut = engine.generate("tell me", max_new_tokens=20, stop=stop)
    assert cut == whole[: whole.find(stop)]
    assert engine.generate_batch(["tell me"], max_new_tokens=20, stop=stop) == [cut]


def test_empty_requests_are_refused(engine):
    with pytest.raises(ValueError, match="empty request"):
        engine.generate("  ")


def test_the_talker_speaks_the_text(engine):
    waveform = engine.generate_speech("tell me")
    assert waveform.dim() == 1
    assert len(waveform) % (8 * 160) == 0
    assert torch.equal(waveform, engine.generate_speech("tell me"))
    assert not torch.equal(waveform[:2000], engine.generate_speech("what colour")[:2000])
    assert engine.speak(["tell me"])[0].timings.frames > 0
    with pytest.raises(ValueError, match="empty text"):
        engine.generate_speech(" ")
    with pytest.raises(ValueError, match=r"unknown voice 2; .* 0\.\.1"):
        engine.generate_speech("tell me", voice=2)


def test_speech_in_a_batch_equals_speech_alone(engine):
    texts = ["tell me", "what colour is the circle", "1"]
    for text, utterance in zip(texts, engine.speak(texts), strict=True):
        alone = engine.speak([text])[0]
        assert torch.equal(utterance.codes, alone.codes)
        assert utterance.truncated == alone.truncated
        if utterance.truncated:
            limit = frame_limit(len(engine.tokenizer.encode(text)))
            assert len(utterance.codes) == min(limit, engine.modules["talker"].max_frames)


@pytest.mark.parametrize(("tokens", "frames"), [(0, 200), (1, 50), (10, 300), (100, 1000)])
def test_the_bound_on_frames_is_the_published_one(tokens, frames):
    assert frame_limit(tokens) == frames


def test_transcription_reads_files_and_waveforms(engine, sound):
    text = engine.transcribe(sound)
    assert isinstance(text, str)
    from muomni.frontends.audio_io import read_audio

    assert engine.transcribe(read_audio(sound, 16000)) == text


def test_missing_parts_are_named_with_the_way_out(tmp_path, parts, tokenizer_path):
    metadata = {"stage": "thinker", "tokenizer": Tokenizer.load(tokenizer_path).fingerprint()}
    folder = save_export(
        tmp_path / "thinker",
        {"thinker": parts["thinker"]},
        metadata=metadata,
        files={"tokenizer.model": tokenizer_path},
    )
    engine = load_model(folder, device="cpu")
    assert engine.prompter.format == "plain"
    assert engine.generate("what colour", max_new_tokens=4)
    with pytest.raises(ValueError, match="no Talker: train stage=talker"):
        engine.generate_speech("tell me")
    with pytest.raises(ValueError, match="no audio encoder"):
        engine.transcribe("a.wav")
    with pytest.raises(ValueError, match="format=chat"):
        engine.generate(messages=[{"role": "user", "content": "x"}])
    with pytest.raises(ValueError, match="no vision encoder"):
        engine.generate("x", image=torch.zeros(3, 8, 8, dtype=torch.uint8))
    chat = load_model(folder, device="cpu", format="chat")
    with pytest.raises(ValueError, match="no vision encoder"):
        chat.generate("x", image=torch.zeros(3, 8, 8, dtype=torch.uint8))


def test_another_exports_talker_can_speak(export, tmp_path, parts, tokenizer_path):
    folder = save_export(
        tmp_path / "thinker",
        {"thinker": parts["thinker"]},
        metadata={"stage": "thinker"},
        files={"tokenizer.model": tokenizer_path},
    )
    engine = load_model(folder, device="cpu", talker=export)
    assert len(engine.generate_speech("tell me"))
    with pytest.raises(ValueError, match="no Talker"):
        load_model(export, device="cpu", talker=folder)


def test_damaged_exports_are_refused(export, tmp_path):
    with pytest.raises(FileNotFoundError, match="no export here"):
        load_model(tmp_path)
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.ckpt: cannot be read as an export"):
        load_model(tmp_path / "a.ckpt")
    copy = Path(shutil.copytree(export, tmp_path / "copy"))
    Tokenizer.train(["another text"] * 9, 275, copy / "tokenizer.model")
    with pytest.raises(ValueError, match=r"copy, tokenizer\.model: fingerprint"):
        load_model(copy, device="cpu")
    description = yaml.safe_load((export / "model.yaml").read_text())
    description["facts"]["mel"].pop("hop")
    (copy / "model.yaml").write_text(yaml.safe_dump(description))
    shutil.copy(export / "tokenizer.model", copy / "tokenizer.model")
    with pytest.raises(ValueError, match="'mel' differ"):
        load_model(copy, device="cpu")


def test_unknown_options_are_refused(engine):
    with pytest.raises(ValueError, match="unknown generation option 'heat'"):
        engine.generate("x", heat=2)
    with pytest.raises(ValueError, match="twice"):
        engine.generate("x", generation=preset("greedy"), top_k=2)


def test_inference_imports_neither_lightning_nor_hydra():
    code = "import sys, muomni.inference.cli.chat; print([m for m in ('lightning', 'hydra', 'omegaconf') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_space_behind_a_plain_prompt_changes_nothing(export):
    """A piece begins with its space; a line's end may mean something and stays."""
    prompter = load_model(export, device="cpu", format="plain").require_prompter()
    ids = [prompter.prompt(Request(text=text), MediaFeatures()).ids.tolist() for text in ("a red ", "a red", "a red\n")]
    assert ids[0] == ids[1] != ids[2]
