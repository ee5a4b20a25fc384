"""Operations of a step by formula against torch's counter, for every stage at the smallest size."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_backward_flop

from tests.device.stages import build, folder  # noqa: F401

CASES = [
    *((stage,) for stage in ("thinker", "vision", "audio", "codec", "talker", "ocr", "vocoder", "omni_sft")),
    ("talker", "backbone.talker.alignment=durations", "backbone.talker.pattern=depth"),
    ("talker", "backbone.talker.pattern=delay"),
    pytest.param(("vision", "module.score=global"), marks=pytest.mark.slow),
    pytest.param(
        ("omni_sft", "module.lr_multipliers.vision=0.1", "module.lr_multipliers.audio=0.1"), marks=pytest.mark.slow
    ),
]


def grouped_backward(*shapes: Any, out_shape: Any, **_: Any) -> int:
    """torch's formula, whose gradient of grouped weights (depthwise convolutions) is too large by the number of groups."""
    *others, groups, (to_input, to_weight, _bias) = shapes
    count = conv_backward_flop.__wrapped__
    input_alone = count(*others, groups, [to_input, False, False], out_shape)
    return input_alone + count(*others, groups, [False, to_weight, False], out_shape) // groups


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_formula_is_what_torch_counts(
    case: tuple[str, ...],
    folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, _, make = build(folder, *case)
    monkeypatch.setattr(type(stage), "global_step", property(lambda self: 10**9))  # discriminators have joined in
    stage.log = stage.log_dict = lambda *_, **__: None
    stage.train()
    batch = make(True)
    batch.precompute()
    if case != ("omni_sft",):
        stage.total_loss(stage.step(batch))  # a clip's alignment, codebooks that start: once a run
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: grouped_backward})
    # What is fused on a CPU is not counted: products one by one are.
    with sdpa_kernel(SDPBackend.MATH), counter:
        stage.total_loss(stage.step(batch)).backward()
    assert stage.step_cost(batch).flops == pytest.approx(counter.get_total_flops(), rel=0.05)
