"""Tokenizers of pretrained models: their texts in our ids, and back."""

import json
import pickle
import random

import pytest
import torch

from muomni.frontends.chat import encode_prompt
from muomni.frontends.hf_tokenizer_files import read_pretrained
from muomni.frontends.tokenizer import Tokenizer, export_name
from muomni.frontends.vocabulary_map import VocabularyMap
from muomni.inference.decoding.detokenizer import Detokenizer
from muomni.special_tokens import ASSISTANT, BOS, EOS, PAD, PIECES, SYSTEM, UNK, USER
from tests.unit.frontends.pretrained import families, lines, write

pytest.importorskip("tokenizers")
FAMILIES = ("gpt2", "qwen", "smollm2", "llama3", "llama2", "mistral", "gemma", "unigram")
SPECIAL = "<|im_end|> </s> <eos> <s> <|eot_id|> [INST]"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrained")
    return {name: write(root / name, *each) for name, each in families().items()}


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, folders):
    from tokenizers import Tokenizer as Library

    folder = folders[request.param]
    theirs = Library.from_file(str(folder / "tokenizer.json"))
    return Tokenizer(read_pretrained(folder)), theirs


def texts(*, seed: int) -> list[str]:
    draw = random.Random(seed)
    spans = [(0x20, 0x7F), (0xA0, 0x250), (0x400, 0x460), (0x4E00, 0x4E40), (0x1F600, 0x1F640)]
    made = ["".join(chr(draw.randrange(*draw.choice(spans))) for _ in range(draw.randrange(1, 24))) for _ in range(60)]
    blanks = [" ", "  two", "a  b", "\ttab", "a\n\nb \n", "ends ", "  ", "\n", "don't 1234 x"]
    return [*made, *lines()[:20], *blanks, SPECIAL]


def test_ids_are_theirs_further_back(pair):
    ours, theirs = pair
    theirs.encode_special_tokens = True
    for text in texts(seed=0):
        if text == SPECIAL and type(theirs.model).__name__ == "Unigram":
            continue  # finds </s> in it
        ids = ours.encode(text)
        assert [ours.vocabulary.sources[index] for index in ids] == theirs.encode(text, add_special_tokens=False).ids
        if UNK not in ids:
            assert ours.decode(ids) == theirs.decode(theirs.encode(text, add_special_tokens=False).ids)


def test_streamed_pieces_join_to_the_text(pair):
    """Of texts, and of tokens that make none: bytes that are no characters, special tokens."""
    ours, _ = pair
    draw = random.Random(1)
    rows = [ours.encode(text) for text in texts(seed=2)]
    rows += [[draw.randrange(ours.vocab_size) for _ in range(30)] for _ in range(80)]
    for ids in rows:
        for stop in ((), ("\x00never",)):
            stream = Detokenizer(ours, stop=stop)
            assert "".join([*map(stream.push, ids), stream.close()]) == ours.decode(ids)


def test_pieces_spell_the_text(pair):
    ours, _ = pair
    for text in texts(seed=3):
        ids = ours.encode(text)
        spelt = b"".join(ours.token_bytes(index, first=number == 0) for number, index in enumerate(ids))
        assert spelt.decode(errors="replace") == ours.decode(ids)


def test_texts_that_follow_each_other_are_apart(pair):
    ours, _ = pair
    assert ours.decode(ours.encode("the cat") + ours.encode_next("is red")) == "the cat is red"


def test_written_special_tokens_are_text(pair):
    ours, _ = pair
    ids = ours.encode(SPECIAL)
    assert not any(ours.is_special(index) for index in ids if index != UNK)


def test_it_travels(pair, tmp_path):
    ours, _ = pair
    ours.save(tmp_path / ours.file_name)
    for other in (Tokenizer.load(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(ours))):
        assert other.encode("the cat 😀") == ours.encode("the cat 😀") and other.fingerprint() == ours.fingerprint()


def test_special_tokens_have_our_ids(folders):
    named = {"qwen": ("<|im_end|>", None, "<|endoftext|>"), "llama3": ("<|eot_id|>", "<|begin_of_text|>", None)}
    named |= {"gemma": ("<end_of_turn>", "<bos>", "<pad>"), "gpt2": ("<|endoftext|>", None, None)}
    for name, (eos, bos, pad) in named.items():
        ours = Tokenizer(read_pretrained(folders[name]))
        assert [ours.piece(index) for index in (EOS, BOS, PAD)] == [eos, bos or "<s>", pad or "<pad>"]
        assert ours.special_ids[eos] == EOS and ours.decode([EOS, BOS, PAD, 4, 7]) == ""
        assert ours.encode("", bos=True, eos=True) == [BOS, EOS]
        begins = name in ("llama3", "gemma")
        assert ours.encode("a", bos=True)[0] == (BOS if begins else ours.encode("a")[0])


def test_conversations_without_a_known_template_are_written_as_ours(tmp_path):
    """With special tokens of ours, BOS theirs where they have one."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "where"}]
    for name in ("gpt2", "llama2", "gemma", "unigram"):
        tokenizer, config = families()[name]
        ours = Tokenizer(read_pretrained(write(tmp_path / name, tokenizer, config | {"chat_template": "{{ 1 }}"})))
        ids = encode_prompt(ours, messages, image_tokens=1, audio_tokens=()).ids.tolist()
        text = [ours.encode("be brief"), ours.encode("where")]
        assert ids == [BOS, SYSTEM, *text[0], USER, *text[1], ASSISTANT]


def test_the_models_configuration_says_what_the_tokenizers_does_not(tmp_path):
    tokenizer, config = families()["qwen"]
    folder = write(tmp_path / "qwen", tokenizer, config)
    end = tokenizer.token_to_id("<|endoftext|>")
    (folder / "config.json").write_text(json.dumps({"bos_token_id": end, "eos_token_id": [end], "unk_token_id": 7}))
    ours = Tokenizer(read_pretrained(folder))
    assert (ours.piece(BOS), ours.piece(EOS), ours.piece(UNK)) == ("<|endoftext|>", "<|im_end|>", "<unk>")
    assert BOS not in encode_prompt(ours, [{"role": "user", "content": "a"}], image_tokens=0, audio_tokens=()).ids


def test_the_file_has_its_name_in_an_export(folders, tmp_path):
    (tmp_path / "packed").write_bytes(read_pretrained(folders["gpt2"]))
    Tokenizer.train(lines(), 320, tmp_path / "ours", exact=False)
    assert [export_name(tmp_path / name) for name in ("packed", "ours")] == ["tokenizer.json", "tokenizer.model"]


def test_rows_there_and_back(folders):
    ours = Tokenizer(read_pretrained(folders["gemma"], rows=512))
    rows = torch.randn(512, 8, dtype=torch.bfloat16)
    inside = ours.vocabulary.into(rows)
    assert inside.shape == (ours.vocab_size, 8) and ours.vocab_size == 512 + len(PIECES) - 4
    assert torch.equal(ours.vocabulary.back(inside), rows)
    assert torch.equal(ours.vocabulary.logits(inside.T), rows.T)
    for index in ours.vocabulary.added:
        torch.testing.assert_close(inside[index].float(), rows.float().mean(0), atol=4e-3, rtol=0)


def test_a_token_of_several_roles_has_one_row():
    both = VocabularyMap(5, {"eos": 3, "bos": 3})
    rows = torch.arange(5.0)[:, None]
    inside = both.into(rows)
    assert both.added == (UNK, BOS, PAD, 4, 5, 6, 7, 8) and inside[BOS] == inside[EOS] == 3
    inside[BOS] += 1
    assert torch.equal(both.back(inside), rows) and both.places == [9, 10, 11, EOS, 12]


def broken(folder, change):
    path = folder / "tokenizer.json"
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[: len(text) // 2], r"tokenizer\.json: no tokenizer\.json that tokenizers can read"),
        (lambda text: "[1, 2]", r"tokenizer\.json: no tokenizer\.json that tokenizers can read"),
        (lambda text: text.replace('"type": "ByteLevel"', '"type": "Fancy"').replace(
            '"type":"ByteLevel"', '"type":"Fancy"'), r"tokenizer\.json: no tokenizer\.json"),
        (lambda text: '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,'
         '"pre_tokenizer":null,"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0},'
         '"unk_token":"a"}}', r"tokenizer\.json: model\.type WordLevel is not known: BPE and Unigram are"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named(folders, tmp_path, change, problem):
    folder = write(tmp_path / "broken", *families()["gpt2"])
    broken(folder, change)
    with pytest.raises(ValueError, match=problem) as caught:
        read_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(folders, caplog):
    with pytest.raises(ValueError, match=r"tokenizer\.json: token 300 \(.*\) is outside of the 300 rows"):
        read_pretrained(folders["gpt2"], rows=300)
    size = Tokenizer(read_pretrained(folders["gemma"])).vocabulary.rows
    fewer = Tokenizer(read_pretrained(folders["gemma"], rows=size - 2))  # its last two tokens are special
    assert fewer.vocabulary.rows == size - 2 and fewer.chat.name == "muomni"
    assert "whose rows are new" in caplog.text
    with pytest.raises(ValueError, match="the tokenizer is for 9 rows, the embedding has 8"):
        VocabularyMap(9, {"eos": 1}).into(torch.zeros(8, 2))
    with pytest.raises(ValueError, match="'eos' has id 9, outside of the 9 rows"):
        VocabularyMap(9, {"eos": 9})


def test_what_stands_next_to_it_is_read_as_data(tmp_path):
    tokenizer, config = families()["qwen"]
    folder = write(tmp_path / "a", tokenizer, config | {"eos_token": "<gone>"})
    with pytest.raises(ValueError, match=r"tokenizer_config\.json, eos_token: '<gone>' is no token of it"):
        read_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json next to it is no JSON"):
        read_pretrained(folder)
    (folder / "tokenizer_config.json").unlink()
    alone = Tokenizer(read_pretrained(folder / "tokenizer.json"))  # by their usual names
    assert alone.special_ids["<|im_end|>"] == EOS and alone.chat.name == "muomni"
    (folder / "chat_template.jinja").write_text("{{ raise_exception('x') }}<|im_start|>{{ 1 / 0 }}")
    assert Tokenizer(read_pretrained(folder)).chat.name == "ChatML"
    with pytest.raises(FileNotFoundError, match=r"nothing/tokenizer\.json: no such file"):
        read_pretrained(tmp_path / "nothing/tokenizer.json")


def test_a_damaged_file_of_an_export_is_named(folders, tmp_path):
    content = read_pretrained(folders["gpt2"])
    path = tmp_path / "tokenizer.json"
    for part, problem in ((content[:-9], "damaged"), (content.replace(b'"version": 1', b'"version": 9'), "version 9")):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=f"{path}: {problem}"):
            Tokenizer.load(path)
    with pytest.raises(ValueError, match="a tokenizer.json of another program"):
        Tokenizer.load(folders["gpt2"] / "tokenizer.json")
