"""A GGUF file comes back as an export: bit for bit if it is float32; what is not read is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from muomni.checkpoints.export import load_export, save_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.gguf.__main__ import main
from muomni.interop.hf.importing import import_thinker
from muomni.interop.hf.thinker import to_hf
from muomni.models.thinker import Thinker
from tests.unit.frontends.pretrained import byte_level, write
from tests.unit.interop.gguf.conftest import SHAPE, VARIANTS, WORDS, make_thinker

gguf = pytest.importorskip("gguf")
READ = {name: options for name, options in VARIANTS.items() if name != "mixtral"}


def make_export(folder, tokenizer_path, **options):
    fingerprint = Tokenizer.load(tokenizer_path).fingerprint()
    modules, files = {"thinker": make_thinker(**options)}, {"tokenizer.model": tokenizer_path}
    return save_export(folder, modules, files=files, metadata={"stage": "thinker", "tokenizer": fingerprint})


def there_and_back(tmp_path, export, dtype="f32"):
    main(["export", str(export), f"out={tmp_path / 'a.gguf'}", f"dtype={dtype}"])
    main(["import", str(tmp_path / "a.gguf"), f"out={tmp_path / 'back'}"])
    return load_export(tmp_path / "back")


@pytest.mark.parametrize("options", READ.values(), ids=READ)
def test_there_and_back_bit_for_bit(tmp_path, tokenizer, tokenizer_path, options):
    back = there_and_back(tmp_path, make_export(tmp_path / "ours", tokenizer_path, **options))
    wanted = make_thinker(**options)
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(back.modules["thinker"].state_dict()[key], value, rtol=0, atol=0)
    again = Tokenizer(back.tokenizer)
    for text in (WORDS, "  two  spaces\n", "日本語"):
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text)) == text


def test_of_eight_bits_the_numbers_are_near(tmp_path, tokenizer_path):
    back = there_and_back(tmp_path, make_export(tmp_path / "ours", tokenizer_path), dtype="q8_0")
    wanted = make_thinker().head.weight
    torch.testing.assert_close(
        back.modules["thinker"].head.weight, wanted, rtol=0, atol=float(wanted.abs().max()) / 100
    )


def test_byte_level_pieces_come_back(tmp_path):
    folder, words = tmp_path / "theirs", byte_level(["<|endoftext|>"], split=True)
    write(folder, words, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    config, tensors = to_hf(Thinker(**SHAPE | {"vocab_size": words.get_vocab_size() + 2}, qkv_bias=True))
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    import_thinker(folder, tmp_path / "ours")
    back, ours = there_and_back(tmp_path, tmp_path / "ours"), load_export(tmp_path / "ours")
    first, second = Tokenizer(ours.tokenizer), Tokenizer(back.tokenizer)
    for text in (WORDS, "  two  spaces\n", "日本語 2024"):
        assert second.encode(text) == first.encode(text)
    for key, value in ours.modules["thinker"].state_dict().items():
        torch.testing.assert_close(back.modules["thinker"].state_dict()[key], value, rtol=0, atol=0)


def test_what_is_not_read_is_one_line(tmp_path, tokenizer_path):
    def said(path, out="x"):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            main(["import", str(path), f"out={tmp_path / out}"])
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "x").exists()
        return str(caught.value)

    export = make_export(tmp_path / "ours", tokenizer_path)
    main(["export", str(export), f"out={tmp_path / 'a.gguf'}"])
    whole = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other.gguf").write_bytes(b"not one")
    (tmp_path / "gptj.gguf").write_bytes(whole.replace(b"llama", b"gpt-j", 2))
    assert "no such file" in said(tmp_path / "none.gguf")
    assert "cut.gguf: not a GGUF file, or damaged" in said(tmp_path / "cut.gguf")
    assert "other.gguf: not a GGUF file, or damaged" in said(tmp_path / "other.gguf")
    assert "its architecture is 'gpt-j'" in said(tmp_path / "gptj.gguf")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("1")
    assert "holds other things" in said(tmp_path / "a.gguf", "full")
