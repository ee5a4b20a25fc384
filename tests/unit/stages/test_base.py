"""What every stage shares: weighted losses, splits that open and close, one optimizer."""

import pickle
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from muomni.distributed import collectives
from muomni.evaluation.base import Evaluator, State, add
from muomni.nn.transformer import Transformer
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


@dataclass
class Names(State):
    names: list[str] = field(default_factory=list)


class Recorder(Evaluator):
    """Writes down what it is called for."""

    state_type = Names

    def __init__(self):
        super().__init__(nn.Identity())
        self.events = []

    def reset(self, split):
        super().reset(split)
        self.events.append(f"begin {split}")

    def update(self, batch):
        self.state.names.append(batch)
        self.events.append(f"{self.split} {batch}")

    def compute(self):
        self.examples.append({"split": self.split, "id": "".join(self.state.names)})
        self.events.append(f"finish {self.split}")
        return {"count": len(self.events)}


class Toy(Stage):
    name = "toy"

    def __init__(self, **how):
        options = {
            "optimizer": lambda groups: torch.optim.SGD([{**g, "lr": 0.1 * g["lr_scale"]} for g in groups], lr=0.1),
            "schedule": lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
            "weight_decay": 0.1, "loss_weights": {}, "compile_model": False,
        }  # fmt: skip
        super().__init__(TrainingOptions(**(options | how)), model=nn.Linear(2, 2), evaluator=Recorder())

    @property
    def layer(self):
        return self.model

    def compiled_modules(self):
        return [self.layer]


class Surroundings:
    """As much of a trainer as a test step looks at."""

    class datamodule:
        test_splits = ["a", "b"]
        spare = ()


@pytest.fixture
def toy(monkeypatch):
    stage = Toy()
    monkeypatch.setattr(Toy, "trainer", Surroundings)
    monkeypatch.setattr(Toy, "log_dict", lambda self, *arguments, **how: None)
    return stage


def test_losses_are_summed_with_their_weights():
    losses = {"one": torch.tensor(2.0), "two": torch.tensor(3.0)}
    assert Toy(loss_weights={"two": 0.5}).total_loss(losses) == 3.5
    assert Toy().total_loss(losses) == 5.0


def test_splits_open_and_close_in_order_and_results_are_named(toy):
    toy.on_test_start()
    for index, batch, loader in ((0, "x", 0), (1, "y", 0), (0, "z", 1)):
        toy.test_step(batch, index, loader)
    toy.on_test_epoch_end()
    assert toy.evaluator.events == ["begin a", "a x", "a y", "finish a", "begin b", "b z", "finish b"]
    assert toy.results == {"toy/a/count": 4.0, "toy/b/count": 7.0}


def test_held_out_splits_are_measured_in_float32(toy):
    dtypes = []
    toy.evaluator.update = lambda batch: dtypes.append(toy.layer(torch.ones(1, 2)).dtype)
    toy.on_test_start()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        toy.test_step("x", 0, 0)
    assert dtypes == [torch.float32]


def test_a_second_test_forgets_the_first(toy):
    toy.on_test_start()
    toy.test_step("x", 0, 1)
    toy.on_test_epoch_end()
    toy.on_test_start()
    assert toy.results == {}


def test_one_optimizer_over_what_is_trained():
    stage = Toy()
    stage.layer.bias.requires_grad_(False)
    made = stage.configure_optimizers()
    groups = made["optimizer"].param_groups
    assert [(group["name"], group["weight_decay"]) for group in groups] == [("toy/matrices", 0.1)]
    assert made["lr_scheduler"]["interval"] == "step"


def test_parts_are_compiled_for_training_only(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compiled.append(self))
    stage = Toy(compile_model=True)
    stage.setup("test")
    assert compiled == []
    stage.setup("fit")
    assert compiled == [stage.layer]
    Toy().setup("fit")
    assert len(compiled) == 1


def test_activation_checkpointing_reaches_every_transformer():
    def stage(**how):
        stage = Toy(**how)
        stage.transformer = Transformer([nn.Identity()], norm=nn.Identity())
        return stage

    chosen = stage(activation_checkpointing=True)
    chosen.setup("test")
    assert not chosen.transformer.recompute
    chosen.setup("fit")
    assert chosen.transformer.recompute
    plain = stage()
    plain.setup("fit")
    assert not plain.transformer.recompute
    with pytest.raises(ValueError, match="stage=toy has no transformer"):
        Toy(activation_checkpointing=True).setup("fit")


def test_layer_drop_reaches_every_transformer_and_smoothing_is_for_training():
    stage = Toy(layer_drop=0.3)
    stage.transformer = Transformer([nn.Identity()], norm=nn.Identity())
    stage.setup("fit")
    assert stage.transformer.layer_drop == 0.3
    with pytest.raises(ValueError, match="layer_drop=0.3: stage=toy has no transformer"):
        Toy(layer_drop=0.3).setup("fit")
    with pytest.raises(ValueError, match="label_smoothing=0.1: stage=toy has no targets to smooth"):
        Toy(label_smoothing=0.1)

    class Smooth(Toy):
        smooths_labels = True

    smooth = Smooth(label_smoothing=0.1)
    assert (smooth.train().smoothing, smooth.eval().smoothing) == (0.1, 0.0)


class Facts(Toy):
    fingerprint = "f00"

    def export_metadata(self):
        return {"stage": "toy", "tokenizer": self.fingerprint, "mel": {"bins": 8}}


def saved(stage, tmp_path):
    """A checkpoint as Lightning writes it, read back the safe way."""
    checkpoint = {"global_step": 7, "state_dict": stage.state_dict(), "optimizer_states": []}
    stage.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "x.ckpt")
    return torch.load(tmp_path / "x.ckpt", weights_only=True)


def test_a_checkpoint_says_what_it_was_trained_with_and_is_refused_elsewhere(tmp_path):
    checkpoint = saved(Facts(), tmp_path)
    assert checkpoint["export"]["document"]["facts"] == {"stage": "toy", "tokenizer": "f00", "mel": {"bins": 8}}
    Facts().on_load_checkpoint(checkpoint)
    other = Facts()
    other.fingerprint = "bad"
    with pytest.raises(
        ValueError, match=r"step 7: tokenizer differs: .* 'f00', this run has 'bad'; resume=never begins"
    ):
        other.on_load_checkpoint(checkpoint)
    del checkpoint["export"]
    with pytest.raises(ValueError, match="names no tokenizer, frontends and codec"):
        Facts().on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("where", ["weights", "moments"])
def test_a_broken_state_is_not_saved(tmp_path, where):
    stage, checkpoint = Toy(), {"global_step": 7, "optimizer_states": [{"state": {0: {"momentum": torch.ones(2)}}}]}
    if where == "weights":
        stage.layer.weight.data[0, 0] = float("nan")
    else:
        checkpoint["optimizer_states"][0]["state"][0]["momentum"][1] = float("inf")
    name = {"weights": "model.weight holds NaN=1, Inf=0", "moments": "optimizer.0.momentum holds NaN=0, Inf=1"}[where]
    with pytest.raises(ValueError, match=f"step 7: {name}; a broken state is not saved"):
        stage.on_save_checkpoint(checkpoint)


def test_a_stage_must_say_what_it_does(toy):
    with pytest.raises(TypeError, match="Toy does not define step"):
        toy.step("x")
    toy.compiled_modules = list
    with pytest.raises(ValueError, match="stage=toy has nothing to compile"):
        toy.compile_parts()


def test_states_of_several_processes_are_merged_in_their_order(toy, monkeypatch):
    """The second process had a batch of the split "a" alone; "b" was the first one's."""
    others = {"a": Names(names=["z"]), "b": None}
    monkeypatch.setattr(collectives, "num_processes", lambda: 2)
    splits = iter(others)
    monkeypatch.setattr(
        collectives, "all_gather_object", lambda state: [pickle.loads(pickle.dumps(state)), others[next(splits)]]
    )
    toy.on_test_start()
    for index, batch, loader in ((0, "x", 0), (1, "y", 0), (0, "w", 1)):
        toy.test_step(batch, index, loader)
    toy.on_test_epoch_end()
    assert toy.examples == [{"split": "a", "id": "xyz"}, {"split": "b", "id": "w"}]
    assert set(toy.results) == {"toy/a/count", "toy/b/count"}


def test_a_metric_that_cannot_be_computed_is_left_out_and_said(toy, caplog):
    """After a training of hours, a split that tells nothing must not decide whether it counts."""
    toy.evaluator.compute = lambda: {"good": 1.0, "bad": float("nan"), "worse": float("inf")}
    toy.evaluator.reset("test")
    toy._compute("test")
    assert toy.results == {"toy/test/good": 1.0}
    assert "toy/test/bad is nan and left out" in caplog.text and "toy/test/worse is inf and left out" in caplog.text


def test_states_add_up_field_by_field():
    one = {"counts": torch.ones(2), "texts": {"a": ["x"]}, "typed": {"q": True}, "total": 1.5}
    two = {"counts": torch.ones(2), "texts": {"a": ["y"], "b": ["z"]}, "typed": {"q": True, "r": False}, "total": 2}
    found = add(one, two)
    assert found.pop("counts").tolist() == [2, 2]
    assert found == {"texts": {"a": ["x", "y"], "b": ["z"]}, "typed": {"q": True, "r": False}, "total": 3.5}
    assert found["typed"]["q"] is True and found["texts"]["b"] is not two["texts"]["b"]
