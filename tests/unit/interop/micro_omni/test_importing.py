"""Imported parts compute what micro-omni's definitions say, and nothing that does not fit is imported."""

import pytest
import torch
import yaml

from muomni.checkpoints.export import load_export, weights_fingerprint
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.interop.micro_omni.importing import import_checkpoints
from muomni.interop.micro_omni.vocabulary import ADDED
from muomni.nn.context import AttentionContext
from muomni.special_tokens import PAD, PIECES
from tests.unit.interop.micro_omni import conftest as theirs
from tests.unit.interop.micro_omni import reference

SPECIAL = list(range(PAD, len(PIECES)))


def close(ours, wanted):
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


def without_special(logits):
    """Logits of their vocabulary: ours has six tokens more."""
    return torch.cat((logits[..., :PAD], logits[..., len(PIECES) :]), dim=-1)


def widened_ids(ids):
    return ids + len(ADDED) * (ids >= PAD)


@pytest.fixture
def imported(tmp_path):
    """Write a file's content, import it, give the export."""

    def run(content, name="theirs.pt", **options):
        torch.save(content, tmp_path / name)
        import_checkpoints([tmp_path / name], tmp_path / "out", **options)
        return load_export(tmp_path / "out")

    return run


# --- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mlp", [{}, {"experts": 11, "layers": 2}, {"gelu": True}], ids=["swiglu", "moe", "gelu"])
@pytest.mark.parametrize("grouped", [False, True], ids=["mha", "gqa"])
@torch.inference_mode()
def test_thinker(imported, tokenizer_path, grouped, mlp):
    torch.manual_seed(1)
    state = theirs.thinker(grouped=grouped, **mlp)
    part = imported({"model": state} | theirs.RESUMED, tokenizer=tokenizer_path).modules["thinker"]
    assert part.options["num_kv_heads"] == (2 if grouped else 4)
    ids = torch.randint(0, theirs.VOCAB, (2, 37))
    logits, hidden = reference.thinker(state, ids)
    out = part(widened_ids(ids))
    close(out.hidden, hidden)
    close(without_special(out.logits), logits)
    close(part(embeddings=state["tok_emb.weight"][ids]).hidden, hidden)


@pytest.mark.parametrize("older", [False, True], ids=["current", "in_proj"])
@pytest.mark.parametrize("downsample", [4, 8])
@torch.inference_mode()
def test_audio(imported, downsample, older):
    torch.manual_seed(2)
    state, head = theirs.audio(downsample, older=older), theirs.linear(99, 192)
    part = imported({"enc": state, "head": head}).modules["audio"]
    mel = torch.randn(2, 96, 128)
    hidden, out = reference.audio(state, mel), part(mel)
    assert hidden.shape == (2, 96 // downsample, 192)
    close(out.hidden, hidden)
    close(out.logits, hidden @ head["weight"].T + head["bias"])


@torch.inference_mode()
def test_vision(imported, contents):
    part = imported(contents["vision.pt"]).modules["vision"]
    images = torch.rand(2, 3, 224, 224)
    cls, grid = reference.vision(contents["vision.pt"]["vit"], images)
    out = part(images)
    close(out.cls, cls)
    close(out.grid, grid)


@torch.inference_mode()
def test_codec(imported, contents):
    part = imported(contents["talker.pt"], modules=["codec"]).modules["codec"]
    mel = torch.randn(2, 50, 128)
    codes, rebuilt = reference.quantise(contents["talker.pt"]["rvq"], mel)
    assert torch.equal(part.encode(mel), codes)
    close(part.decode(codes), rebuilt)
    assert sum(p.numel() for p in part.parameters()) == 32960


@torch.inference_mode()
def test_talker_without_its_text(imported, contents):
    """Ours puts text before the start frame; behind it stand the same blocks, embeddings and heads."""
    part = imported(contents["talker.pt"], fill=True).modules["talker"]
    codes = torch.randint(0, 128, (2, 30, 2))
    base, residual = reference.talker(contents["talker.pt"]["talker"], codes)
    frames = part.code_embedding(codes + part.code_offset).sum(2)
    x = torch.cat((part.start.expand(2, 1, -1), frames), dim=1)
    hidden = part.transformer(x, AttentionContext(part.rope(torch.arange(31)))).hidden[:, 1:]
    close(part.heads[0](hidden), base)
    close(part.heads[1](hidden), residual)


@torch.inference_mode()
def test_omni_reads_image_audio_and_text(tmp_path, saved, contents, tokenizer_path):
    """35 tokens of the reference: a picture, a second of sound, 9 of text; the same logits through our prompts."""
    paths = [saved(name) for name in ("omni.pt", "audio_enc.pt", "vision.pt")]
    import_checkpoints(paths, tmp_path / "out", tokenizer=tokenizer_path)
    prompter = load_model(tmp_path / "out", device="cpu").prompter
    assert prompter.format == "plain"
    omni = contents["omni.pt"]
    images, mel = torch.rand(1, 3, 224, 224), torch.randn(1, 100, 128)
    features = prompter.model.encode(images=images, mel=mel, mel_lengths=torch.tensor([100]))
    text = torch.randint(9, theirs.VOCAB, (9,))
    ids = torch.cat((torch.tensor([7] + [8] * 25), widened_ids(text)))[None]
    seen = (
        reference.vision(contents["vision.pt"]["vit"], images)[0] @ omni["proj_v"]["weight"].T + omni["proj_v"]["bias"]
    )
    heard = reference.audio(contents["audio_enc.pt"]["enc"], mel) @ omni["proj_a"]["weight"].T + omni["proj_a"]["bias"]
    state = omni["thinker"]
    logits, _ = reference.thinker(state, torch.cat((seen, heard, state["tok_emb.weight"][text][None]), dim=1))
    out = prompter.model(ids, features=features).logits
    assert out.shape[1] == 35
    close(without_special(out), logits)


def test_it_answers_about_a_picture_and_a_sound_as_it_was_trained(tmp_path, saved, tokenizer_path):
    """[image][audio] BOS text: no roles, no special token among the answers."""
    paths = [saved(name) for name in ("omni.pt", "audio_enc.pt", "vision.pt")]
    import_checkpoints(paths, tmp_path / "out", tokenizer=tokenizer_path)
    engine = load_model(tmp_path / "out", device="cpu")
    picture, sound = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8), torch.randn(16000)
    request = Request(text="abcd", images=[picture], audios=[sound])
    prompt = engine.prompter.prompt(request, engine.prompter.encode_media(request))
    assert prompt.ids[:27].tolist() == [7] + [8] * 25 + [1]
    assert isinstance(engine.generate("abcd", image=picture, audio=sound, max_new_tokens=4), str)


# --- what an export needs besides weights ----------------------------------------------------------------------------


def test_the_vocabulary_gets_our_special_tokens(imported, tokenizer_path, contents):
    export = imported(contents["thinker.pt"], tokenizer=tokenizer_path)
    tokenizer, part = Tokenizer.load(export.tokenizer_path), export.modules["thinker"]
    assert tokenizer.vocab_size == part.vocab_size == theirs.VOCAB + len(ADDED)
    assert [tokenizer.piece(index) for index in range(len(PIECES))] == list(PIECES)
    assert export.metadata["tokenizer"] == tokenizer.fingerprint()
    logits = part(torch.randint(9, theirs.VOCAB, (4, 20))).logits
    assert not torch.isin(logits.argmax(-1), torch.tensor(SPECIAL)).any()


def test_a_compiled_models_keys_are_the_same(imported, tokenizer_path, contents):
    state = contents["thinker.pt"]["model"]
    plain = weights_fingerprint(imported({"model": state}, tokenizer=tokenizer_path).modules["thinker"])
    for content in ({"model": theirs.compiled(state)}, state, theirs.compiled(state)):
        assert weights_fingerprint(imported(content, tokenizer=tokenizer_path).modules["thinker"]) == plain


def test_facts_and_notes(tmp_path, saved):
    path = saved("talker.pt", lambda content: content | theirs.RESUMED)
    notes = "\n".join(import_checkpoints([path], tmp_path / "out", fill=True, options={"talker": {"max_frames": 300}}))
    assert "talker.num_heads=3" in notes and "talker.max_frames" not in notes
    assert "left out, state of the training only: optimizer, scheduler, step, best_val_loss" in notes
    assert "codec: its spectrogram is ours, not that of its training" in notes
    assert "talker: newly initialised, to be trained: text.embedding, text.blocks" in notes
    export = load_export(tmp_path / "out")
    assert export.modules["talker"].options["max_frames"] == 300
    assert export.metadata["stage"] == "talker"
    assert export.metadata["codec"] == weights_fingerprint(export.modules["codec"])
    assert "talker.stop.weight" in export.metadata["micro_omni"]["new"]
    assert export.metadata["codec_mel"]["hop"] == 1280


def test_new_weights_are_the_same_each_time(tmp_path, saved):
    before = torch.get_rng_state()
    for name in ("one", "two"):
        import_checkpoints([saved("talker.pt")], tmp_path / name, fill=True)
    assert torch.equal(torch.get_rng_state(), before)
    one, two = (load_export(tmp_path / name).modules["talker"] for name in ("one", "two"))
    assert weights_fingerprint(one) == weights_fingerprint(two)


def test_heads_of_another_width_are_told(imported, tokenizer_path):
    state = {"tok_emb.weight": torch.randn(theirs.VOCAB, 96)} | theirs.decoder(96, 64, 1)
    state |= theirs.prefixed("lm_head", theirs.linear(theirs.VOCAB, 96, bias=False))
    with pytest.raises(ValueError, match=r"its width 96 is not a multiple of 64: give thinker\.num_heads=N"):
        imported({"model": state}, tokenizer=tokenizer_path)
    given = {"thinker": {"num_heads": 6, "rope_theta": 500.0, "max_length": 64}}
    part = imported({"model": state}, tokenizer=tokenizer_path, options=given).modules["thinker"]
    assert (part.head_dim, part.max_length, part.options["rope_theta"]) == (16, 64, 500.0)


# --- what does not fit -----------------------------------------------------------------------------------------------


def refused(tmp_path, paths, match, **options):
    """An error of one line, and nothing written."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        import_checkpoints(paths, tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "group", "change", "match"),
    [
        ("vision.pt", "vit", lambda s: s.pop("pos"), r"vision\.pt, module 'vision': missing keys \['pos'\]"),
        ("vision.pt", "vit", lambda s: s.pop("blocks.1.norm1.bias"), r"missing keys \['blocks.1.norm1.bias'\]"),
        ("vision.pt", "vit", lambda s: s.update(extra=s["cls"]), r"module 'vision': missing keys \[\], unexpected keys \['ex"),
        ("vision.pt", "vit", lambda s: s.update(pos=s["pos"][:, :150]), r"pos has shape \(1, 150, 128\), expected \(1, 145,"),
        ("vision.pt", "vit", lambda s: s.update(pos=s["pos"][0]), r"pos has shape \(197, 128\), expected 3 dimensions"),
        ("audio_enc.pt", "enc", lambda s: s.pop("down.net.0.weight"), "it lacks down.net.0.weight or down.0.net.0.weight"),
        ("audio_enc.pt", "head", lambda s: s.pop("bias"), r"module 'audio': missing keys \['head.bias'\]"),
        ("audio_enc.pt", "enc", lambda s: s.update({"attention_pool.attention.weight": s["norm.weight"]}), "attention_pool"),
        ("talker.pt", "rvq", lambda s: s.pop("codebooks.0.weight"), r"missing keys \['codebooks.0.weight'\]"),
        ("talker.pt", "talker", lambda s: s.update({"emb.weight": torch.zeros(64, 192)}), "base_head.weight has shape"),
        ("thinker.pt", "model", lambda s: s.update({"blocks.0.moe.router.weight": torch.zeros(8, 256)}), "blocks.0.moe.router"),
        ("talker.pt", "talker", lambda s: s.update({"blocks.0.moe.router.weight": torch.zeros(8, 192)}), "mixture of experts"),
        ("talker.pt", "talker", lambda s: s.update({"blocks.0.mlp.fc1.weight": torch.zeros(8, 192)}), "its MLPs are GELU"),
        ("thinker.pt", "model", lambda s: s.update({"blocks.0.mlp.fc1.weight": torch.zeros(8, 256)}), "keys .*mlp.fc1"),
        ("thinker.pt", "model", lambda s: s.update({"mtp.weight": torch.zeros(8, 256)}), r"unexpected keys \['mtp.weight'\]"),
        ("thinker.pt", "model", lambda s: s.update({"norm.weight": torch.ones(256).double()}), "weight is of torch.float64"),
        ("thinker.pt", "model", lambda s: s.update({"norm.weight": torch.ones(256).half()}), "of float16 and float32"),
        ("thinker.pt", "model", lambda s: s.update({"norm.weight": torch.ones(256) / 0}), "norm.weight holds NaN=0, Inf=256"),
        ("omni.pt", "thinker", lambda s: s.update({"blocks.0.attn.k.weight": torch.zeros(100, 256)}), "has 100 rows"),
        ("vision.pt", "vit", lambda s: s.update({"blocks.1000000000.norm1.bias": s["cls"]}), "missing keys .*not numbered"),
        ("talker.pt", "rvq", lambda s: s.update({"codebooks.1000000000.weight": s["codebooks.0.weight"]}), "not numbered from 0"),
        ("vision.pt", "vit", lambda s: s.update(pos=torch.zeros(1, 1).expand(1, 1 << 28, 1)), "pos|ask for"),
    ],
)  # fmt: skip
def test_keys_and_shapes_are_strict(tmp_path, saved, tokenizer_path, name, group, change, match):
    refused(tmp_path, [saved(name, lambda content: change(content[group]) is None)], match, tokenizer=tokenizer_path)


def test_a_talker_is_not_completed_unasked(tmp_path, saved):
    refused(tmp_path, [saved("talker.pt")], r"talker\.pt, module 'talker': it lacks \d+ keys of ours: text.embedding, .*"
            r"stop.weight.*fill=true initialises them.*modules= without talker")  # fmt: skip


def test_a_grouped_talker_is_refused(tmp_path, saved):
    def change(content):
        content["talker"] = {k: v for k, v in content["talker"].items() if "qkv" not in k} | {
            f"blocks.{i}.attn.{name}.weight": torch.zeros(192, 192) for i in range(4) for name in "qkv"
        }

    refused(tmp_path, [saved("talker.pt", change)], "its attention is grouped", fill=True)


def test_a_thinker_needs_its_own_tokenizer(tmp_path, saved, tokenizer_path):
    path = saved("thinker.pt")
    refused(tmp_path, [path], "a Thinker needs its tokenizer: tokenizer=PATH")
    refused(tmp_path, [path], "no such tokenizer", tokenizer=tmp_path / "none.model")
    (tmp_path / "broken.model").write_bytes(b"no model")
    refused(tmp_path, [path], r"broken\.model: not a SentencePiece model", tokenizer=tmp_path / "broken.model")
    other = saved("thinker.pt", lambda content: {"model": theirs.thinker(vocab=100)})
    refused(tmp_path, [other], r"tokenizer\.model: 120 pieces, but the Thinker has 100", tokenizer=tokenizer_path)


def test_files_of_two_models_are_refused(tmp_path, saved, tokenizer_path):
    refused(tmp_path, [saved("omni.pt"), saved("thinker.pt")], r"thinker\.pt: the module 'thinker' is in .*omni\.pt too",
            tokenizer=tokenizer_path)  # fmt: skip
    other = saved("omni.pt", lambda content: content | {"proj_v": theirs.linear(256, 64)})
    refused(tmp_path, [other, saved("vision.pt")], r"vision\.pt: image_projector\.dim is 64, but vision\.dim is 128: ",
            tokenizer=tokenizer_path)  # fmt: skip


def test_a_talker_with_the_codec_of_another_is_refused(tmp_path, saved):
    path = saved("talker.pt", lambda content: content["rvq"].pop("codebooks.1.weight") is None)
    refused(tmp_path, [path], "the Talker speaks 2 codebooks of 128, this codec has 1 of 128", fill=True)


def test_parts_and_options_that_are_none(tmp_path, saved):
    path = saved("vision.pt")
    refused(tmp_path, [path], "no module talker in it; it holds none", modules=["talker"])
    refused(tmp_path, [path], "unknown module 'thnker'; available: thinker, ", options={"thnker": {"num_heads": 2}})
    refused(tmp_path, [path], r"unknown option vision.dim; available: vision.num_heads", options={"vision": {"dim": 2}})
    refused(tmp_path, [path], r"unknown option codec.dim; available: none", options={"codec": {"dim": 2}})
    refused(tmp_path, [path], r"vision.num_heads=1.5: a whole number", options={"vision": {"num_heads": 1.5}})
    refused(tmp_path, [path], r"vision.num_heads=3 does not divide its width 128", options={"vision": {"num_heads": 3}})


def test_a_folder_of_other_things_is_not_replaced(tmp_path, saved):
    path = saved("vision.pt")
    with pytest.raises(ValueError, match="holds something other than an export"):
        import_checkpoints([path], tmp_path)
    assert path.is_file()


def test_an_earlier_export_stays_when_the_import_fails(tmp_path, saved):
    import_checkpoints([saved("vision.pt")], tmp_path / "out")
    before = yaml.safe_load((tmp_path / "out" / "model.yaml").read_text())
    broken = saved("vision.pt", lambda content: content["vit"].pop("cls") is None)
    with pytest.raises(ValueError, match="missing keys"):
        import_checkpoints([broken], tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out" / "model.yaml").read_text()) == before
