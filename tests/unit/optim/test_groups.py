"""Every trained parameter in exactly one group; what decays are matrices that are no embeddings."""

import pytest
from torch import nn

from muomni.models.thinker import Thinker
from muomni.optim.groups import parameter_groups


def thinker(**options):
    return Thinker(
        vocab_size=32,
        dim=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        ff_dim=24,
        max_length=16,
        qk_norm=True,
        **options,
    )


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"num_experts": 4}])
def test_each_parameter_once(options):
    model = thinker(**options)
    groups = parameter_groups([("thinker", model, 1.0)], weight_decay=0.1)
    chosen = [id(p) for group in groups for p in group["params"]]
    assert sorted(chosen) == sorted({id(p) for p in model.parameters()})


def test_matrices_decay_vectors_and_embeddings_do_not():
    model = thinker()
    decays = {
        id(p): group["weight_decay"]
        for group in parameter_groups([("thinker", model, 1.0)], weight_decay=0.1)
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        expected = 0.0 if parameter.dim() == 1 or name == "embedding.weight" else 0.1
        assert decays[id(parameter)] == expected, name


def test_a_parameter_shared_by_two_parts_belongs_to_the_first():
    shared, second = nn.Linear(3, 3, bias=False), nn.Module()
    second.inner, second.own = shared, nn.Linear(3, 2, bias=False)
    groups = parameter_groups([("a", shared, 1.0), ("b", second, 0.1)], weight_decay=0.1)
    assert [(g["name"], g["lr_scale"], len(g["params"])) for g in groups] == [
        ("a/matrices", 1.0, 1),
        ("b/matrices", 0.1, 1),
    ]
    assert groups[1]["params"][0] is second.own.weight


def test_frozen_parameters_are_left_out_and_nothing_to_train_is_an_error():
    layer = nn.Linear(3, 3)
    layer.weight.requires_grad_(False)
    (group,) = parameter_groups([("a", layer, 1.0)], weight_decay=0.1)
    assert group["params"][0] is layer.bias
    layer.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter is frozen"):
        parameter_groups([("a", layer, 1.0)], weight_decay=0.1)


def test_muon_takes_hidden_matrices_but_no_head():
    model = thinker()
    groups = parameter_groups([("thinker", model, 1.0)], weight_decay=0.1)
    matrices = {id(p) for group in groups if group["matrices"] for p in group["params"]}
    assert id(model.head.weight) not in matrices
    assert id(model.embedding.weight) not in matrices
    assert id(model.transformer.blocks[0].mlp.down.weight) in matrices


def test_matrices_of_experts_are_stacked_and_their_router_is_a_head():
    model = thinker(num_experts=4)
    mlp = model.transformer.blocks[0].mlp
    groups = {group["name"]: group for group in parameter_groups([("thinker", model, 1.0)], weight_decay=0.1)}
    experts = groups["thinker/experts"]
    assert {id(p) for p in experts["params"]} >= {id(mlp.experts.gate_up), id(mlp.experts.down)}
    assert len(experts["params"]) == 4 and experts["matrices"] and experts["stacked"]
    assert experts["weight_decay"] == 0.1
    assert id(mlp.router.weight) in {id(p) for p in groups["thinker/heads"]["params"]}
    assert not groups["thinker/matrices"]["stacked"]
