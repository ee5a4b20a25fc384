"""Which parameter takes Muon's step and which AdamW's, by stage: the whole table."""

import re
from pathlib import Path

import pytest

from muomni.optim.groups import parameter_groups
from tests.unit.optim.parts import stages

CONF = Path(__file__).parents[3] / "conf"

# Norms and biases are vectors everywhere, and are left out here.
TABLE = {
    "thinker": {
        "matrices": """
            transformer.blocks.N.attention.out.weight
            transformer.blocks.N.attention.qkv.weight
            transformer.blocks.N.mlp.down.weight
            transformer.blocks.N.mlp.gate_up.weight
        """,
        "heads": """
            head.weight
        """,
        "vectors": """
            embedding.weight
            transformer.blocks.N.attention.short_conv.weight
        """,
    },
    "thinker, tied mixture": {
        "matrices": """
            transformer.blocks.N.attention.out.weight
            transformer.blocks.N.attention.qkv.weight
        """,
        "experts": """
            transformer.blocks.N.mlp.experts.down
            transformer.blocks.N.mlp.experts.gate_up
        """,
        "heads": """
            transformer.blocks.N.mlp.router.weight
        """,
        "vectors": """
            embedding.weight
            transformer.blocks.N.attention.short_conv.weight
        """,
    },
    "vision": {
        "matrices": """
            model.stem.convs.N.weight
            model.stem.first.weight
            model.stem.project.weight
            model.transformer.blocks.N.attention.out.weight
            model.transformer.blocks.N.attention.qkv.weight
            model.transformer.blocks.N.mlp.down.weight
            model.transformer.blocks.N.mlp.up.weight
            text_tower.transformer.blocks.N.attention.out.weight
            text_tower.transformer.blocks.N.attention.qkv.weight
            text_tower.transformer.blocks.N.mlp.down.weight
            text_tower.transformer.blocks.N.mlp.gate_up.weight
        """,
        "heads": """
            image_head.pooled_head.weight
            image_head.token_head.weight
            text_tower.pooled_head.weight
            text_tower.token_head.weight
        """,
        "vectors": """
            model.cls
            model.positions
            text_tower.embedding.weight
        """,
    },
    "audio": {
        "matrices": """
            encoder.stem.convs.N.weight
            encoder.stem.proj.weight
            encoder.transformer.blocks.N.attention.out.weight
            encoder.transformer.blocks.N.attention.qkv.weight
            encoder.transformer.blocks.N.mlp.down.weight
            encoder.transformer.blocks.N.mlp.up.weight
        """,
        "heads": """
            head.weight
        """,
        "vectors": """
            encoder.transformer.blocks.N.conv.conv.weight
        """,
    },
    "codec": {
        "matrices": """
            decoder.blocks.N.mlp.down.weight
            decoder.blocks.N.mlp.up.weight
            decoder.proj_in.weight
            encoder.blocks.N.mlp.down.weight
            encoder.blocks.N.mlp.up.weight
            encoder.proj_in.weight
        """,
        "heads": """
            decoder.proj_out.weight
            encoder.proj_out.weight
        """,
        "vectors": """
            decoder.blocks.N.conv.conv.weight
            encoder.blocks.N.conv.conv.weight
            quantizer.codebooks
        """,
    },
    "codec, waveforms": {
        "matrices": """
            decoder.blocks.N.mlp.down.weight
            decoder.blocks.N.mlp.up.weight
            decoder.proj_in.weight
            encoder.blocks.N.mlp.down.weight
            encoder.blocks.N.mlp.up.weight
            encoder.proj_in.weight
            quantizer.proj_in.weight
            synthesis.blocks.N.mlp.down.weight
            synthesis.blocks.N.mlp.up.weight
            synthesis.proj_in.weight
        """,
        "heads": """
            decoder.proj_out.weight
            encoder.proj_out.weight
            quantizer.proj_out.weight
            synthesis.proj_out.weight
        """,
        "vectors": """
            decoder.blocks.N.conv.weight
            encoder.blocks.N.conv.weight
            synthesis.blocks.N.conv.weight
        """,
    },
    "codec, one layer": {
        "matrices": """
            encoder.proj.weight
        """,
        "heads": """
            decoder.proj.weight
        """,
        "vectors": """
            quantizer.codebooks
        """,
    },
    "talker": {
        "matrices": """
            text.blocks.N.mlp.down.weight
            text.blocks.N.mlp.up.weight
            transformer.blocks.N.attention.out.weight
            transformer.blocks.N.attention.qkv.weight
            transformer.blocks.N.mlp.down.weight
            transformer.blocks.N.mlp.gate_up.weight
        """,
        "heads": """
            heads.N.weight
        """,
        "vectors": """
            code_embedding.weight
            start
            stop.weight
            text.blocks.N.conv.conv.weight
            text.embedding.weight
            text.speaker.weight
            text.step.weight
        """,
    },
    "omni_sft": {
        "matrices": """
            audio.encoder.stem.convs.N.weight
            audio.encoder.stem.proj.weight
            audio.encoder.transformer.blocks.N.attention.out.weight
            audio.encoder.transformer.blocks.N.attention.qkv.weight
            audio.encoder.transformer.blocks.N.mlp.down.weight
            audio.encoder.transformer.blocks.N.mlp.up.weight
            audio_projector.layers.N.weight
            image_projector.layers.N.weight
            thinker.transformer.blocks.N.attention.out.weight
            thinker.transformer.blocks.N.attention.qkv.weight
            thinker.transformer.blocks.N.mlp.down.weight
            thinker.transformer.blocks.N.mlp.gate_up.weight
            vision.stem.project.weight
            vision.transformer.blocks.N.attention.out.weight
            vision.transformer.blocks.N.attention.qkv.weight
            vision.transformer.blocks.N.mlp.down.weight
            vision.transformer.blocks.N.mlp.up.weight
        """,
        "heads": """
            audio.head.weight
            thinker.head.weight
        """,
        "vectors": """
            audio.encoder.transformer.blocks.N.conv.conv.weight
            image_projector.positions
            thinker.embedding.weight
            thinker.transformer.blocks.N.attention.short_conv.weight
            vision.cls
            vision.positions
        """,
    },
    "ocr": {
        "matrices": """
            bridge.weight
            decoder.transformer.blocks.N.attention.out.weight
            decoder.transformer.blocks.N.attention.qkv.weight
            decoder.transformer.blocks.N.mlp.down.weight
            decoder.transformer.blocks.N.mlp.gate_up.weight
            vision.stem.convs.N.weight
            vision.stem.first.weight
            vision.stem.project.weight
            vision.transformer.blocks.N.attention.out.weight
            vision.transformer.blocks.N.attention.qkv.weight
            vision.transformer.blocks.N.mlp.down.weight
            vision.transformer.blocks.N.mlp.up.weight
        """,
        "heads": """
            decoder.head.weight
        """,
        "vectors": """
            decoder.embedding.weight
            vision.cls
            vision.positions
        """,
    },
    "vocoder": {
        "matrices": """
            backbone.blocks.N.mlp.down.weight
            backbone.blocks.N.mlp.up.weight
            backbone.proj_in.weight
        """,
        "heads": """
            backbone.proj_out.weight
        """,
        "vectors": """
            backbone.blocks.N.conv.conv.weight
        """,
    },
    "vocoder, discriminators": {
        "vectors": """
            members.N.convolutions.last.parametrizations.weight.original0
            members.N.convolutions.last.parametrizations.weight.original1
            members.N.convolutions.layers.N.parametrizations.weight.original0
            members.N.convolutions.layers.N.parametrizations.weight.original1
        """,
    },
}


@pytest.mark.parametrize("stage", TABLE)
def test_every_parameter_goes_where_the_table_says(stage):
    module = stages()[stage]
    groups = {g["name"].removeprefix("/"): g for g in parameter_groups([("", module, 1.0)], weight_decay=0.1)}
    names = {id(parameter): re.sub(r"\.\d+\.", ".N.", key) for key, parameter in module.named_parameters()}
    found = {kind: {names[id(parameter)] for parameter in group["params"]} for kind, group in groups.items()}
    found["vectors"] = {key for key in found["vectors"] if not re.search(r"bias$|norm", key)}
    assert found == {kind: set(keys.split()) for kind, keys in TABLE[stage].items()}
    assert {kind for kind, group in groups.items() if group["matrices"]} <= {"matrices", "experts"}
    assert {kind for kind, group in groups.items() if not group["weight_decay"]} <= {"vectors"}


def test_the_table_has_every_stage():
    assert set(TABLE) == set(stages())
    assert {name.split(",")[0] for name in TABLE} == {path.stem for path in (CONF / "stage").glob("*.yaml")}
