"""Tokenizers leave for transformers: the same ids, the same text, the same conversations."""

import io
import random

import pytest
import sentencepiece
import torch

from muomni.frontends.chat import encode_messages, encode_prompt
from muomni.frontends.hf_tokenizer_files import read_pretrained
from muomni.frontends.special_pieces import with_special_pieces
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.gguf.vocabulary import of_sentencepiece
from muomni.interop.hf.tokenizer_export import tokenizer_files
from muomni.interop.hf.tokenizer_extension import extended
from muomni.special_tokens import BOS, EOS, PIECES
from tests.unit.frontends.pretrained import families, lines, write

pytest.importorskip("tokenizers")
CONVERSATION = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Where is the red dot? 1 + 2 = 3"},
    {"role": "assistant", "content": "In the café.\n\tNot here."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "It's a cat 😀"},
]


def texts() -> list[str]:
    draw = random.Random(0)
    spans = [(0x20, 0x7F), (0xA0, 0x250), (0x400, 0x460), (0x4E00, 0x4E40), (0x1F600, 0x1F640)]
    made = ["".join(chr(draw.randrange(*draw.choice(spans))) for _ in range(draw.randrange(1, 24))) for _ in range(80)]
    runs = ["".join(draw.choice("ab. tecd") * draw.randrange(1, 6) for _ in range(9)) for _ in range(80)]
    return [*made, *runs, *lines(), "", " ", "  two", "a\tb\nc\r\n", " x ", "3.14159 20 24", "\x00\x01"]


@pytest.fixture(scope="module", params=["bpe", "no bytes", "characters"])
def ours(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("ours") / "tokenizer.model"
    if request.param == "characters":
        return Tokenizer.of_characters("".join(lines()), path)
    return Tokenizer.train(lines(), 400, path, byte_fallback=request.param == "bpe", exact=False)


@pytest.fixture(scope="module")
def folder(ours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    for name, content in tokenizer_files(ours, max_length=512).items():
        (folder / name).write_text(content)
    return folder


def test_ids_and_texts_are_ours(ours, folder):
    from tokenizers import Tokenizer as Library

    theirs = Library.from_file(str(folder / "tokenizer.json"))
    for text in texts():
        ids = ours.encode(text)
        assert theirs.encode(text, add_special_tokens=False).ids == ids, text
        if ours.has_bytes:
            assert theirs.decode(ids) == ours.decode(ids) == text


def test_special_pieces_of_other_names_leave_under_ours():
    """A SentencePiece model that was given to a training may call them as it likes; the chat template has our names."""
    from tokenizers import Tokenizer as Library

    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines()), model_writer=writer, vocab_size=340, model_type="bpe", byte_fallback=True, minloglevel=3,
        normalization_rule_name="identity", remove_extra_whitespaces=False, bos_piece="[BOS]", eos_piece="[EOS]",
    )  # fmt: skip
    model, _ = with_special_pieces(writer.getvalue())
    ours = Tokenizer(model)
    assert ours.piece(BOS) == "[BOS]"
    theirs = Library.from_str(tokenizer_files(ours, max_length=1)["tokenizer.json"])
    assert theirs.get_vocab_size() == ours.vocab_size
    assert theirs.encode("a</s>").ids == [BOS, *ours.encode("a"), EOS]
    assert of_sentencepiece(model).pieces[: len(PIECES)] == list(PIECES)


def test_it_comes_back_as_it_left(ours, folder):
    """Read as a pretrained model's: every row is where it was, and conversations are written the same."""
    back = Tokenizer(read_pretrained(folder, rows=ours.vocab_size))
    assert back.vocabulary.sources == list(range(ours.vocab_size)) and not back.vocabulary.added
    ids = encode_messages(back, CONVERSATION, image_tokens=2, audio_tokens=()).ids.tolist()
    assert ids == encode_messages(ours, CONVERSATION, image_tokens=2, audio_tokens=()).ids.tolist()


def test_transformers_reads_it_and_writes_our_conversations(ours, folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs("the cat").input_ids == [BOS, *ours.encode("the cat")] and theirs.eos_token_id == 2
    for messages in (CONVERSATION, CONVERSATION[1:]):
        ids = theirs.apply_chat_template(messages, return_dict=False)
        assert ids == encode_messages(ours, messages, image_tokens=0, audio_tokens=()).ids.tolist()
        ids = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        assert ids == encode_prompt(ours, messages[:-1], image_tokens=0, audio_tokens=()).ids.tolist()
    assert theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", ["qwen", "smollm2", "llama3", "llama2", "mistral", "gemma"])
def test_conversations_are_those_of_the_chat_template(name, tmp_path):
    """With a system turn and without, whole and as prompts, in one piece and turn by turn."""
    transformers = pytest.importorskip("transformers")
    tokenizer, config = families()[name]
    folder = write(tmp_path / "theirs", tokenizer, config)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    ours = Tokenizer(read_pretrained(folder))
    where, options = ours.vocabulary.sources, {"image_tokens": 0, "audio_tokens": ()}
    for messages in (CONVERSATION, CONVERSATION[1:]):
        wanted = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        ids = encode_prompt(ours, messages[:-1], **options).ids.tolist()
        assert [where[index] for index in ids] == wanted, theirs.decode([where[i] for i in ids])
        wanted = theirs.apply_chat_template(messages, return_dict=False)
        ids = encode_messages(ours, messages, **options).ids.tolist()
        assert [where[index] for index in ids] == wanted[: len(ids)] and theirs.decode(wanted[len(ids) :]).strip() == ""
        turns = encode_messages(ours, messages[:-2], **options).ids.tolist()
        turns += encode_prompt(ours, messages[-2:-1], **options, first=False).ids.tolist()
        assert turns == encode_prompt(ours, messages[:-1], **options).ids.tolist()
    assert tokenizer_files(ours, max_length=1)["tokenizer.json"] == (folder / "tokenizer.json").read_text()


@pytest.mark.parametrize(("name", "spare"), [("gpt2", 0), ("gpt2", 3), ("llama2", 9)])
def test_a_vocabulary_leaves_with_our_turns(name, spare, tmp_path):
    """Rows are new, or in place of unused ones; transformers writes the conversation, and it comes back."""
    transformers = pytest.importorskip("transformers")
    tokenizer, config = families()[name]
    config.pop("chat_template", None)
    ours = Tokenizer(
        read_pretrained(write(tmp_path / "theirs", tokenizer, config), rows=tokenizer.get_vocab_size() + spare)
    )
    rows, larger = extended(ours)
    for file, content in tokenizer_files(larger, max_length=512).items():
        (tmp_path / "theirs" / file).write_text(content)
    inside = torch.randn(ours.vocab_size, 4)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "theirs")
    ids = encode_messages(ours, CONVERSATION, image_tokens=0, audio_tokens=()).ids.tolist()
    wanted = theirs.apply_chat_template(CONVERSATION, return_dict=False)
    assert torch.equal(rows.back(inside)[wanted], inside[ids]) and len(rows.back(inside)) == rows.rows
    assert rows.rows == max(ours.vocabulary.rows, len(theirs)) and theirs.decode(wanted).count("<user>") == 2
    back = Tokenizer(read_pretrained(tmp_path / "theirs", rows=rows.rows))
    assert back.content == larger.content
    again = encode_messages(back, CONVERSATION, image_tokens=0, audio_tokens=()).ids.tolist()
    assert torch.equal(back.vocabulary.into(rows.back(inside))[again], inside[ids])
