"""Thinkers of Hugging Face folders, in and out.

    from_hf(folder)         the Thinker, in memory
    plan_thinker(folder)    what it holds, checked, before a tensor is read (importing.py writes an export of it)
    to_hf(thinker)          config.json and tensors; what came in leaves bit by bit the same

Which families there are is said in `thinker_families.py`, how their tensors are called in `thinker_keys.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from muomni.checkpoints.assembly import assemble, first_broken, outline
from muomni.interop.hf.folder import CONFIG, HFFolder
from muomni.interop.hf.thinker_families import FAMILIES, Options, canonical, complete, config_of, options_of
from muomni.interop.hf.thinker_keys import Source, sources, stored_name, stored_prefix
from muomni.models.thinker import Thinker
from muomni.short_repr import shown

#: Entry of config.json for an import of ours alone: {"qk_norm_eps": E}, where the family has no such epsilon.
OWN = "muomni"


@dataclass(frozen=True, slots=True)
class ThinkerPlan:
    """What a folder holds, before a tensor is read: model_type, all options of the Thinker, and what each of its tensors is made
    of. max_length: that of the folder, which the options may shorten."""

    folder: HFFolder
    model_type: str
    options: Options
    sources: dict[str, Source]
    max_length: int

    @property
    def description(self) -> dict[str, Any]:
        """As in model.yaml."""
        return {"part": "thinker", "options": self.options}

    def shapes(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Our keys -> shape and dtype of the file."""
        own = _outline(self.options, where=str(self.folder.path))
        return {key: (tuple(own[key].shape), self._dtype(source)) for key, source in self.sources.items()}

    def _dtype(self, source: Source) -> torch.dtype:
        first, *others = (self.folder.tensors.dtype(name) for name in source.all_names())
        for other in others:
            first = torch.promote_types(first, other)
        return first

    def read(self, key: str) -> Tensor:
        """A tensor of ours. Raises ValueError where it is not finite."""
        tensor = self.sources[key].join(self.folder.tensors.__getitem__)
        if OWN in self.folder.config:
            tensor = _with_factor({key: tensor}, self.options, 1 / _qk_factor(self.options))[key]
        broken = first_broken({key: tensor})
        if broken is not None:
            names = ", ".join(self.sources[key].all_names()[:3])
            raise ValueError(f"{self.folder.path}: {broken} ({names}): the model is broken")
        return tensor

    def dtype_name(self) -> str:
        """The dtype that most of its tensors have, as `bfloat16`."""
        found = [str(dtype).removeprefix("torch.") for _, dtype in self.shapes().values()]
        return max(sorted(set(found)), key=found.count)


def plan_thinker(folder: HFFolder, *, max_length: int | None = None) -> ThinkerPlan:
    """Check a folder against what its config.json describes. max_length: a shorter longest sequence.

    Raises ValueError naming the file and the key.
    """
    where = str(folder.path / CONFIG)
    kind, options = options_of(folder.config, where=where)
    options = options | _own_options(folder.config, where=where)
    longest = options["max_length"]
    if max_length is not None:
        if max_length > longest or options["learned_positions"]:
            raise ValueError(f"max_length={max_length}: {where} has {longest}, and that of a model can only be shortened "
                             "where its positions are not learned")  # fmt: skip
        options = options | {"max_length": max_length}
    names = FAMILIES[kind].names
    prefix = stored_prefix(names, folder.tensors)
    own = _outline(options, where=where)
    found = sources(names, own, options)
    stored = {
        key: replace(source, names=tuple(tuple(stored_name(n, names, prefix) for n in each) for each in source.names))
        for key, source in found.items()
    }
    expected = {
        name: tuple(tensor.shape) for key, source in stored.items() for name, tensor in source.split(own[key]).items()
    }
    heads = [stored_name(name, names, prefix) + ".weight" for name in names.layers["head"]]
    folder.check(expected, surplus=(*names.unused, *(head.replace(".", r"\.") for head in heads if options["tied"])))
    _check_tied(folder, options, heads[0], stored["embedding.weight"].names[0][0])
    return ThinkerPlan(folder, kind, options, stored, longest)


def _own_options(config: Mapping[str, Any], *, where: str) -> Options:
    own = config.get(OWN, {})
    epsilon = own.get("qk_norm_eps") if isinstance(own, Mapping) else None
    if own and (type(epsilon) is not float or not 0 < epsilon < 1 or set(own) != {"qk_norm_eps"}):
        raise ValueError(f"{where}: {OWN}={shown(own)} was not written by this version of muomni")
    return dict(own)


def _outline(options: Mapping[str, Any], *, where: str) -> dict[str, Tensor]:
    return outline({"part": "thinker", "options": options}, tensors=None, where=where).state_dict()


def _check_tied(folder: HFFolder, options: Options, head: str, embedding: str) -> None:
    if options["tied"] and head in folder.tensors and not torch.equal(folder.tensors[head], folder.tensors[embedding]):
        raise ValueError(
            f"{folder.tensors.files[head]}: {head} is not {embedding}, but {CONFIG} has tie_word_embeddings=true: set it to false"
        )


def from_hf(folder: HFFolder, *, max_length: int | None = None) -> Thinker:
    """The Thinker of a folder, in float32 and eval mode. Raises ValueError naming what does not fit."""
    plan = plan_thinker(folder, max_length=max_length)
    state = {key: plan.read(key) for key in plan.sources}
    module = assemble(plan.description, state, where=str(folder.path), weights=str(folder.path))
    assert isinstance(module, Thinker)
    return module


def to_hf(thinker: Thinker, model_type: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and tensors of a Thinker, as transformers saves them. model_type: of which family; None is the first that has
    all its options.

    Raises ValueError naming the options that no family, or this one, has. Norms of queries and keys with an epsilon of their own
    become those of the family by a power of two in their projections, which is undone without loss: norm(c x) with e is norm(x)
    with e / c ** 2.
    """
    options = canonical(complete(vars(thinker)["options"]))
    kind, config = config_of(options, model_type)
    state = {key: value.detach() for key, value in thinker.state_dict().items()}
    if options["qk_norm"] and options["qk_norm_eps"] != options["norm_eps"]:
        state = _with_factor(state, options, _qk_factor(options))
        config[OWN] = {"qk_norm_eps": options["qk_norm_eps"]}
    tensors: dict[str, Tensor] = {}
    for key, source in sources(FAMILIES[kind].names, state, options).items():
        tensors |= source.split(state[key])
    return config, tensors


def _qk_factor(options: Options) -> float:
    """The power of two next to the root of how much larger the family's epsilon is than that of queries and keys."""
    return float(2.0 ** round(math.log2(options["norm_eps"] / options["qk_norm_eps"]) / 2))


def _with_factor(state: dict[str, Tensor], options: Options, factor: float) -> dict[str, Tensor]:
    """Queries and keys multiplied by it."""
    heads, kv_heads = options["num_heads"], options["num_kv_heads"]
    changed = dict(state)
    for key, value in state.items():
        if ".attention.qkv." in key:
            width = value.shape[0] // (heads + 2 * kv_heads)
            rows = width * (heads + kv_heads)
            changed[key] = torch.cat((value[:rows] * factor, value[rows:]))
    return changed
