"""A stage with adapters: what learns, what is refused, exact resumes, plain exports."""

import copy
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from torch import nn

from callbacks.ema import EMA
from callbacks.estimate import optimizer_bytes
from callbacks.symptoms import FrozenModules, HighRate, NoGradient, WithoutOptimizer
from callbacks.weight_average import _changing
from muomni.checkpoints.assembly import outline
from muomni.checkpoints.export import load_export, save_export
from muomni.checkpoints.single_file import read_export
from muomni.models.thinker import Thinker
from muomni.nn.lora import LoRALinear
from muomni.optim.optimizers import adamw, muon
from muomni.optim.schedule import warmup_stable_decay
from muomni.stages.adapters import Adapter, merge
from muomni.stages.training_options import TrainingOptions
from tests.unit.callbacks.test_doctor import Repeat, alarms
from tests.unit.callbacks.test_symptoms import text_batch
from tests.unit.stages import test_omni_sft_stage as omni
from tests.unit.stages import test_thinker_stage as thinker

DEFAULTS = {
    "method": "lora", "rank": 2, "alpha": 4.0, "rank_stabilized": False, "dropout": 0.0, "train": None, "start_step": 0,
    "targets": r"^thinker\..*(attention|mlp)\.", "save_to": None,
}  # fmt: skip
SMOLLM2 = {
    "vocab_size": 49152, "dim": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "ff_dim": 1536, "max_length": 2048,
    "tied": True,
}  # fmt: skip
STEPS = 8


def adapter(**changes):
    return Adapter(**(DEFAULTS | changes))


def training(optimizer=muon, *, checkpointing=False):
    options = {"momentum": 0.95} if optimizer is muon else {}
    return TrainingOptions(
        optimizer=partial(optimizer, lr=1e-2, betas=(0.9, 0.98), adam_ratio=1.0, **options),
        schedule=partial(warmup_stable_decay, max_steps=STEPS, warmup_steps=2, decay_fraction=0.5, final=0.1),
        weight_decay=0.1, loss_weights={}, compile_model=False, activation_checkpointing=checkpointing,
    )  # fmt: skip


def text_stage(optimizer=muon, *, checkpointing=False, tied=False):
    torch.manual_seed(0)
    model = Thinker(
        vocab_size=40, dim=16, num_layers=2, num_heads=2, num_kv_heads=2, ff_dim=32, max_length=32, tied=tied
    )
    stage = thinker.stage(model=model, training=training(optimizer, checkpointing=checkpointing))
    stage.tokenizer = None  # no file for exports
    return stage


def names_that_learn(stage):
    return {name for name, parameter in stage.named_parameters() if parameter.requires_grad}


def trained(stage, *, steps=STEPS, folder, callbacks=(), resume=None, seed=1):
    torch.manual_seed(seed)
    trainer = Trainer(
        max_steps=steps, callbacks=list(callbacks), default_root_dir=str(folder), accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(stage, datamodule=Repeat(text_batch(), STEPS), ckpt_path=resume)
    return trainer


def test_the_thinker_learns_by_adapters_and_the_projectors_wholly():
    stage = omni.make()
    batch = omni.batch()
    before = stage.total_loss(stage.step(batch))
    adapter().apply(stage)
    assert torch.equal(stage.total_loss(stage.step(batch)), before)
    learning = names_that_learn(stage)
    assert {name.split(".")[1] for name in learning} == {"thinker", "image_projector", "audio_projector"}
    assert {name.rsplit(".", 1)[1] for name in learning if ".thinker." in name} == {"lora_a", "lora_b"}
    groups = stage.configure_optimizers()["optimizer"].param_groups
    found = {group["name"]: (group["weight_decay"], group["matrices"]) for group in groups}
    assert found["thinker/adapters"] == (0.0, False) and "thinker/matrices" not in found
    assert "image_projector/matrices" in found


def test_norms_may_learn_too():
    stage = text_stage()
    adapter(train=r"_norm\.weight$").apply(stage)
    assert {name.rsplit(".", 2)[-2] for name in names_that_learn(stage) if "lora_" not in name} == {
        "attention_norm", "mlp_norm",
    }  # fmt: skip
    with pytest.raises(
        ValueError, match=r"adapter.train=nothing: no parameter of an adapted module matches; there are thinker"
    ):
        adapter(train="nothing").apply(text_stage())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": "attn"}, r"adapter.targets=attn: no linear layer of stage=thinker matches; there are thinker\.transformer"
         r"\.blocks\.0\.attention\.qkv, .*thinker\.head and 3 more$"),
        ({"targets": "("}, r"adapter.targets=\(: not a regular expression"),
        ({"rank": 17}, r"adapter.rank=17 is larger than thinker.transformer.blocks.0.attention.qkv \(16 -> 48\): at most 16"),
        ({"rank": 0}, "adapter.rank=0: a whole number, at least 1"),
        ({"alpha": 0.0}, "adapter.alpha=0.0: a number above 0"),
        ({"dropout": 1.0}, "adapter.dropout=1.0: a number from 0 to below 1"),
        ({"start_step": -1}, "adapter.start_step=-1: a whole number, at least 0"),
        ({"method": "ia3"}, "adapter.method=ia3: available are lora, dora"),
        ({"save_to": "x", "train": "norm"}, "adapter.save_to=x: the adapters alone lack"),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted_is_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        adapter(**changes).apply(text_stage())


def test_frozen_tied_quantized_and_zero_layers_are_refused():
    with pytest.raises(
        ValueError, match=r"vision.transformer.blocks.0.attention.qkv is frozen in stage=omni_sft.*lr_multipliers"
    ):
        adapter(targets="attention").apply(omni.make())
    with pytest.raises(ValueError, match="thinker.head shares its weight with another layer.*tied=false"):
        adapter(targets="head").apply(text_stage(tied=True))

    class Quantized(nn.Linear):
        """As bitsandbytes' layers."""

    stage = text_stage()
    layer = Quantized(16, 16, bias=False)
    layer.weight = nn.Parameter(torch.zeros(16, 16, dtype=torch.int8), requires_grad=False)
    stage.model.transformer.blocks[1].attention.out = layer
    with pytest.raises(
        ValueError, match=r"blocks.1.attention.out is a Quantized, quantized to torch.int8; adapters need plain"
    ):
        adapter().apply(stage)
    stage = text_stage()
    stage.model.transformer.blocks[0].mlp.down.weight.data[3] = 0
    with pytest.raises(ValueError, match="blocks.0.mlp.down has rows of zeros, which DoRA cannot scale"):
        adapter(method="dora").apply(stage)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_resumed_run_ends_bit_for_bit_as_one_that_was_not_stopped(method, tmp_path):
    """Dropout, an average of the weights and adapters that start later included."""

    def begun():
        stage = text_stage()
        adapter(method=method, dropout=0.1, start_step=2).apply(stage)
        return stage

    ema = EMA(decay=0.9, validate=False, export=False)
    base = copy.deepcopy(begun().state_dict())
    whole = begun()
    trained(whole, folder=tmp_path, callbacks=[ema])
    moved = [key for key, value in whole.state_dict().items() if not torch.equal(value, base[key])]
    assert moved and all("lora_" in key for key in moved) and all("lora_" in key for key in ema.average)

    first = begun()
    trainer = trained(first, steps=5, folder=tmp_path, callbacks=[EMA(decay=0.9, validate=False, export=False)])
    trainer.save_checkpoint(tmp_path / "5.ckpt")
    state = torch.get_rng_state()

    class Random(Callback):
        """Dropout goes on as in the run that was stopped (callbacks/random_state.py)."""

        def on_train_start(self, trainer, stage):
            torch.set_rng_state(state)

    again = EMA(decay=0.9, validate=False, export=False)
    second = begun()
    trained(second, folder=tmp_path, callbacks=[again, Random()], resume=str(tmp_path / "5.ckpt"), seed=2)
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key
    assert all(torch.equal(again.average[key], value) for key, value in ema.average.items())
    other, full = text_stage(), text_stage()
    adapter(method=method, rank=3).apply(other)
    with pytest.raises(ValueError, match=r"adapter differs: it was trained with .*'rank': 2.*; resume=never"):
        trained(other, folder=tmp_path, resume=str(tmp_path / "5.ckpt"))
    with pytest.raises(ValueError, match=r"adapter differs: .* this run has None"):
        trained(full, folder=tmp_path, resume=str(tmp_path / "5.ckpt"))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_exports_are_plain_and_so_are_checkpoints_that_are_read_as_one(method, tmp_path):
    stage, plain = text_stage(), text_stage()
    adapter(method=method, save_to=str(tmp_path / "adapter")).apply(stage)
    trained(stage, folder=tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    ids = torch.tensor([[5, 6, 7, 8]])
    stage.eval()
    expected = stage.model(ids).logits
    merge(stage)
    assert stage.adapter is None and not any(isinstance(module, LoRALinear) for module in stage.modules())
    save_export(tmp_path / "export", stage.export_modules(), metadata=stage.export_metadata(), files={})
    loaded = load_export(tmp_path / "export").modules["thinker"]
    assert loaded.state_dict().keys() == plain.model.state_dict().keys()
    read = read_export(tmp_path / "last.ckpt").modules["thinker"]
    for model in (stage.model, loaded, read):
        torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=1e-5)
    peft = pytest.importorskip("peft")
    other = peft.PeftModel.from_pretrained(plain.model.eval(), str(tmp_path / "adapter" / "thinker"))
    torch.testing.assert_close(other(ids).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{"start_step": 40}, {"method": "dora", "train": "norm"}])
def test_the_doctor_finds_nothing_wrong(changes, caplog, tmp_path):
    stage = text_stage(adamw)
    adapter(**changes).apply(stage)
    symptoms = {
        "frozen": FrozenModules(patience=0), "gradient": NoGradient(patience=0, times=3),
        "optimizer": WithoutOptimizer(patience=0), "rate": HighRate(patience=0, limits={"thinker": 5.0}),
    }  # fmt: skip
    assert alarms(stage, text_batch(), symptoms, caplog, tmp_path, steps=35) == []


def test_adapters_rest_until_their_first_step(tmp_path):
    """The projectors learn from the first step on."""
    stage = omni.make()
    adapter(start_step=3).apply(stage)
    optimizer, scheduler = (made := stage.configure_optimizers())["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(5):
        rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    assert [bool(each["thinker/adapters"]) for each in rates] == [False, False, False, True, True]
    assert all(each["image_projector/matrices"] for each in rates)


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        stage = text_stage(checkpointing=checkpointing)
        adapter(method="dora").apply(stage)
        stage.setup("fit")
        stage.train()
        stage.total_loss(stage.step(text_batch())).backward()
        gradients.append({n: p.grad for n, p in stage.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == {n for n in gradients[0] if "lora_" in n}
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_what_is_averaged_and_what_the_optimizer_needs():
    """A Thinker of SmolLM2-135M's shape, without its memory: less than a twentieth of the optimizer's state of full training."""
    stage = text_stage()
    adapter().apply(stage)
    assert all("lora_" in name for name in _changing(stage))
    sizes = {}
    for adapted in (False, True):
        model = outline({"part": "thinker", "options": SMOLLM2}, tensors=None, where="SmolLM2-135M")
        with torch.device("meta"):
            stage = thinker.stage(model=model, training=training(adamw))
            if adapted:
                adapter(rank=8).apply(stage)
        sizes[adapted] = optimizer_bytes(stage.configure_optimizers()["optimizer"])
    assert sizes[True] <= 0.05 * sizes[False]
