"""A run goes on by the options of its command; what has a rate of 0 stays; weights of losses that are not there are refused."""

from functools import partial

import pytest
import torch

from muomni.optim.optimizers import adamw, muon
from muomni.optim.schedule import warmup_stable_decay
from muomni.stages.resume import apply_options, check_lr_multipliers
from tests.unit.stages.test_base import Toy
from tests.unit.stages.test_omni_sft_stage import batch as omni_batch
from tests.unit.stages.test_omni_sft_stage import make as make_omni


def make(lr=1e-3, steps=10, optimizer=adamw, **options):
    torch.manual_seed(0)
    if optimizer is muon:
        options["momentum"] = 0.95
    return Toy(
        optimizer=partial(optimizer, lr=lr, betas=options.pop("betas", (0.9, 0.98)), adam_ratio=1.0, **options),
        schedule=partial(warmup_stable_decay, max_steps=steps, warmup_steps=1, decay_fraction=0.5, final=0.1),
    )


def begun(stage):
    made = stage.configure_optimizers()
    return made["optimizer"], made["lr_scheduler"]["scheduler"]


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def resumed(stage, before):
    """A new optimizer and schedule with the state of others, as Lightning loads it."""
    optimizer, scheduler = begun(stage)
    optimizer.load_state_dict(before[0].state_dict())
    scheduler.load_state_dict(before[1].state_dict())
    return optimizer, scheduler, apply_options(optimizer, scheduler, stage._group_options)


@pytest.fixture
def before():
    optimizer, scheduler = begun(make())
    for _ in range(7):
        optimizer.step()
        scheduler.step()
    return optimizer, scheduler


def test_the_same_options_change_no_bit(before):
    optimizer, scheduler, said = resumed(make(), before)
    assert rates(optimizer) == rates(before[0]) and said == []
    scheduler.step(), before[1].step()
    assert rates(optimizer) == rates(before[0])


def test_a_new_rate_is_taken_by_the_schedule(before):
    optimizer, scheduler, said = resumed(make(lr=1e-1), before)
    assert rates(optimizer) == pytest.approx([100 * rate for rate in rates(before[0])])
    assert any(line.startswith("lr 0.1 (was 0.001)") for line in said)
    scheduler.step()
    assert rates(optimizer)[0] == pytest.approx(1e-1 * scheduler.lr_lambdas[0](8))


def test_other_steps_and_betas_are_taken(before):
    optimizer, _, said = resumed(make(steps=100, betas=(0.8, 0.9)), before)
    assert rates(optimizer) == [1e-3] * len(rates(optimizer)), "the plateau of the longer run"
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9) and any(line.startswith("betas") for line in said)


def test_another_optimizer_or_other_groups_are_refused(before):
    metadata = {"document": {"facts": {"stage": "toy"}}}
    checkpoint = {"global_step": 7, "export": metadata, "optimizer_states": [before[0].state_dict()]}
    make().on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="it trained toy/matrices by AdamW.*this run trains toy/matrices by Muon"):
        make(optimizer=muon).on_load_checkpoint(checkpoint)
    fewer = make()
    fewer.layer.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="the checkpoint's optimizer trains 2 parameters"):
        fewer.on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["thinker", "projectors"])
def test_a_rate_of_0_freezes(name):
    stage = make_omni(lr_multipliers={name: 0.0, "vision": 1.0}, weight_decay=0.1)
    stage.setup("fit")
    stage.train()
    parts = {"thinker": [stage.model.thinker], "projectors": [stage.model.image_projector, stage.model.audio_projector]}
    optimizer = stage.configure_optimizers()["optimizer"]
    still = [value.clone() for part in parts[name] for value in part.state_dict().values()]
    stage.total_loss(stage.step(omni_batch())).backward()
    optimizer.step()
    for part in parts[name]:
        assert not part.training and all(p.grad is None and not p.requires_grad for p in part.parameters())
    after = [value for part in parts[name] for value in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(still, after, strict=True))
    assert any(p.grad is not None for p in stage.model.vision.parameters()), "the gradient goes through it"


def test_any_module_with_a_rate_of_0_is_frozen_at_the_start():
    stage = Toy()
    other = torch.nn.Linear(2, 2)
    stage.trained_modules = lambda: [("toy", stage.layer, 1.0), ("other", other, 0.0)]
    stage.setup("fit")
    assert not any(p.requires_grad for p in other.parameters())
    assert {g["name"].split("/")[0] for g in stage.configure_optimizers()["optimizer"].param_groups} == {"toy"}


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"thinker": 1.0}, "they are thinker, vision"),
        ({"thinker": 1.0, "vision": 0.0, "ears": 1.0}, "module.lr_multipliers has thinker, vision, ears"),
        ({"thinker": -1.0, "vision": 0.0}, "module.lr_multipliers.thinker=-1.0"),
        ({"thinker": "fast", "vision": 0.0}, "module.lr_multipliers.thinker=fast"),
    ],
)
def test_wrong_rates_are_refused(rates, words):
    with pytest.raises(ValueError, match=words):
        check_lr_multipliers(rates, known=("thinker", "vision"))


def test_weights_of_unknown_losses_are_refused():
    stage = make_omni(loss_weights={"answer": 1.0, "replays": 2.0})
    with pytest.raises(
        ValueError,
        match=r"module.training.loss_weights.replays: stage=omni_sft has no such loss; it has answer, replay",
    ):
        stage.check_loss_weights()
    stage.loss_weights = {"answer": "much"}
    with pytest.raises(ValueError, match="module.training.loss_weights.answer=much: a number is needed"):
        stage.check_loss_weights()
    make_omni(loss_weights={"answer": 0.0}).check_loss_weights()
