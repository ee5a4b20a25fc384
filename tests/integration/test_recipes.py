"""The recipes for public data, each on five rows in the layout that people download: two steps of what its command does.

What a stage needs first is of the line of all stages, where that is quick; the slow test trains it by the recipe, too.
"""

from pathlib import Path

import pytest

import train
from muomni.checkpoints.export import load_export
from muomni.cli import ablations
from muomni.cli.composition import compose_words
from muomni.experiment_data import all_data_options
from tests.integration import recipe_data

TINY = (
    "size=nano", "budget=ci", "trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.limit_val_batches=1",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "schedule.warmup_steps=1", "prerequisites=error", "resume=never",
    "callbacks.progress=null", "datamodule.num_workers=0", "datamodule.batch_size=2", "backbone.talker.max_frames=25",
)  # fmt: skip
SHARES = f"data.split_shares={{val: {recipe_data.SHARES['val']}, test: {recipe_data.SHARES['test']}}}"
IMAGES = (
    "backbone.vision={image_size: 16, patch: 8, stem_channels: [8], stem_patch: 4, dim: 16, num_layers: 1, num_heads: 2, "
    "ff_dim: 16}",
    "backbone.projector.image_head.grid=2", "vocab_size=300",
)  # fmt: skip
TEXT = ("vocab_size=300", "datamodule.length=16", "datamodule.eval_batch_size=4")
SPEECH = (
    "backbone.audio.dim=16",
    "backbone.audio.ff_dim=16",
    "backbone.audio.num_layers=1",
    "backbone.audio.channels=4",
)
CONV = (
    "image_encoder.widths=[8,16]", "image_encoder.stem_width=8", "backbone.vision.dim=16", "vocab_size=300",
)  # fmt: skip
#: Recipe -> its stage, what makes it tiny, and a metric that it must have.
RECIPES = {
    "librispeech": ("audio", *SPEECH, "audio/other/wer"),
    "common_voice": ("audio", *SPEECH, "audio/test/cer"),
    "ljspeech": ("talker", SHARES, "talker/test/cer"),
    "vctk": ("talker", SHARES, "talker/test/cer"),
    "coco2017": ("vision", *IMAGES, "vision/val2017/r1_image_to_text"),
    "flickr8k": ("vision", *IMAGES, "vision/test/r1_text_to_image"),
    "cifar100": ("vision", *CONV, "vision/test/accuracy"),
    "tinystories": ("thinker", *TEXT, "thinker/validation/loss"),
    "wikitext103": ("thinker", *TEXT, "thinker/test/loss"),
    "fineweb_edu": ("thinker", *TEXT, SHARES, "thinker/test/loss"),
    "llava": ("omni_sft", "backbone/vision=nano", SHARES, "datamodule.pack=192", "omni_sft/test/chat"),
}  # fmt: skip
REAL = (
    "backbone/vision=nano",
    "backbone.projector.image.grid=3",
    "data.instruct.limit=3",
    "module.evaluator.max_new_tokens=4",
)
#: Recipe -> what is trained one after the other, each as above.
CHAINS = {
    "ljspeech": [
        ("audio", SHARES, "audio/test/cer"), ("codec", SHARES, "codec/test/cer_resynthesis"),
        ("talker", SHARES, "talker/test/cer"),
    ],
    "coco2017": [
        ("thinker", "vocab_size=300", "thinker/val2017/loss"), ("vision", *IMAGES, "vision/val2017/r1_image_to_text"),
        ("omni_sft", *IMAGES, "backbone.projector.image={grid: 2, cell: 1}", "omni_sft/val2017/image_caption"),
    ],
    "llava": [
        ("thinker", *TEXT, SHARES, "thinker/test/loss"), ("vision", *IMAGES, "vision/val2017/r1_image_to_text"),
        (
            "omni_sft", *IMAGES, SHARES, "datamodule.pack=192", "backbone.projector.image={grid: 2, cell: 1}",
            "omni_sft/test/chat",
        ),
    ],
    "omni_real": [
        ("thinker", "vocab_size=300", "thinker/test/loss"), ("vision", *CONV, "vision/cifar10/accuracy"),
        ("audio", "audio/an4/wer"), ("omni_sft", "backbone.vision.dim=16", *REAL[2:], "omni_sft/test/word_shuffled"),
    ],
}  # fmt: skip


def trained(recipe: str, root: Path, stage: str, *more: str) -> dict[str, float]:
    """The metrics of what the recipe's command does for one of its stages, in this process."""
    data = root / "downloaded"
    if not data.is_dir():
        getattr(recipe_data, {"coco2017": "coco"}.get(recipe, recipe))(data)
    *tiny, metric = more
    words = [
        f"experiment={recipe}",
        f"stage={stage}",
        *(f"{option}={data}" for option in all_data_options()[recipe]),
        f"paths.root={root}",
        *TINY,
        *tiny,
    ]
    ablations.register()
    metrics = train.run(compose_words(words), output=root / stage, overrides=words)
    assert metric in metrics, (stage, sorted(metrics))
    assert (root / "checkpoints" / recipe / stage / "model.safetensors").is_file()
    return metrics


def false_alarms(caplog) -> list[str]:
    """What was said against data that is as it should be."""
    said = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    return [line for line in said if "validation reads the rows of training" in line or line.startswith("data,")]


def exports_of(line: Path, *stages: str) -> list[str]:
    return [f"paths.exports.{stage}={line}/checkpoints/{stage}" for stage in stages]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_reads_its_data_as_downloaded_and_trains(recipe, tmp_path, request, caplog):
    stage, *words = RECIPES[recipe]
    needs = {"talker": ("audio", "codec"), "omni_sft": ("thinker", "vision")}.get(stage)
    found = exports_of(request.getfixturevalue("line"), *needs) if needs else []
    trained(recipe, tmp_path, stage, *found, *words)
    assert not false_alarms(caplog)


def test_omni_real_joins_what_is_trained_on_real_data_by_conversations_of_its_labels(tmp_path, line):
    """And measures each skill without its picture or recording, and with another's, in wordings of training and in others."""
    found = exports_of(line, "thinker", "vision", "audio")
    metrics = trained("omni_real", tmp_path, "omni_sft", *found, *REAL, "omni_sft/known/asr_wer")
    for split in ("test", "wording"):
        for name in ("image_object", "image_caption", "asr_wer", "word"):
            assert {f"omni_sft/{split}/{name}{control}" for control in ("", "_blind", "_shuffled")} <= metrics.keys()
    made = (tmp_path / "data" / "instruct" / "omni_real").glob("*.jsonl")
    assert {path.stem for path in made} == {"train", "val", "test", "test_wording"}


def test_half_an_hour_of_a_reader_trains_a_talker_that_durations_guide(tmp_path, line):
    metrics = trained("half_hour", tmp_path, "talker", *exports_of(line, "audio", "codec"), "talker/test/cer")
    assert {"talker/test/duration_ratio", "talker/test/truncated"} <= metrics.keys()
    talker = load_export(tmp_path / "checkpoints" / "half_hour" / "talker", ["talker"]).modules["talker"]
    assert talker.alignment == "durations"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", CHAINS)
def test_every_stage_of_a_recipe_reads_its_own_data(recipe, tmp_path, caplog):
    for words in CHAINS[recipe]:
        trained(recipe, tmp_path, *words)
    assert not false_alarms(caplog)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_what_it_needs_and_that_it_was_not_run(recipe):
    text = (train.CONF / "experiment" / f"{recipe}.yaml").read_text()
    page = (train.CONF.parent / "docs" / "data" / "recipes.md").read_text()
    option = next(name for name in all_data_options()[recipe])
    said = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    for part in (
        "Not run",
        "its author expects",
        "A100",
        f"experiment={recipe}",
        f"{option}=F",
        f"MUOMNI_{option.upper()}",
    ):
        assert part in said, part
    for part in (f"experiment={recipe}", f"`{option}=`", f"`MUOMNI_{option.upper()}`"):
        assert part in page, part
