"""There and back, bit for bit, from either side; what micro-omni has not is refused by name."""

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from muomni.checkpoints.export import load_export, save_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.micro_omni.exporting import export_checkpoint
from muomni.interop.micro_omni.importing import import_checkpoints
from muomni.models.audio import Audio
from muomni.models.codec import Codec
from muomni.models.projector import ImageHead
from muomni.models.talker import Talker
from muomni.models.text_tower import TextTower
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer
from tests.unit.interop.micro_omni import conftest as theirs

TRAINING = ("optimizer", "scheduler", "step", "best_val_loss")


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value), key


def there_and_back(tmp_path, path, name="back.pt", **options):
    import_checkpoints([path], tmp_path / "ours", **options)
    export_checkpoint(tmp_path / "ours", tmp_path / "written" / name)
    return tmp_path / "written" / name


# --- theirs -> ours -> theirs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["thinker.pt", "audio_enc.pt", "vision.pt", "talker.pt", "omni.pt"])
def test_each_stages_file_comes_back(tmp_path, saved, contents, tokenizer_path, name):
    tokenizer = tokenizer_path if name in ("thinker.pt", "omni.pt") else None
    back = there_and_back(tmp_path, saved(name), tokenizer=tokenizer, fill=True)
    found = torch.load(back, weights_only=True)
    found.pop("muomni")
    wanted = {key: value for key, value in contents[name].items() if key not in TRAINING}
    assert found.keys() == wanted.keys()
    for group, state in wanted.items():
        same(found[group], state)
    if tokenizer is not None:
        assert (back.parent / "tokenizer.model").read_bytes() == tokenizer.read_bytes()


@pytest.mark.parametrize(
    "mlp", [{"experts": 3}, {"experts": 12}, {"gelu": True}], ids=["3 experts", "12 experts", "gelu"]
)
def test_other_mlps_come_back(tmp_path, saved, tokenizer_path, mlp):
    wanted = theirs.thinker(layers=2, **mlp)
    back = there_and_back(tmp_path, saved("thinker.pt", lambda content: {"model": wanted}), tokenizer=tokenizer_path)
    same(torch.load(back, weights_only=True)["model"], wanted)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("downsample", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_layout_and_dtype_of_the_audio_encoder_comes_back(tmp_path, saved, downsample, older, dtype):
    wanted = {key: value.to(dtype) for key, value in theirs.audio(downsample, older=older, layers=2).items()}
    head = {key: value.to(dtype) for key, value in theirs.linear(99, 192).items()}
    path = saved("audio_enc.pt", lambda content: {"enc": wanted, "head": head})
    found = torch.load(there_and_back(tmp_path, path), weights_only=True)
    same(found["enc"], wanted)
    same(found["head"], head)


def single(contents):
    """The single safetensors, as micro-omni merges its stages."""
    omni, flat = contents["omni.pt"], {}
    for prefix, state in (
        ("thinker", omni["thinker"]), ("audio_encoder", contents["audio_enc.pt"]["enc"]), ("proj_a", omni["proj_a"]),
        ("vision_encoder", contents["vision.pt"]["vit"]), ("talker", contents["talker.pt"]["talker"]),
        ("rvq", contents["talker.pt"]["rvq"]), ("proj_v", omni["proj_v"]), ("ocr", {"decoder.weight": torch.randn(2, 2)}),
    ):  # fmt: skip
        flat |= theirs.prefixed(prefix, state)
    return flat


def test_the_single_safetensors_comes_back(tmp_path, contents, tokenizer_path):
    wanted = single(contents)
    save_file(wanted, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="module 'audio': it lacks 2 keys of ours: head.weight, head.bias"):
        there_and_back(tmp_path, tmp_path / "model.safetensors", tokenizer=tokenizer_path)
    back = there_and_back(
        tmp_path, tmp_path / "model.safetensors", "back.safetensors", tokenizer=tokenizer_path, fill=True
    )
    found = load_file(back)
    same({key: value for key, value in found.items() if not key.startswith("muomni.")}, wanted)
    parts = set(load_export(tmp_path / "ours").modules)
    assert parts == {"thinker", "audio", "vision", "talker", "codec", "audio_projector", "image_projector"}


def test_what_was_trained_further_is_not_rounded(tmp_path, saved, contents):
    path = saved("vision.pt", lambda content: {"vit": {k: v.half() for k, v in content["vit"].items()}})
    import_checkpoints([path], tmp_path / "ours")
    export = load_export(tmp_path / "ours")
    export.modules["vision"].cls.data += 1e-4
    save_export(tmp_path / "ours", export.modules, metadata=export.metadata, files={})
    export_checkpoint(tmp_path / "ours", tmp_path / "back.pt")
    found = torch.load(tmp_path / "back.pt", weights_only=True)["vit"]["cls"]
    assert torch.equal(found, export.modules["vision"].cls)


# --- ours -> theirs -> ours ------------------------------------------------------------------------------------------

SHAPE = {"dim": 48, "num_layers": 2, "num_heads": 3, "ff_dim": 40}


def our_modules(vocab):
    torch.manual_seed(3)
    return {
        "thinker": Thinker(vocab_size=vocab, num_kv_heads=1, max_length=64, rope_theta=700.0, tied=True, **SHAPE),
        "vision": VisionTransformer(image_size=32, patch=8, **SHAPE),
        "text_tower": TextTower(vocab_size=vocab, embed_dim=8, max_length=9, **SHAPE),
        "image_head": ImageHead(dim=48, embed_dim=8, pool="cls", grid=2),
        "audio": Audio(n_mels=32, num_symbols=99, channels=4, downsample=8, conv_kernel=0, rope_theta=None, **SHAPE),
        "codec": Codec(
            n_mels=32, stride=1, dim=8, num_codebooks=3, codebook_size=16, num_layers=0, width=8, kernel=3, ff_dim=8,
            decay=0.9, dropout=0.0, idle=0.0,
        ),
        "talker": Talker(
            num_symbols=99, num_speakers=2, text_layers=1, text_kernel=3, num_codebooks=2, codebook_size=16, max_frames=40,
            shared_embedding=True, **SHAPE,
        ),
    }  # fmt: skip


@pytest.fixture
def ours(tmp_path):
    tokenizer = Tokenizer.train(["a small blue square 1 2 3"] * 9, 290, tmp_path / "tokenizer.model", exact=False)
    metadata = {"stage": "omni_sft", "tokenizer": tokenizer.fingerprint(), "mel": {"hop": 160}, "run": {"size": "tiny"}}
    files = {"tokenizer.model": tmp_path / "tokenizer.model"}
    return save_export(tmp_path / "ours", our_modules(tokenizer.vocab_size), metadata=metadata, files=files)


@pytest.mark.parametrize("name", ["theirs.pt", "theirs.safetensors"])
def test_our_exports_come_back_whole(tmp_path, ours, name):
    notes = export_checkpoint(ours, tmp_path / "to" / name)
    assert "talker: micro-omni has no text, stop; stored as 'muomni'" in notes
    tokenizer = tmp_path / "to" / "tokenizer.model"
    assert tokenizer.read_bytes() == (ours / "tokenizer.model").read_bytes()
    import_checkpoints([tmp_path / "to" / name], tmp_path / "again", tokenizer=tokenizer)
    before, after = (yaml.safe_load((folder / "model.yaml").read_text()) for folder in (ours, tmp_path / "again"))
    assert after == before
    same(load_file(tmp_path / "again" / "model.safetensors"), load_file(ours / "model.safetensors"))


def test_a_part_alone(tmp_path, ours):
    export_checkpoint(ours, tmp_path / "audio_enc.pt", modules=["audio"])
    found = torch.load(tmp_path / "audio_enc.pt", weights_only=True)
    assert found.keys() == {"enc", "head", "muomni"}
    assert found["enc"]["down.1.weight"].shape == (4, 4, 3, 3)
    assert found["head"]["weight"].shape == (99, 48)


def test_fused_projections_are_files_of_their_own_size(tmp_path, ours):
    """Rows of one tensor share its memory; written as they are, each would hold all of it."""
    export_checkpoint(ours, tmp_path / "thinker.pt", modules=["thinker"])
    weights = sum(p.numel() for p in load_export(ours, ["thinker"]).modules["thinker"].parameters())
    assert (tmp_path / "thinker.pt").stat().st_size < 4 * weights * 1.5 + 4 * 290 * 48 + 20000


def test_a_file_of_ours_is_taken_whole(tmp_path, ours, saved):
    export_checkpoint(ours, tmp_path / "theirs.pt")
    tokenizer = tmp_path / "tokenizer.model"
    with pytest.raises(ValueError, match=r"theirs\.pt was written by muomni and is complete"):
        import_checkpoints([saved("vision.pt"), tmp_path / "theirs.pt"], tmp_path / "x", tokenizer=tokenizer)
    with pytest.raises(
        ValueError, match=r"the file was written by muomni with its options: leave out vision\.num_heads"
    ):
        import_checkpoints(
            [tmp_path / "theirs.pt"], tmp_path / "x", tokenizer=tokenizer, options={"vision": {"num_heads": 2}}
        )
    other = tmp_path / "other.model"
    Tokenizer.train(["another text 4 5 6"] * 9, 290, other, exact=False)
    with pytest.raises(ValueError, match=r"other\.model: "):
        import_checkpoints([tmp_path / "theirs.pt"], tmp_path / "x", tokenizer=other)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("own", "match"),
    [
        ({"description": 3}, "the entry 'muomni' was not written by muomni"),
        ({"description": "[", "tensors": {}}, "not readable as YAML"),
        ({"description": "parts: [vision]\nfacts: {}", "tensors": {}}, "describes no modules and facts"),
        (
            {"description": "parts: {vision: {part: os.system}}\nfacts: {}", "tensors": {}},
            "unknown architecture 'os.system'",
        ),
        (
            {"description": "parts: {vision: {part: vision, options: {dim: 3}}}\nfacts: {}", "tensors": {}},
            "options do not fit",
        ),
    ],
)
def test_a_forged_description_builds_nothing(tmp_path, saved, own, match):
    path = saved("vision.pt", lambda content: content | {"muomni": own})
    with pytest.raises(ValueError, match=rf"vision\.pt.*{match}"):
        import_checkpoints([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- what does not fit -----------------------------------------------------------------------------------------------


def small_thinker(**changes):
    return Thinker(vocab_size=24, **(SHAPE | {"num_kv_heads": 3, "max_length": 16} | changes))


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"thinker": small_thinker(short_conv=3)}, "thinker.short_conv=3: micro-omni only knows short_conv=0"),
        ({"thinker": small_thinker(mlp="geglu")}, "thinker.mlp=geglu: micro-omni only knows swiglu and gelu"),
        ({"thinker": small_thinker(head_dim=8)}, "thinker.head_dim=8: micro-omni only knows head_dim=None"),
        ({"thinker": small_thinker(qk_norm=True)}, "thinker.qk_norm=True: micro-omni only knows qk_norm=False"),
        (
            {"audio": Audio(n_mels=32, num_symbols=9, channels=4, downsample=4, conv_kernel=3, **SHAPE)},
            "audio.conv_kernel=3: micro-omni only knows conv_kernel=0",
        ),
        (
            {
                "audio": Audio(
                    n_mels=32, num_symbols=9, channels=4, downsample=2, conv_kernel=0, rope_theta=None, **SHAPE
                )
            },
            "audio.downsample=2: micro-omni only knows 4 and 8",
        ),
        (
            {
                "talker": Talker(
                    num_symbols=9,
                    num_speakers=1,
                    text_layers=0,
                    text_kernel=3,
                    num_codebooks=2,
                    codebook_size=8,
                    max_frames=9,
                    shared_embedding=True,
                    alignment="durations",
                    **SHAPE,
                )
            },
            "talker.alignment=durations: micro-omni only knows alignment=free",
        ),
        ({"text_tower": TextTower(vocab_size=9, embed_dim=8, max_length=9, **SHAPE)}, "no module that micro-omni has"),
    ],
)
def test_what_micro_omni_has_not_is_refused(tmp_path, parts, match):
    folder = save_export(tmp_path / "ours", parts, metadata={}, files={})
    with pytest.raises(ValueError, match=rf"ours: {match}"):
        export_checkpoint(folder, tmp_path / "theirs.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_files_in_the_way_stay(tmp_path, ours):
    (tmp_path / "there.pt").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"there\.pt exists already"):
        export_checkpoint(ours, tmp_path / "there.pt")
    with pytest.raises(ValueError, match=r"name it \.pt or \.safetensors"):
        export_checkpoint(ours, tmp_path / "new.bin")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "tokenizer.model").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"tokenizer\.model exists already and is another tokenizer"):
        export_checkpoint(ours, tmp_path / "to" / "new.pt")
    assert (tmp_path / "there.pt").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["tokenizer.model"]


def test_a_failed_write_leaves_nothing(tmp_path, ours, monkeypatch):
    def fail(content, path):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_checkpoint(ours, tmp_path / "to" / "new.pt")
    assert list((tmp_path / "to").iterdir()) == []


def test_safetensors_say_who_wrote_them(tmp_path, ours):
    export_checkpoint(ours, tmp_path / "x.safetensors", modules=["vision"])
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert yaml.safe_load(file.metadata()["muomni"])["parts"].keys() == {"vision"}
