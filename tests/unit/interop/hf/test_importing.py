"""python -m muomni.interop.hf import: an export of a folder's decoder with its vocabulary, or one line and no file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from muomni.checkpoints.export import load_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.hf.__main__ import main
from muomni.interop.hf.folder import CONFIG, WEIGHTS, read_folder
from muomni.interop.hf.importing import imported
from muomni.interop.hf.thinker import from_hf, to_hf
from muomni.interop.hf.thinker_families import complete
from muomni.models.thinker import Thinker
from tests.unit.frontends.pretrained import byte_level, write
from tests.unit.interop.hf.folders import END, SHAPE, write_llama


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("source"))


@pytest.fixture
def folder(source, tmp_path):
    """A copy that a test may damage."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def change(folder, **values):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def retensor(folder, edit):
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


@torch.inference_mode()
def test_an_export_answers_as_the_folder_does(source, tmp_path):
    out = tmp_path / "export"
    assert main(["import", str(source), f"out={out}", "max_length=24"]) == 0
    export = load_export(out)
    ours, theirs = export.modules["thinker"], from_hf(read_folder(source))
    assert ours.max_length == 24 and export.metadata["hf"]["max_position_embeddings"] == 32
    assert export.metadata["hf"]["dtype"] == "bfloat16"
    assert load_file(out / WEIGHTS)["thinker.transformer.norm.weight"].dtype == torch.bfloat16
    tokenizer = Tokenizer.load(export.tokenizer_path)
    assert tokenizer.fingerprint() == export.metadata["tokenizer"] and ours.vocab_size == tokenizer.vocab_size
    from tokenizers import Tokenizer as Library

    text = "the cat is on the red dot, 2024"
    ids, plain = tokenizer.encode(text), Library.from_file(str(source / "tokenizer.json")).encode(text).ids
    logits = tokenizer.vocabulary.logits(ours(torch.tensor([ids])).logits)
    torch.testing.assert_close(logits, theirs(torch.tensor([plain])).logits)
    restored = tokenizer.vocabulary.back(ours.embedding.weight)
    assert torch.equal(restored, load_file(source / WEIGHTS)["model.embed_tokens.weight"].float())


def refusal(folder, tmp_path, *words):
    out = tmp_path / "export"
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        main(["import", str(folder), f"out={out}", *words])
    assert not out.exists() and not list(tmp_path.glob(".export*")), "nothing half-written"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "mamba"}, "model_type='mamba' is not known; known: llama"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "16"}, "hidden_size='16': a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"mlp_bias": True}, "mlp_bias=True is not supported"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope_type='longrope' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"embedding_multiplier": 12.0}, "embedding_multiplier=12.0 is not known here"),
        ({"intermediate_size": 32}, "mlp.gate_proj.weight has shape"),
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight is missing"),
        ({"num_hidden_layers": 1}, "unexpected tensor model.layers.1"),
        ({"num_hidden_layers": 10**9}, "num_layers=1000000000"),
        ({"auto_map": {"AutoModel": "x.py"}}, "auto_map"),
        ({"vocab_size": 64}, "embed_tokens.weight has shape"),
    ],
)
def test_configurations_that_are_refused(folder, tmp_path, values, message):
    change(folder, **values)
    assert message in refusal(folder, tmp_path)


def test_tensors_that_are_refused(folder, tmp_path):
    key = "model.layers.1.mlp.up_proj.weight"
    retensor(folder, lambda tensors: tensors.update({key: torch.full((24, 16), float("nan"))}))
    assert "NaN" in refusal(folder, tmp_path) and key in refusal(folder, tmp_path)
    retensor(folder, lambda tensors: tensors.update({key: torch.ones(24, 16, dtype=torch.int8)}))
    assert f"{key} is of I8" in refusal(folder, tmp_path)
    retensor(folder, lambda tensors: tensors.pop(key))
    assert f"{key} is missing" in refusal(folder, tmp_path)


def test_a_head_of_its_own_in_spite_of_tying(folder, tmp_path):
    retensor(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}))
    assert "tie_word_embeddings" in refusal(folder, tmp_path)


def test_a_tokenizer_of_more_tokens_than_rows(folder, tmp_path):
    write(folder, byte_level([END, "<a>", "<b>", "<c>"], visible=["<d>"]), {"eos_token": END})
    assert "outside of the" in refusal(folder, tmp_path)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json" in refusal(folder, tmp_path)


def test_a_context_can_only_be_shortened(folder, tmp_path):
    assert "max_length=64" in refusal(folder, tmp_path, "max_length=64")


def test_another_things_folder_stays(source, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="note.txt"):
        main(["import", str(source), f"out={tmp_path}"])
    assert (tmp_path / "note.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_conv": 4}, "short_conv=4"),
        ({"mlp": "gelu"}, "mlp=gelu"),
        (
            {"num_experts": 4, "qk_norm": False, "norm_topk_prob": False, "ff_dim": 24, "dim": 16},
            "norm_topk_prob=False",
        ),
    ],
)
def test_what_no_class_of_transformers_has_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        to_hf(Thinker(vocab_size=40, **(SHAPE | options)))


@torch.inference_mode()
def test_an_epsilon_of_queries_and_keys_of_its_own_leaves_in_their_projections():
    torch.manual_seed(0)
    thinker = Thinker(vocab_size=40, qk_norm=True, norm_eps=1e-3, qk_norm_eps=1e-3 / 16, **SHAPE).eval()
    config, tensors = to_hf(thinker)
    assert config["model_type"] == "qwen3" and config["rms_norm_eps"] == 1e-3
    key = "model.layers.0.self_attn.k_proj.weight"
    rows = thinker.transformer.blocks[0].attention.qkv.weight[16:24]
    torch.testing.assert_close(tensors[key], 4 * rows)
    other = Thinker(vocab_size=40, qk_norm=True, norm_eps=1e-3, qk_norm_eps=1e-3, **SHAPE).eval()
    other.load_state_dict(thinker.state_dict())
    for block in other.transformer.blocks:
        block.attention.qkv.weight[:24] *= 4
    ids = torch.randint(0, 40, (1, 20))
    torch.testing.assert_close(other(ids).logits, thinker(ids).logits, atol=1e-5, rtol=1e-5)


def test_options_are_complete():
    assert complete({"dim": 8})["norm"] == "rms" and complete({})["full_attention"] == []


def test_a_folder_is_imported_once(source, tmp_path, monkeypatch):
    export = imported(source, tmp_path / "cache")
    monkeypatch.setattr("muomni.interop.hf.importing.import_thinker", None)  # which would raise
    assert imported(source, tmp_path / "cache") == imported(export, tmp_path / "cache") == export
    assert imported(str(source), tmp_path / "cache").name.startswith(source.name)


def stored(folder, thinker, *, rename, more=(), **config):
    """A folder of a Thinker whose tensors have other names."""
    written, tensors = to_hf(thinker)
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(config or written))
    renamed = {rename(key): value for key, value in tensors.items()}
    save_file(renamed | {key: torch.ones(1) for key in more}, folder / WEIGHTS)
    return from_hf(read_folder(folder))


def same(ours, thinker):
    return all(torch.equal(ours.state_dict()[key], value) for key, value in thinker.state_dict().items())


GEMMA = {
    "norm": "rms_offset", "output_norm": True, "qk_norm": True, "norm_eps": 1e-6, "mlp": "geglu", "embedding_scale": 4.0,
    "attention_scale": 8**-0.5, "window": 8, "full_attention": [1], "local_rope_theta": 10000.0, "rope_theta": 1e6, "tied": True,
}  # fmt: skip


def test_the_text_of_a_gemma_that_sees(tmp_path):
    """Its text_config lacks what has transformers' defaults; encoder and projector stay out."""
    thinker = Thinker(vocab_size=40, **(SHAPE | GEMMA))
    said = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 40, "max_position_embeddings": 32, "sliding_window": 8,
        "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    for number, prefix in enumerate(("language_model.model.", "model.language_model.")):
        ours = stored(
            tmp_path / str(number), thinker, rename=lambda key, prefix=prefix: prefix + key.removeprefix("model."),
            more=("vision_tower.x", "model.multi_modal_projector.y"), model_type="gemma3", text_config=said,
        )  # fmt: skip
        assert same(ours, thinker)


def test_gpt2_as_it_was_published(tmp_path):
    """Without the prefix, and with the masks of its attention."""
    options = {"norm": "layer", "learned_positions": True, "rope_theta": None, "mlp": "gelu_tanh", "tied": True}
    options |= {"num_kv_heads": 4, "qkv_bias": True, "out_bias": True, "ff_dim": 64}
    thinker = Thinker(vocab_size=40, **(SHAPE | options))
    ours = stored(
        tmp_path / "gpt2", thinker, rename=lambda key: key.removeprefix("transformer."), more=("h.0.attn.bias",)
    )  # fmt: skip
    assert same(ours, thinker)
