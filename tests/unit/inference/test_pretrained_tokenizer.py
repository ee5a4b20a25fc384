"""An engine whose Thinker reads and writes by a pretrained model's tokenizer: byte-level, and with U+2581 for a space."""

import json
import random

import pytest
import torch

from muomni.checkpoints.export import save_export
from muomni.checkpoints.single_file import save_single
from muomni.frontends.chat import encode_prompt
from muomni.frontends.hf_tokenizer_files import read_pretrained
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.generate import prefill
from muomni.inference.decoding.logprobs import token_bytes
from muomni.inference.decoding.options import preset
from muomni.inference.errors import MuomniError
from muomni.inference.load import load_model, read_modules
from muomni.inference.prompt import Request
from muomni.special_tokens import BOS, EOS, IMAGE
from tests.unit.frontends.pretrained import families, write
from tests.unit.inference.conftest import IMAGE as IMAGE_SPEC
from tests.unit.inference.conftest import tiny_thinker

pytest.importorskip("tokenizers")
QUESTION = "where is the café 😀"


@pytest.fixture(scope="module", params=["qwen", "llama2"])
def made(request, tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp(request.param)
    content = read_pretrained(write(folder / "theirs", *families()[request.param]), rows=512)
    (folder / "packed.json").write_bytes(content)
    tokenizer = Tokenizer(content)
    thinker = tiny_thinker(vocab_size=tokenizer.vocab_size)
    own = {name: parts[name] for name in ("vision", "image_projector")}
    metadata = {"stage": "omni_sft", "tokenizer": tokenizer.fingerprint(), "image": IMAGE_SPEC.metadata()}
    files = {tokenizer.file_name: folder / "packed.json"}
    save_export(folder / "export", own | {"thinker": thinker}, metadata=metadata, files=files)
    return folder / "export"


@pytest.fixture(scope="module")
def engine(made):
    return load_model(made, device="cpu")


def test_a_prompt_has_its_turns_and_our_slots(engine, picture):
    request = Request(text=QUESTION, images=[picture])
    ids = engine.prompter.prompt(request, engine.prompter.encode_media(request)).ids.tolist()
    slots = engine.prompter.model.image_tokens
    messages = [{"role": "user", "content": QUESTION}]
    text = encode_prompt(engine.tokenizer, messages, image_tokens=0, audio_tokens=()).ids.tolist()
    assert ids == [IMAGE] * slots + text and (BOS in ids) == engine.tokenizer.model.begins_with_bos
    assert QUESTION in engine.tokenizer.decode(ids)


def test_streams_batches_and_tokens_are_those_of_the_answer(engine, picture):
    options = {"image": picture, "max_new_tokens": 40, "generation": "chat", "seed": 3, "logprobs": 2}
    answer = engine.answer(QUESTION, **options)
    assert "".join(engine.generate_stream(QUESTION, **options)) == answer.text
    requests = [Request(text=QUESTION, images=[picture])] * 2
    batch = engine.answer_batch(requests, max_new_tokens=10)
    assert len(batch) == 2 and batch[0].text and batch[0].text == batch[1].text
    spelt = b"".join(token_bytes(engine.tokenizer, t.id, first=i == 0) for i, t in enumerate(answer.logprobs))
    special = [t.id for t in answer.logprobs if engine.tokenizer.is_special(t.id)]
    assert special or spelt.decode(errors="replace") == answer.text


def test_a_conversation_goes_on_in_the_cache(engine):
    """Each later turn follows the answer's EOS and what the form writes between turns."""
    conversation, options = engine.conversation(), preset("greedy", max_new_tokens=5)
    for text in (QUESTION, "why"):
        list(conversation.say(Request(text=text), options))
    answers, how = [turn.ids for turn in conversation.turns], {"image_tokens": 0, "audio_tokens": ()}
    first, later = ([{"role": "user", "content": text}] for text in (QUESTION, "why"))
    ids = encode_prompt(engine.tokenizer, first, **how).ids.tolist() + answers[0] + [EOS]
    ids += encode_prompt(engine.tokenizer, later, **how, first=False).ids.tolist() + answers[1]
    assert conversation.cache.position == len(ids) - 1
    again = prefill(engine.prompter.thinker, torch.tensor([ids[:-1]]), engine.prompter.thinker.new_cache(1))
    assert len(answers[1]) == 5 and int(sampled(again)) == answers[1][-1]


def sampled(logits):
    logits = logits.clone()
    logits[:, [*range(EOS), *range(EOS + 1, 9)]] = -torch.inf
    return logits.argmax()


def test_it_travels_in_one_file(engine, made, tmp_path):
    single = save_single(tmp_path / "one.safetensors", read_modules(made, talker=None))
    other = load_model(single, device="cpu")
    assert other.tokenizer.fingerprint() == engine.tokenizer.fingerprint()
    assert other.generate(QUESTION, max_new_tokens=8) == engine.generate(QUESTION, max_new_tokens=8)


def test_json_is_spelt_by_its_tokens(engine):
    pytest.importorskip("llguidance")
    from muomni.inference.scheduling.json_constraint import JsonGrammar

    grammar = JsonGrammar(engine.tokenizer)
    schema = {"type": "object", "properties": {"größe": {"enum": ["x y", "日本", 12]}}, "required": ["größe"],
              "additionalProperties": False}  # fmt: skip
    for seed in range(12):
        draw, constraint, ids = random.Random(seed), grammar.constraint(schema), []
        while not (constraint.accepting and draw.random() < 0.5) and len(ids) < 80:
            allowed = [index for index in constraint.allowed().nonzero()[:, 0].tolist() if index != EOS]
            if not allowed:
                break
            ids.append(draw.choice(allowed))
            constraint.push(ids[-1])
        assert json.loads(engine.tokenizer.decode(ids))["größe"] in ("x y", "日本", 12)


def test_another_models_rows_are_refused(made, tmp_path):
    tokenizer = Tokenizer.load(made / "tokenizer.json")
    torch.manual_seed(0)
    files = {"tokenizer.json": made / "tokenizer.json"}
    save_export(tmp_path / "other", {"thinker": tiny_thinker(vocab_size=300)}, metadata={}, files=files)
    with pytest.raises(
        MuomniError, match=rf"{tokenizer.vocab_size} pieces, the Thinker 300: put its own tokenizer\.json"
    ):
        load_model(tmp_path / "other", device="cpu")
