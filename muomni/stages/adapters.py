"""Adapters in a stage: which layers get one, what is frozen then, and plain layers again for the export.

Layers are named as in an export, `<module>.<path>`: `thinker.transformer.blocks.0.attention.qkv` in stage=thinker and in
stage=omni_sft alike. A module of the export that has an adapted layer learns nothing but its adapters, and what `train` names;
modules without one learn as they would. A training checkpoint holds the whole state, frozen weights and adapters apart, so that
a run resumes exactly and needs no other file; whoever reads a checkpoint as a model gets it merged
(checkpoints/single_file.py).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from muomni.checkpoints.atomic_write import atomic_folder
from muomni.nn.lora import LAYERS, PREFIX, DoRALinear, LoRALinear

SHOWN = 6  # names in an error
PEFT_FILES = ("adapter_model.safetensors", "adapter_config.json")


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """`adapter=lora` or `adapter=dora` of a configuration.

    method: lora | dora. rank, alpha: an update B A is scaled by alpha / rank, or, `rank_stabilized`, by alpha / sqrt(rank)
    (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732). dropout: of what the update reads.
    targets: regular expression that is searched for in the names of linear layers.
    train: the same over parameters (norms, embeddings) that learn as well; None: none do.
    start_step: the optimizer step from which the adapters learn; before it the stage's other modules learn alone.
    save_to: a folder for the adapters alone, as peft reads them, a folder in it for each module; None: only the merged export.
    """

    method: str
    rank: int
    alpha: float
    rank_stabilized: bool
    dropout: float
    targets: str
    train: str | None
    start_step: int
    save_to: str | None

    def __post_init__(self) -> None:
        if self.method not in LAYERS:
            raise ValueError(f"adapter.method={self.method}: available are {', '.join(LAYERS)}")
        for name, least in (("rank", 1), ("start_step", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"adapter.{name}={value}: a whole number, at least {least}")
        if not (_is_number(self.alpha) and self.alpha > 0):
            raise ValueError(f"adapter.alpha={self.alpha}: a number above 0; the update is scaled by alpha / rank")
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise ValueError(f"adapter.dropout={self.dropout}: a number from 0 to below 1")
        if self.save_to is not None and self.train is not None:
            raise ValueError(
                f"adapter.save_to={self.save_to}: the adapters alone lack what adapter.train={self.train} trains"
            )

    @property
    def scale(self) -> float:
        """Of the update."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    def metadata(self) -> dict[str, Any]:
        """What a resumed run must agree with."""
        names = ("method", "rank", "targets", "train")
        return {name: getattr(self, name) for name in names} | {"scale": float(self.scale)}

    def apply(self, stage: Any) -> None:
        """Put adapters into a stage, in place, and freeze what they stand for. Raises ValueError naming the option for a layer
        that cannot have one."""
        stage.freeze_modules()
        layers = dict(_linear_layers(stage))
        chosen = _matching("targets", self.targets, layers, of=f"linear layer of stage={stage.name}")
        owners = Counter(id(p) for module in stage.modules() for p in module.parameters(recurse=False))
        for name in chosen:
            self._check(name, layers[name], shared=owners[id(layers[name].weight)] > 1, stage=stage)
        modules = stage.export_modules()
        for name in chosen:
            module, _, path = name.partition(".")
            layer = LAYERS[self.method](layers[name], rank=self.rank, scale=self.scale, dropout=self.dropout)
            _replace(modules[module], path, layer)
        adapted = {name: modules[name] for name in dict.fromkeys(name.partition(".")[0] for name in chosen)}
        stage.adapter, stage.frozen_parameters = self, self._freeze(adapted)
        stage.train(stage.training)  # what is frozen stays in evaluation mode

    def _check(self, name: str, layer: nn.Module, *, shared: bool, stage: Any) -> None:
        where, weight = f"adapter.targets={self.targets}", layer.weight
        if type(layer) is not nn.Linear or not weight.is_floating_point():  # type: ignore[operator]
            quantized = "" if weight.is_floating_point() else f", quantized to {weight.dtype}"  # type: ignore[operator]
            raise ValueError(
                f"{where}: {name} is a {type(layer).__name__}{quantized}; adapters need plain linear layers of floating-point "
                "weights: leave it out of the expression"
            )
        if not weight.requires_grad:
            raise ValueError(
                f"{where}: {name} is frozen in stage={stage.name}: leave it out of the expression, or let its module learn by a "
                "rate above 0 (module.lr_multipliers)"
            )
        if shared:
            raise ValueError(
                f"{where}: {name} shares its weight with another layer, which an adapter would change as well: leave it out of "
                "the expression (or backbone.thinker.tied=false)"
            )
        if self.rank > min(layer.in_features, layer.out_features):
            raise ValueError(
                f"adapter.rank={self.rank} is larger than {name} ({layer.in_features} -> {layer.out_features}): at most "
                f"{min(layer.in_features, layer.out_features)}, or leave the layer out of adapter.targets"
            )
        if self.method == "dora" and not weight.device.type == "meta" and not bool(weight.any(dim=1).all()):  # type: ignore[operator]
            raise ValueError(f"{where}: {name} has rows of zeros, which DoRA cannot scale to a length: adapter=lora")

    def _freeze(self, adapted: dict[str, nn.Module]) -> list[nn.Parameter]:
        """Returns what is frozen now."""
        others = {
            f"{name}.{key}": parameter
            for name, module in adapted.items()
            for key, parameter in module.named_parameters()
            if not key.rpartition(".")[2].startswith(PREFIX)
        }
        kept = [] if self.train is None else _matching("train", self.train, others, of="parameter of an adapted module")
        for name in kept:
            others.pop(name).requires_grad_(True)
        for parameter in others.values():
            parameter.requires_grad_(False)
        return list(others.values())


def merge(stage: Any) -> None:
    """Plain layers in place of a stage's adapted ones, with the updates in their weights. Without adapters it does nothing."""
    if stage.adapter is None:
        return
    for name, module in stage.export_modules().items():
        found = {path: layer for path, layer in module.named_modules() if isinstance(layer, LoRALinear)}
        if found and stage.adapter.save_to is not None:
            save_for_peft(Path(stage.adapter.save_to) / name, found, stage.adapter)
        for path, layer in found.items():
            _replace(module, path, layer.merged())
    stage.adapter = None


def save_for_peft(folder: Path, layers: dict[str, LoRALinear], adapter: Adapter) -> None:
    """Write a module's adapters alone, in peft's format: `PeftModel.from_pretrained(module, folder)` puts them into the plain
    module."""
    tensors: dict[str, Tensor] = {}
    for path, layer in layers.items():
        tensors |= {f"{path}.lora_A.weight": layer.lora_a, f"{path}.lora_B.weight": layer.lora_b}
        if isinstance(layer, DoRALinear):
            tensors[f"{path}.lora_magnitude_vector"] = layer.lora_magnitude
    config = {
        "peft_type": "LORA", "r": adapter.rank, "lora_alpha": adapter.alpha, "use_rslora": adapter.rank_stabilized,
        "use_dora": adapter.method == "dora", "lora_dropout": adapter.dropout, "bias": "none", "inference_mode": True,
        "target_modules": sorted(layers), "base_model_name_or_path": None,
    }  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, own=PEFT_FILES) as temporary:
        named = {f"base_model.model.{key}": value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        save_file(named, temporary / PEFT_FILES[0], metadata={"format": "pt"})
        (temporary / PEFT_FILES[1]).write_text(json.dumps(config, indent=2) + "\n")


def _linear_layers(stage: Any) -> Iterator[tuple[str, Any]]:
    for name, module in stage.export_modules().items():
        for path, layer in module.named_modules():
            if path and isinstance(layer, nn.Linear):
                yield f"{name}.{path}", layer


def _matching(option: str, expression: str, names: Iterable[str], *, of: str) -> list[str]:
    """The names in which the expression is found. Raises ValueError where there are none."""
    names = list(names)
    try:
        found = [name for name in names if re.search(expression, name)]
    except (re.error, TypeError) as error:
        raise ValueError(f"adapter.{option}={expression}: not a regular expression: {error}") from error
    if not found:
        alike: dict[str, str] = {}
        for name in names:
            alike.setdefault(re.sub(r"\d+", "0", name), name)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ValueError(
            f"adapter.{option}={expression}: no {of} matches; there are {', '.join([*alike.values()][:SHOWN])}{more}"
        )
    return found


def _replace(module: nn.Module, path: str, layer: nn.Module) -> None:
    owner, _, leaf = path.rpartition(".")
    setattr(module.get_submodule(owner), leaf, layer)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
