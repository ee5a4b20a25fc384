"""A part is built when its description and its tensors fit, and nothing of their size before."""

import time

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from muomni.checkpoints.assembly import assemble, outline
from muomni.checkpoints.export import Export, load_export, save_export
from muomni.checkpoints.single_file import read_export, save_single
from muomni.models.codec import Codec
from muomni.models.registry import ARCHITECTURES
from muomni.models.vocoder import Vocoder
from tests.unit.checkpoints.test_export import thinker
from tests.unit.inference.conftest import tiny_parts


def described(part):
    return {"part": part.architecture, "options": part.options}


@pytest.fixture
def export(tmp_path):
    return save_export(tmp_path / "omni", {"thinker": thinker()}, metadata={}, files={})


def change_options(export, **changes):
    document = yaml.safe_load((export / "model.yaml").read_text())
    document["parts"]["thinker"]["options"] |= changes
    (export / "model.yaml").write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 10**9}, {"num_layers": 1000}, {"ff_dim": 1 << 18}, {"vocab_size": 1 << 22, "dim": 1 << 16},
        {"dim": 1 << 16, "num_heads": 1, "num_kv_heads": 1}, {"num_experts": 1000}, {"dim": "wide"}, {"num_layers": True},
        {"rope_theta": float("nan")}, {"norm_eps": "1e-5"}, {"num_heads": 0}, {"num_kv_heads": 3}, {"mlp": "x" * 1000},
        {"dropout": 2}, {"window": 0}, {"short_conv": 1}, {"max_length": 10**12}, {"unknown": 1},
    ],
)  # fmt: skip
def test_a_description_that_asks_for_more_costs_nothing(export, changes):
    """147 KB asked for 4.2 GB; 10**9 layers were built for ever."""
    change_options(export, **changes)
    start = time.process_time()
    with pytest.raises(ValueError, match="omni") as error:
        load_export(export)
    assert time.process_time() - start < 10
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 700


@pytest.mark.parametrize("kind", ["options", "part", "whole"])
@pytest.mark.parametrize("wrong", [None, 3, "x", [1], {"a": 1}])
def test_descriptions_of_wrong_types(export, kind, wrong):
    document = yaml.safe_load((export / "model.yaml").read_text())
    if kind == "whole":
        document["parts"]["thinker"] = wrong
    else:
        document["parts"]["thinker"][kind] = wrong
    (export / "model.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ValueError, match="omni"):
        load_export(export)


def test_every_part_comes_back_as_it_was():
    """Non-persistent buffers too, which no file holds."""
    parts = tiny_parts()
    vocoder = Vocoder(n_mels=8, hop=4, overlap=2, width=8, num_layers=1, kernel=3, ff_dim=8).eval()
    for part in [*parts.values(), vocoder, thinker(tied=True), thinker(num_experts=2, experts_per_token=1)]:
        again = assemble(described(part), part.state_dict(), where="x", weights="y")
        assert not again.training
        own = dict(part.named_buffers()) | dict(part.named_parameters(remove_duplicate=False))
        new = dict(again.named_buffers()) | dict(again.named_parameters(remove_duplicate=False))
        assert own.keys() == new.keys()
        for name, tensor in own.items():
            assert torch.equal(tensor, new[name]) and tensor.dtype == new[name].dtype, name
            assert tensor.requires_grad == new[name].requires_grad
    assert set(ARCHITECTURES) >= {part.architecture for part in parts.values()}


def test_nothing_is_drawn_and_no_memory_shared_with_the_file(export):
    state = torch.get_rng_state()
    first, second = (load_export(export).modules["thinker"] for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        first.head.weight.zero_()
    assert second.head.weight.any()
    (export / "model.safetensors").write_bytes(b"")  # while a model of it is in use
    assert second(torch.arange(8)[None]).logits.isfinite().all()


def test_tied_tensors_that_differ_are_refused(tmp_path):
    folder = save_export(tmp_path / "omni", {"thinker": thinker(tied=True)}, metadata={}, files={})
    tensors = load_file(folder / "model.safetensors")
    tensors["thinker.head.weight"] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"embedding\.weight and head\.weight are one tensor of this module, and differ"
    ):
        load_export(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.half(), None),
        (lambda t: t.double(), None),
        (lambda t: t.long(), r"head\.weight is of torch\.int64, expected torch\.float32"),
        (lambda t: t.to(torch.complex64), "is of torch.complex64"),
        (lambda t: (t.double() + 1).fill_(1e300), "holds NaN=0, Inf="),
        (lambda t: t.fill_(float("nan")), "holds NaN=384, Inf=0: the model is broken"),
    ],
)
def test_other_dtypes_are_cast_or_refused(export, change, message):
    tensors = load_file(export / "model.safetensors")
    tensors["thinker.head.weight"] = change(tensors["thinker.head.weight"])
    save_file(tensors, export / "model.safetensors")
    if message is None:
        assert load_export(export).modules["thinker"].head.weight.dtype == torch.float32
    else:
        with pytest.raises(ValueError, match=message):
            load_export(export)


def test_a_file_that_may_not_be_read_says_permission_and_not_damage(export, tmp_path, monkeypatch):
    single = save_single(tmp_path / "a.safetensors", Export({"thinker": thinker()}, {}, tmp_path))
    opened = type(single).open

    def refuse(path, *arguments, **options):
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(type(single), "open", refuse)
    for path in (export, single):
        with pytest.raises(ValueError, match=r"safetensors: no permission to read it: .*chmod a\+r") as error:
            read_export(path)
        assert "damaged" not in str(error.value)


def test_a_checkpoint_whose_tensors_repeat_themselves_is_refused(tmp_path):
    huge = {"part": "thinker", "options": thinker().options | {"vocab_size": 1 << 22}}
    document = {"format": 1, "facts": {}, "parts": {"thinker": huge}}
    state = {f"thinker.{key}": value for key, value in thinker().state_dict().items()}
    state |= {f"thinker.{key}.weight": torch.zeros(1, 1).expand(1 << 22, 16) for key in ("embedding", "head")}
    torch.save(
        {"state_dict": {}, "export": {"document": document, "places": {}, "tensors": state, "tokenizer": None}},
        tmp_path / "a.ckpt",
    )
    assert (tmp_path / "a.ckpt").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"a\.ckpt: its tensors ask for \d+ MB, the file has \d+ KB"):
        read_export(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "changes", [{"places": [1]}, {"places": {"thinker": 3}}, {"tensors": None}, {"tensors": {1: 2}}, {"tokenizer": "x"},
                {"tokenizer": torch.zeros(3)}, {"tensors": {"thinker.head.weight": "x"}}, {"document": "x"}],
)  # fmt: skip
def test_checkpoints_of_wrong_types(tmp_path, changes):
    document = {"format": 1, "facts": {}, "parts": {}}
    carried = {"document": document, "places": {}, "tensors": {}, "tokenizer": None} | changes
    torch.save({"state_dict": {}, "export": carried}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt: "):
        read_export(tmp_path / "a.ckpt")


def test_an_outline_takes_no_memory():
    codec = outline(
        {"part": "codec", "options": Codec(
            n_mels=8, stride=2, dim=4, num_codebooks=2, codebook_size=4, num_layers=1, width=8, kernel=3, ff_dim=8, decay=0.9,
            dropout=0.0, idle=0.0,
        ).options | {"width": 1 << 16, "ff_dim": 1 << 18}},
        tensors=None, where="x",
    )  # fmt: skip
    assert all(parameter.is_meta for parameter in codec.parameters())
