"""An export as a folder of transformers: its classes read model, tokenizer and prompts as ours; mistakes are one line."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from muomni.checkpoints.export import load_export, save_export
from muomni.checkpoints.single_file import save_single
from muomni.frontends.chat import encode_prompt
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.gguf.__main__ import main as gguf_main
from muomni.interop.hf.__main__ import main
from muomni.interop.hf.run_metrics import find_run
from muomni.interop.hf.thinker import to_hf
from muomni.interop.mlx.__main__ import main as mlx_main
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer
from muomni.special_tokens import EOS
from tests.unit.frontends.pretrained import byte_level, write
from tests.unit.interop.shapes import SHAPE

VISION = {
    "image_size": 24, "patch": 24, "stem_channels": [8], "stem_patch": 4, "dim": 16, "num_layers": 1, "num_heads": 2,
    "ff_dim": 16,
}  # fmt: skip
WORDS = "the red circle is above a blue square and 12 small rings are left of it; grün, naïve, \U0001f389 and\ttabs"
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": " where is it? "}, {"type": "text", "text": "tell me"}]},
    {"role": "assistant", "content": "above"},
    {"role": "user", "content": "the blue one\n"},
]


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def make_export(root, modules=None, *, metadata=None, with_tokenizer=True, **options):
    torch.manual_seed(0)
    path = root / "tokenizer.model"
    tokenizer = Tokenizer.train([WORDS] * 3, SHAPE["vocab_size"], path)
    facts = {"stage": "thinker", "tokenizer": tokenizer.fingerprint(), **(metadata or {})}
    modules = {"thinker": Thinker(**SHAPE, **options)} | (modules or {})
    files = {"tokenizer.model": path} if with_tokenizer else {}
    return save_export(root / "checkpoints" / "thinker", modules, files=files, metadata=facts)


def test_transformers_reads_model_tokenizer_and_prompts(tmp_path):
    transformers = pytest.importorskip("transformers")
    export, out = make_export(tmp_path, qk_norm=True), tmp_path / "hf"
    assert main(["export", str(export), f"out={out}", "license=mit"]) == 0
    model, tokenizer = (
        getattr(transformers, name).from_pretrained(out) for name in ("AutoModelForCausalLM", "AutoTokenizer")
    )
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert (out / "tokenizer.model").read_bytes() == (export / "tokenizer.model").read_bytes()
    assert (model.generation_config.eos_token_id, model.generation_config.do_sample) == (EOS, False)
    ours = Tokenizer.load(export / "tokenizer.model")
    for text in (WORDS, "  two  spaces", "日本語\n\n", ""):
        assert tokenizer.encode(text, add_special_tokens=False) == ours.encode(text)
        assert tokenizer.decode(ours.encode(text)) == text
    prompt = encode_prompt(ours, TALK, image_tokens=0, audio_tokens=())
    found = tokenizer.apply_chat_template(TALK, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    assert found["input_ids"][0].tolist() == prompt.ids.tolist()
    with pytest.raises(Exception, match="text alone, not image"):
        tokenizer.apply_chat_template([{"role": "user", "content": [{"type": "image", "image": "a.png"}]}])
    answer = model.generate(**found, max_new_tokens=20)[0, len(prompt.ids) :]
    assert all(token == EOS or token > 8 for token in answer.tolist())


def test_what_was_imported_leaves_as_it_came(tmp_path):
    folder, tokenizer = tmp_path / "theirs", byte_level(["<|endoftext|>"])
    write(folder, tokenizer, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    torch.manual_seed(0)
    config, tensors = to_hf(Thinker(**SHAPE | {"vocab_size": tokenizer.get_vocab_size() + 3}, qkv_bias=True))
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / "model.safetensors")
    main(["import", str(folder), f"out={tmp_path / 'ours'}", "max_length=128"])
    main(["export", str(tmp_path / "ours"), f"out={tmp_path / 'back'}"])
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in back.items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, tensors[name].bfloat16())
    assert "| begun with the weights of | theirs |" in (tmp_path / "back" / "README.md").read_text()
    assert (tmp_path / "back" / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~current_umask()
    found = json.loads((tmp_path / "back" / "config.json").read_text())
    assert {key: found[key] for key in config} == config
    assert (found["architectures"], found["torch_dtype"]) == (["Qwen2ForCausalLM"], "bfloat16")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()


def test_a_pretrained_vocabulary_that_learnt_our_turns_leaves_with_them(tmp_path, capsys):
    """It had no chat template: <user> and the others, one row of which was unused, are tokens of it; it comes back the same."""
    transformers = pytest.importorskip("transformers")
    folder, tokenizer = tmp_path / "theirs", byte_level(["<|endoftext|>"])
    write(folder, tokenizer, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    torch.manual_seed(0)
    config, tensors = to_hf(Thinker(**SHAPE | {"vocab_size": tokenizer.get_vocab_size() + 1}, qkv_bias=True))
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    main(["import", str(folder), f"out={tmp_path / 'ours'}"])
    description = tmp_path / "ours" / "model.yaml"
    description.write_text(description.read_text().replace("stage: thinker", "stage: omni_sft"))
    main(["export", str(tmp_path / "ours"), f"out={tmp_path / 'out'}"])
    assert "<user>, <assistant>, <system> are new tokens of its vocabulary" in "".join(capsys.readouterr())
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    main(["import", str(tmp_path / "out"), f"out={tmp_path / 'again'}"])
    found = theirs.apply_chat_template(TALK, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**found).logits[0, -1]
        for name in ("ours", "again"):
            export, ours = load_export(tmp_path / name), Tokenizer.load(tmp_path / name / "tokenizer.json")
            ids = encode_prompt(ours, TALK, image_tokens=0, audio_tokens=()).ids
            mine = export.modules["thinker"](ids[None]).logits[0, -1]
            text = range(tokenizer.get_vocab_size())
            torch.testing.assert_close(ours.vocabulary.logits(mine)[text], logits[text], atol=1e-4, rtol=0)


def test_the_card_has_the_runs_numbers(tmp_path):
    export = make_export(tmp_path, metadata={"run": {"identity": "abc", "size": "small"}}, qk_norm=True)
    for name, identity, value in (("old", "abc", 70.0), ("other", "xyz", 1.0)):
        run = tmp_path / "runs" / "thinker" / name
        run.mkdir(parents=True)
        (run / "identity.txt").write_text(identity + "\n")
        (run / "metrics.json").write_text(json.dumps({"thinker/qa/fact": value}))
        (run / "run.json").write_text(json.dumps({"steps": 3900}))
    assert find_run(export, {"stage": "thinker", "run": {"identity": "none"}}) is None
    words = ["license=apache-2.0", "name=A model", "languages=en,de", "author=someone"]
    main(["export", str(export), f"out={tmp_path / 'hf'}", *words])
    card = (tmp_path / "hf" / "README.md").read_text()
    assert card.startswith('---\nlicense: "apache-2.0"\n')
    for part in (
        'language: ["en", "de"]',
        "# A model",
        "| thinker/qa/fact | 70 |",
        "| steps | 3900 |",
        "by someone",
        "Qwen3",
    ):
        assert part in card, part
    (tmp_path / "m.json").write_text('{"a": "b"}')
    with pytest.raises(ValueError, match="not the metrics.json"):
        main(["export", str(export), f"out={tmp_path / 'hf2'}", f"metrics={tmp_path / 'm.json'}"])
    assert not (tmp_path / "hf2").exists()


def test_of_an_omni_model_the_thinker_leaves(tmp_path, capsys):
    export = make_export(tmp_path, {"vision": VisionTransformer(**VISION)})
    main(["export", str(export), f"out={tmp_path / 'hf'}"])
    said = capsys.readouterr().err
    assert "the Thinker alone leaves; these stay: vision" in said
    assert "license=" in said
    assert "its vision did not" in (tmp_path / "hf" / "README.md").read_text()


def test_a_single_file_leaves_as_its_folder_does(tmp_path):
    export = make_export(tmp_path)
    save_single(tmp_path / "one.safetensors", load_export(export))
    main(["export", str(export), f"out={tmp_path / 'a'}"])
    main(["export", str(tmp_path / "one.safetensors"), f"out={tmp_path / 'b'}"])
    for path in (tmp_path / "a").iterdir():
        if path.name != "README.md":  # which has the folder's name
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_an_mlx_folder_is_named_as_mlx_lm_reads_it(tmp_path):
    from safetensors import safe_open

    export = make_export(tmp_path, qk_norm=True, num_experts=4)
    mlx_main(["export", str(export), f"out={tmp_path / 'mlx'}"])
    with safe_open(tmp_path / "mlx" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "mlx"}
        names = set(file.keys())
        assert file.get_slice("model.layers.1.mlp.switch_mlp.down_proj.weight").get_shape() == [4, 64, 96]
    index = json.loads((tmp_path / "mlx" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == names
    config = json.loads((tmp_path / "mlx" / "config.json").read_text())
    assert (config["model_type"], config["rope_theta"]) == ("qwen3_moe", 10000.0)
    with pytest.raises(ValueError, match="mlx_lm.convert"):
        mlx_main(["export", str(export), f"out={tmp_path / 'q'}", "quantize=4"])


@pytest.mark.parametrize("program", [main, mlx_main, gguf_main])
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, program):
    end = ".gguf" if program is gguf_main else ""

    def said(source, out, *words):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            program(["export", str(source), f"out={out}", *words])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    export = make_export(tmp_path / "a")
    full = tmp_path / f"full{end}"
    full.mkdir()
    (full / "other").write_text("1")
    before = sorted(tmp_path.rglob("*"))
    assert "exists already" in said(export, full)
    assert "a file is in the way" in said(export, export / "model.yaml" / f"x{end}")
    assert "no export here" in said(tmp_path / "none", tmp_path / f"x{end}")
    assert "unknown option 'colour'" in said(export, tmp_path / f"x{end}", "colour=red")
    assert sorted(tmp_path.rglob("*")) == before
    conv = make_export(tmp_path / "b", short_conv=4)
    assert "short_conv=4" in said(conv, tmp_path / f"x{end}")
    assert "size=tiny, small and base leave" in said(conv, tmp_path / f"x{end}")
    assert "no tokenizer" in said(make_export(tmp_path / "c", with_tokenizer=False), tmp_path / f"x{end}")
    vision = save_export(tmp_path / "d", {"vision": VisionTransformer(**VISION)}, files={}, metadata={})
    assert "no Thinker in this export, only vision" in said(vision, tmp_path / f"x{end}")
    if program is gguf_main:
        assert "dtype=q4" in said(export, tmp_path / "x.gguf", "dtype=q4")
        assert ".gguf" in said(export, tmp_path / "x")
    assert not (tmp_path / f"x{end}").exists()
