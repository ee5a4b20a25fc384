"""Options of inference do what they say, or it is said that they do nothing."""

import shutil
import sys

import pytest
import torch

import infer
from muomni.checkpoints.export import load_export, save_export
from muomni.frontends.audio_io import write_audio
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.sampling import INVALID_TOKEN, row_seeds, sample_tokens
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.user_path import user_path, with_home
from tests.unit.inference.conftest import MEL

MESSAGES = [{"role": "user", "content": "tell me"}]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"text": "what", "messages": MESSAGES}, "text= together with messages=, which hold the whole conversation"),
        ({"messages": MESSAGES, "system_prompt": "be brief"}, "system_prompt= together with messages="),
        ({"messages": MESSAGES, "image": "a.png", "audio": "a.wav"}, "image=, audio= together with messages="),
        (
            {"text": "what", "top_p": 0.9},
            "top_p=0.9: without effect, since decoding is deterministic at temperature=0 ",
        ),
        ({"text": "what", "seed": 3, "top_k": 5, "min_p": 0.1}, "top_k=5, min_p=0.1, seed=3: without effect"),
        ({"text": "what", "generation": "beam", "seed": 3}, "seed=3: without effect, .* num_beams=4"),
        ({"text": "what", "length_penalty": 2.0}, "length_penalty=2.0: without effect, .* or set num_beams=4"),
    ],
)
def test_what_would_have_no_effect_is_refused(engine, options, line):
    with pytest.raises(ValueError, match=line):
        engine.generate(**options)


def test_what_has_an_effect_is_taken(engine):
    for options in (
        {"top_k": 1}, {"top_p": 1.0, "seed": 0}, {"temperature": 0.5, "top_p": 0.9, "seed": 3},
        {"generation": "chat", "temperature": 0.0}, {"generation": "beam", "length_penalty": 0.0},
    ):  # fmt: skip
        engine.generate("what", max_new_tokens=1, **options)
    with pytest.raises(ValueError, match="text= together with messages="):
        engine.generate_batch(["what"], messages=MESSAGES)


def test_a_conversation_has_one_system_prompt_and_a_plain_model_none(engine, export):
    conversation = engine.conversation(system_prompt="be brief")
    with pytest.raises(ValueError, match="messages= in a conversation with system_prompt="):
        engine.chat(messages=MESSAGES, conversation=conversation)
    with pytest.raises(ValueError, match="system_prompt= in a conversation that has another one"):
        engine.chat("what", system_prompt="be long", conversation=conversation)
    plain = load_model(export, device="cpu", format="plain")
    for call in (lambda: plain.generate("what", system_prompt="x"), lambda: plain.conversation(system_prompt="x")):
        with pytest.raises(ValueError, match=r"a plain prompt has no roles: leave out system_prompt="):
            call()


def test_a_stop_string_ends_each_row_of_a_batch_at_once(engine):
    texts = ["what colour", "tell me 1 2 3", "a small blue square"]
    whole = [engine.generate(text, max_new_tokens=60) for text in texts]
    stop = [answer[4:6] for answer in whole]
    alone = [engine.generate(text, max_new_tokens=60, stop=stop) for text in texts]
    taken = []
    for text in texts:
        taken.append(engine.answer(text, max_new_tokens=60, stop=stop).completion_tokens)
    answers = engine.answer_batch(texts, max_new_tokens=60, stop=stop)
    assert [answer.text for answer in answers] == alone
    assert [answer.completion_tokens for answer in answers] == taken
    assert answers[0].timings.new_tokens == sum(taken) < 60
    assert all(word not in answer for word in stop for answer in alone)


def test_beams_end_at_a_stop_string_and_no_text_comes_twice(engine):
    whole = engine.generate_n_best(["what colour"], num_beams=6, max_new_tokens=10)[0]
    stop = [whole[0][0][3:4]]
    (answers,) = engine.generate_n_best(["what colour"], num_beams=6, max_new_tokens=10, stop=stop)
    texts, scores = zip(*answers, strict=True)
    assert len(set(texts)) == len(texts) and all(stop[0] not in text for text in texts)
    assert list(scores) == sorted(scores, reverse=True)
    options = {"generation": "beam", "num_beams": 6, "max_new_tokens": 10, "stop": stop}
    assert engine.generate("what colour", **options) == texts[0] == engine.generate_batch(["what colour"], **options)[0]


def test_the_repetition_penalty_remembers_earlier_turns(engine):
    conversation = engine.conversation()
    options = {"repetition_penalty": 1e9, "max_new_tokens": 12}
    engine.chat("what colour", conversation=conversation, **options)
    for _ in range(3):
        before, held = set(conversation.present), conversation.cache.position
        engine.chat("tell me", conversation=conversation, **options)
        assert conversation.cache.position > held  # the same conversation
        prompt = set(engine.tokenizer.encode("tell me"))
        assert len(conversation.present - before - prompt) >= conversation.timings.new_tokens - len(prompt)
    conversation.reset()
    assert not conversation.present


def test_samples_of_one_prompt_differ_over_rows_and_seeds(engine):
    """80 samples, 17 of them distinct: row i of seed s drew what row i - 1 of seed s + 1 drew."""
    options = {"temperature": 1.5, "max_new_tokens": 12}
    samples = [text for seed in range(5) for text in engine.generate_batch(["tell me"] * 16, seed=seed, **options)]
    assert len(set(samples)) >= 78
    first = engine.generate_batch(["tell me", "what", "tell me"], seed=7, **options)
    assert first[:2] == [engine.generate("tell me", seed=7, **options), engine.generate("what", seed=8, **options)]


def test_row_seeds_are_a_function_of_seed_place_and_repetition():
    assert row_seeds(5, [b"a", b"b", b"c"]).tolist() == [5, 6, 7]
    repeated = [seed for start in range(20) for seed in row_seeds(start, [b"a"] * 50)[1:].tolist()]
    assert len(set(repeated)) == 20 * 49 and min(repeated) >= 0 and max(repeated) < 2**62
    assert row_seeds(5, [b"a", b"b", b"b"]).tolist()[:2] == [5, 6]
    assert torch.equal(row_seeds(3, [b"a"] * 4), row_seeds(3, [b"a"] * 4))


# --- numbers that are not finite -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [preset("greedy"), preset("chat"), preset("chat", top_k=0, top_p=1.0), preset("balanced")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_token_is_chosen_from_broken_numbers(options, value):
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    logits[0, 20], logits[1] = value, value
    ids = sample_tokens(logits, options=options, uniform=torch.full((3,), 0.5))
    assert ids[:2].eq(INVALID_TOKEN).all() and ids[2] != INVALID_TOKEN


def test_a_model_whose_numbers_overflow_is_an_error_and_never_an_empty_answer(tmp_path, parts, tokenizer_path):
    thinker = load_export(save_export(tmp_path / "own", {"thinker": parts["thinker"]}, metadata={}, files={})).modules[
        "thinker"
    ]
    thinker.head.weight.data.fill_(3e38)
    folder = save_export(
        tmp_path / "broken", {"thinker": thinker}, metadata={}, files={"tokenizer.model": tokenizer_path}
    )
    broken = load_model(folder, device="cpu")
    for call in (
        lambda: broken.generate("what"),
        lambda: broken.generate("what", generation="chat"),
        lambda: broken.generate("what", generation="beam", max_new_tokens=5),
        lambda: broken.generate_batch(["what", "tell me"]),
        lambda: broken.generate_batch(["what", "tell me"], generation="balanced", stop=["x"]),
        lambda: broken.generate_n_best(["what"], max_new_tokens=5),
        lambda: "".join(broken.generate_stream("what")),
        lambda: broken.chat("what", conversation=broken.conversation()),
    ):
        with pytest.raises(ValueError, match=r"^the model's outputs are NaN or Inf: "):
            call()


def broken_copy(tmp_path, parts, tensors):
    """The parts with some of their weights as large as can be."""
    copies = load_export(save_export(tmp_path / "own", parts, metadata={}, files={})).modules
    for name in tensors:
        part, _, key = name.partition(".")
        copies[part].get_parameter(key).data.fill_(3e38)
    return copies


@pytest.mark.parametrize(
    ("tensor", "call"),
    [
        ("audio.head.weight", lambda broken, sound: broken.transcribe(sound)),
        ("audio.head.weight", lambda broken, sound: broken.transcribe(sound, beams=3)),
        ("talker.heads.0.weight", lambda broken, sound: broken.generate_speech("what")),
        ("talker.heads.0.weight", lambda broken, sound: list(broken.generate_speech_stream("what"))),
    ],
)
def test_broken_ears_and_voices_are_an_error_too(tmp_path, parts, sound, tensor, call):
    copies = broken_copy(tmp_path, {name: parts[name] for name in ("audio", "talker", "codec")}, [tensor])
    metadata = {"stage": "omni_sft", "mel": MEL.metadata()}
    broken = load_model(
        save_export(tmp_path / "broken", copies, metadata=metadata, files={}), device="cpu", vocoder="griffin_lim"
    )
    with pytest.raises(ValueError, match="the model's outputs are NaN or Inf"):
        call(broken, sound)


# --- the home folder, and options that come twice ------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_tilde_is_the_home_folder_in_python(home, export, engine, picture, sound):
    shutil.copytree(export, home / "omni")
    shutil.copy(picture, home / "a.png")
    shutil.copy(sound, home / "a.wav")
    model = load_model("~/omni", device="cpu", vocoder="griffin_lim")
    asked = {"image": "~/a.png", "audio": "~/a.wav", "max_new_tokens": 4}
    assert model.generate("what", **asked) == engine.generate("what", image=picture, audio=sound, max_new_tokens=4)
    assert model.transcribe("~/a.wav") == engine.transcribe(sound)
    write_audio("~/said/a.wav", torch.zeros(800), 16000)
    assert (home / "said" / "a.wav").is_file() and not (home / "~").exists()
    with pytest.raises(FileNotFoundError, match="no export here"):
        load_model("~/none", device="cpu")
    assert user_path("~nobody-has-this-name/x").parts[0] == "~nobody-has-this-name"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data.train=~/a.jsonl", "data.train=HOME/a.jsonl"),
        ("data.test={hidden: ~/a.jsonl,x:~}", "data.test={hidden: HOME/a.jsonl,x:HOME}"),
        ("paths.root=~", "paths.root=HOME"),
        ("a=[~/x,~/y]", "a=[HOME/x,HOME/y]"),
        ("~callbacks.ema", "~callbacks.ema"),
        ("a=b~c", "a=b~c"),
        ("a=x/~/y", "a=x/~/y"),
    ],
)
def test_a_tilde_is_the_home_folder_on_the_command_line(home, word, expected):
    assert with_home(word) == expected.replace("HOME", str(home))


def command(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["infer.py", "device=cpu", "quiet=true", *words])
    try:
        infer.main()
    except SystemExit as stop:
        return capsys.readouterr().out, str(stop)
    return capsys.readouterr().out, ""


def test_the_command_line_says_what_would_have_no_effect(home, monkeypatch, capsys, export, engine, picture):
    shutil.copytree(export, home / "omni")
    shutil.copy(picture, home / "a.png")
    words = ["ckpt=~/omni", "text=what", "generation.max_new_tokens=4"]
    assert "top_p=0.9: without effect" in command(monkeypatch, capsys, *words, "generation.top_p=0.9")[1]
    assert command(monkeypatch, capsys, *words, "generation=chat", "generation.temperature=0")[1] == ""
    for twice in ("text=that", "ckpt=~/omni", "quiet=false"):
        assert f"{twice.split('=')[0]}= is given twice" in command(monkeypatch, capsys, *words, twice)[1]
    both = command(monkeypatch, capsys, *words, "image=~/a.png", f"image={picture}")
    assert both == (engine.generate("what", image=[picture, picture], max_new_tokens=4) + "\n", "")
    assert command(monkeypatch, capsys, "ckpt=~/omni", "export=~/one.safetensors")[1] == ""
    again = command(monkeypatch, capsys, "ckpt=~/one.safetensors", "export=~/one.safetensors")[1]
    assert "is what the export is made of" in again


def test_requests_hold_media_or_messages():
    with pytest.raises(ValueError, match=r"image= together with messages="):
        Request(messages=MESSAGES, images=["a.png"])


def test_a_request_has_a_format_of_its_own(engine, export):
    plain = load_model(export, device="cpu", format="plain")
    request = Request(text="what colour", format="plain")
    assert engine.generate_batch([request], max_new_tokens=5) == plain.generate_batch(["what colour"], max_new_tokens=5)
    with pytest.raises(ValueError, match="format=xml is unknown"):
        Request(text="what colour", format="xml")
