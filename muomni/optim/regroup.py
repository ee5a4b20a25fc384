"""Optimizer states of earlier versions, which grouped parameters differently, in today's groups.

An optimizer's state identifies parameters by their index in the groups. Until positions, class tokens, depthwise kernels,
output heads and codebooks left Muon (groups.py), a matrix was whatever has two dimensions and is no embedding.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from muomni.optim.groups import parameter_groups

Modules = list[tuple[str, nn.Module, float]]


def regroup(checkpoint: dict[str, Any], modules: Iterable[tuple[str, nn.Module, float]]) -> None:
    """Sort the optimizer's state and the schedule's rates of a Lightning checkpoint of an older version into the groups of
    `modules`, in place. A parameter that has changed from Muon to AdamW starts with fresh moments.

    Raises ValueError where the checkpoint's optimizer trains other parameters than the modules have.
    """
    states = checkpoint.get("optimizer_states") or []
    if len(states) != 1 or "param_groups" not in states[0]:
        return
    saved, modules = states[0]["param_groups"], list(modules)
    groups = parameter_groups(modules, weight_decay=0.0)
    if not all("name" in group for group in saved) or _shape(saved) == _shape(groups):
        return
    older = _older_groups(modules)
    if _shape(saved) != [(name, len(members)) for name, members in older.items()]:
        raise ValueError(
            f"the checkpoint's optimizer trains {sum(len(group['params']) for group in saved)} parameters in the groups "
            f"{', '.join(group['name'] for group in saved)}, this configuration others: resume=never starts from scratch"
        )
    numbers = [number for group in saved for number in group["params"]]
    members = [parameter for each in older.values() for parameter in each]
    index = {id(parameter): number for parameter, number in zip(members, numbers, strict=True)}
    by_name = {group["name"]: group for group in saved}
    has_muon, state = "muon" in saved[0], {}
    regrouped: list[dict[str, Any]] = []
    sources: list[int] = []
    for group in groups:
        source = _like(group["name"], by_name)
        sources.append(saved.index(source))
        start = sum(len(each["params"]) for each in regrouped)
        is_muon = has_muon and group["matrices"]
        for number, parameter in enumerate(group["params"], start=start):
            kept = states[0]["state"].get(index[id(parameter)])
            if kept is not None and ("momentum" in kept) == is_muon:
                state[number] = kept
        own = {"params": list(range(start, start + len(group["params"]))), "name": group["name"]}
        own |= {"matrices": group["matrices"], "stacked": group["stacked"]} | ({"muon": is_muon} if has_muon else {})
        decay = 0.0 if group["name"].endswith("/vectors") else max(each["weight_decay"] for each in saved)
        regrouped.append(source | own | {"weight_decay": decay})
    states[0].update(state=state, param_groups=regrouped)
    for schedule in checkpoint.get("lr_schedulers", []):
        for key in ("base_lrs", "_last_lr", "lr_lambdas"):
            if len(schedule.get(key) or []) == len(saved):
                schedule[key] = [schedule[key][source] for source in sources]


def _shape(groups: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(group["name"], len(group["params"])) for group in groups]


def _like(name: str, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The group of that name, or one of the same module whose rate is the same."""
    module, group = name.rsplit("/", 1)
    others = {"heads": "vectors", "vectors": "heads", "experts": "matrices", "matrices": "experts"}
    for each in (name, f"{module}/{others.get(group, group)}", *groups):
        if each in groups:
            return groups[each]
    raise AssertionError("an optimizer without groups")


def _older_groups(modules: Modules) -> dict[str, list[nn.Parameter]]:
    """Group -> parameters, in older versions."""
    seen: set[int] = set()
    groups: dict[str, list[nn.Parameter]] = {}
    for name, module, _ in modules:
        embeddings = {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding)}
        by_group: dict[str, list[nn.Parameter]] = {"matrices": [], "experts": [], "heads": [], "vectors": []}
        for key, parameter in module.named_parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if parameter.dim() < 2 or id(parameter) in embeddings or key.endswith("short_conv.weight"):
                group = "vectors"
            elif key.endswith(("head.weight", "router.weight")):
                group = "heads"
            else:
                group = "experts" if "experts" in key.split(".") else "matrices"
            by_group[group].append(parameter)
        groups |= {f"{name}/{group}": members for group, members in by_group.items() if members}
    return groups
