"""Every stage on a GPU that the CPU pretends to be, by Lightning's loop with the configured callbacks: trained, validated,
exported and tested. A CPU tensor among the GPU's raises, and what makes the host wait is counted by line.

One wait a step is allowed: the guards' verdict (callbacks/step_guard.py), which decides whether the optimizer steps. An audio
encoder that learns has one more: the words that it reads now, which the host turns into the Thinker's tokens. What a run pays
once (a clip's first alignment, codebooks that start, the doctor's look at the first batch) falls on the first step; the last
one shows the bar, and begins a validation.
"""

from collections import Counter
from pathlib import Path

import pytest
import torch

from muomni.checkpoints.export import load_export
from tests.device.fake_cuda import fake_cuda
from tests.device.loop import STEPS, VAL_BATCHES, Batches, Waits, make_trainer
from tests.device.stages import STAGES, build, composed, folder  # noqa: F401
from train import write_export

VERDICT = "tolist at callbacks/step_guard.py"
WORDS = "tolist at muomni/frontends/char_vocab.py"
#: Of every `make test`: each stage once. `make test-all` runs the variants too.
QUICK = [(stage,) for stage in STAGES]
VARIANTS = [
    ("thinker", "backbone.thinker.num_experts=4"),
    ("thinker", "optim=adamw", "callbacks=ema"),
    ("thinker", "optim=adamw8bit"),
    ("thinker", "optim=lion"),
    ("thinker", "optim=schedule_free", "schedule=constant"),
    ("thinker", "activation_checkpointing=true", "label_smoothing=0.1"),
    ("vision", "module.score=global"),
    ("omni_sft", "backbone.thinker.num_experts=4"),
    ("omni_sft", "module.lr_multipliers.vision=0.1", "module.lr_multipliers.audio=0.1"),
    ("omni_sft", "adapter=lora"),
]


def without_lines(waits: dict[str, int]) -> dict[str, int]:
    """Waits, "what at file:line" -> how often, by what and file."""
    counts: Counter[str] = Counter()
    for where, count in waits.items():
        counts[where.rpartition(":")[0]] += count
    return dict(counts)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in VARIANTS)], ids=" ".join
)
def test_a_stage_keeps_to_its_device_and_waits_for_the_verdict_alone(case: tuple[str, ...], folder: Path) -> None:  # noqa: F811
    torch.manual_seed(0)  # else a step may be refused, by what other tests drew before: that is logged, which is a wait
    stage, _, make = build(folder, *case)
    run = folder / "-".join(case).replace("/", "_")
    words = [WORDS] if "module.lr_multipliers.audio=0.1" in case else []
    with fake_cuda() as gpu:
        waits = Waits(gpu)
        trainer = make_trainer(composed(folder, *case), waits, run)
        trainer.fit(stage, datamodule=Batches(make))
        assert len(waits.steps) == STEPS
        for step in waits.steps[1:-1]:
            assert without_lines(step) == dict.fromkeys([*words, VERDICT], 1), step
        assert [without_lines(each) for each in waits.validation] == [dict.fromkeys(words, 1)] * VAL_BATCHES
        assert all(parameter.device.type == "cpu" for parameter in stage.parameters()), "training has ended"
        write_export(stage, run / "export", {})
        trainer.test(stage, datamodule=Batches(make), verbose=False)
    assert stage.results
    assert all(value == value for value in stage.results.values())
    for name, module in load_export(run / "export").modules.items():
        weights = (stage.export_modules() | stage.bundled_modules())[name].state_dict()
        assert all(torch.equal(tensor, weights[key]) for key, tensor in module.state_dict().items())
