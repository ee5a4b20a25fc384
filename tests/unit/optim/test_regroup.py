"""Checkpoints of the time when a matrix was whatever has two dimensions."""

import copy

import pytest
import torch

from muomni.optim.groups import parameter_groups
from muomni.optim.optimizers import adamw, muon
from muomni.optim.regroup import _older_groups, regroup
from muomni.optim.schedule import warmup_stable_decay
from tests.unit.optim.parts import omni, stages, talker

KINDS = {
    "adamw": lambda groups: adamw(groups, lr=1e-2, betas=(0.9, 0.98), adam_ratio=0.5),
    "muon": lambda groups: muon(groups, lr=1e-2, betas=(0.9, 0.98), momentum=0.9, adam_ratio=0.5),
}


def older(modules):
    """The groups that an older version made."""
    return [
        {
            "params": members, "name": name, "lr_scale": 1.0, "weight_decay": 0.0 if name.endswith("vectors") else 0.1,
            "matrices": name.endswith(("matrices", "experts")), "stacked": name.endswith("experts"),
        }
        for name, members in _older_groups(modules).items()
    ]  # fmt: skip


def made(groups, kind):
    optimizer = KINDS[kind](groups)
    return optimizer, warmup_stable_decay(optimizer, max_steps=9, warmup_steps=1, decay_fraction=0.5, final=0.1)


def a_step(module, optimizer, schedule, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    schedule.step()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", [talker, omni, lambda: stages()["thinker, tied mixture"]])
def test_each_parameter_keeps_its_state_and_its_rate(build, kind):
    torch.manual_seed(0)
    module = build()
    modules = [("m", module, 1.0)]
    optimizer, schedule = made(older(modules), kind)
    a_step(module, optimizer, schedule, 1)
    before = {p: dict(optimizer.state[p]) for p in module.parameters()}
    checkpoint = copy.deepcopy({"optimizer_states": [optimizer.state_dict()], "lr_schedulers": [schedule.state_dict()]})
    regroup(checkpoint, modules)
    resumed, its_schedule = made(parameter_groups(modules, weight_decay=0.1), kind)
    fresh = {group["name"]: (group["lr"], group["weight_decay"]) for group in resumed.param_groups}
    resumed.load_state_dict(checkpoint["optimizer_states"][0])
    its_schedule.load_state_dict(checkpoint["lr_schedulers"][0])
    for group in resumed.param_groups:
        assert group["weight_decay"] == fresh[group["name"]][1]
        for parameter in group["params"]:
            was, state = before[parameter], resumed.state[parameter]
            if ("momentum" in was) == group.get("muon", False):
                assert all(torch.equal(was[key], state[key]) for key in was)
            else:
                assert not state
    a_step(module, resumed, its_schedule, 2)
    rates = {group["name"]: group["initial_lr"] for group in resumed.param_groups}
    assert rates == {name: 0.01 if name.endswith(("matrices", "experts")) else 0.005 for name in fresh}
    assert its_schedule.base_lrs == list(rates.values())


def test_todays_state_stays_and_that_of_another_model_is_refused():
    module = talker()
    optimizer, _ = made(parameter_groups([("m", module, 1.0)], weight_decay=0.1), "muon")
    checkpoint = {"optimizer_states": [optimizer.state_dict()]}
    kept = copy.deepcopy(checkpoint)
    regroup(checkpoint, [("m", module, 1.0)])
    assert checkpoint == kept
    with pytest.raises(ValueError, match="resume=never"):
        regroup(checkpoint, [("m", omni(), 1.0)])
