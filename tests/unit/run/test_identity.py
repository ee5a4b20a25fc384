"""What decides a run's result. Runs of version 0.1 are recognised, and only those that trained the same."""

import copy
import shutil

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from muomni import aliases
from muomni.checkpoints.export import save_export
from muomni.cli.errors import CONF
from muomni.models.vision import VisionTransformer
from muomni.report.trainings import SETTING
from muomni.run.identity import identities_of_0_1, identity, is_up_to_date, origins

#: A Talker's run, reduced: `module` as 0.1 wrote it to .hydra/config.yaml, and as it is today.
SHARED = """
paths: {root: ., output: "${hydra:runtime.output_dir}"}
stage: {name: talker}
budget: {name: demo, BUDGET: 1}
optim: {lr: 0.003}
trainer: {max_steps: 650, accelerator: auto}
judge: {_target_: muomni.inference.RECOGNIZER.from_export, folder: "${paths.root}/checkpoints/audio", batch_size: 32}
vocoder: {_target_: muomni.inference.tts.griffin_lim.GriffinLim, iterations: 32}
datamodule: {batch_size: 32, num_workers: NUMBER}
seed: 0
"""
FORMER = """
module:
  _target_: muomni.stages.talker.TalkerStage
  codec: {_target_: muomni.checkpoints.load_export, folder: "${paths.root}/checkpoints/codec", parts: [codec]}
  judge: ${judge}
  vocoder: ${vocoder}
  voice: {_target_: muomni.inference.speech.Speaker, vocoder: "${vocoder}"}
  answers: 100
  optimizer: ${optim}
  weight_decay: 0.1
"""
TODAY = """
module:
  _target_: muomni.stages.talker.TalkerStage
  codec: {_target_: muomni.checkpoints.export.load_export, folder: "${paths.root}/checkpoints/codec", modules: [codec]}
  aligner: {_target_: muomni.evaluation.judge.Judge, folder: "${judge.folder}", load: "${judge}"}
  evaluator:
    _target_: muomni.evaluation.talker.TalkerEvaluator
    judge: {_target_: muomni.evaluation.judge.Judge, folder: "${judge.folder}", load: "${judge}"}
    vocoder: ${vocoder}
    answers: 100
  training:
    _target_: muomni.stages.training_options.TrainingOptions
    optimizer: ${optim}
    weight_decay: 0.1
"""


def written(text, **names):
    for old, new in names.items():
        text = text.replace(old, new)
    return yaml.safe_load(text)


@pytest.fixture
def today():
    return written(SHARED + TODAY, BUDGET="level", RECOGNIZER="asr.recognizer.Recognizer", NUMBER="4")


@pytest.fixture
def runs(tmp_path):
    """Folders of two finished runs: of version 0.1, and of today with another identity."""
    former = written(SHARED + FORMER, BUDGET="rank", RECOGNIZER="recognise.Recogniser", NUMBER="0")
    other = written(SHARED + TODAY, BUDGET="level", RECOGNIZER="asr.recognizer.Recognizer", NUMBER="0")
    for name, config in (("former", former), ("other", other)):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
        (tmp_path / name / "identity.txt").write_text(f"{name}\n")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "identity.txt").write_text("no configuration was written")
    return tmp_path


def test_a_run_of_0_1_that_trained_the_same_is_recognised(runs, today):
    former = yaml.safe_load((runs / "former" / ".hydra" / "config.yaml").read_text())
    assert identity(former) != identity(today)
    assert identities_of_0_1(runs, today) == {"former"}
    assert identities_of_0_1(runs / "nowhere", today) == set()


@pytest.mark.parametrize(
    "key", ["optim.lr", "seed", "module.training.weight_decay", "module.codec.folder", "judge.folder", "budget.level",
            "module.evaluator.answers", "trainer.max_steps"],
)  # fmt: skip
def test_another_value_is_another_run(runs, today, key):
    changed = copy.deepcopy(today)
    *parents, last = key.split(".")
    node = changed
    for name in parents:
        node = node[name]
    node[last] = "other" if isinstance(node[last], str) else node[last] + 1
    assert identities_of_0_1(runs, changed) == set()
    assert identities_of_0_1(runs, today | {"ema": None, "callbacks": {"ema": {"decay": 0.9}}}) == set()


def test_what_a_saved_configuration_lacks_is_no_error(runs, today):
    file = runs / "former" / ".hydra" / "config.yaml"
    file.write_text(file.read_text().replace("${optim}", "${gone}"))
    assert identities_of_0_1(runs, today) == set()
    assert aliases.flattened({"a": {"b": 1, "c": {}}}) == {"a.b": 1, "a.c": {}}


def test_seed_and_folders_are_no_part_of_the_setting():
    """What trainings of several seeds have in common (muomni/report/trainings.py)."""

    def setting(*words):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides=["stage=omni_sft", *words])
        return identity(OmegaConf.to_container(cfg, resolve=False), SETTING)

    assert setting() == setting("seed=3", "paths.root=seeds/3", "trainer.devices=1")
    assert setting() != setting("optim.lr=0.5")


def test_an_export_is_kept_while_those_that_it_was_made_from_are_the_same(tmp_path):
    folders = {stage: tmp_path / stage for stage in ("audio", "codec", "talker")}

    def export(stage, **run):
        part = VisionTransformer(image_size=8, patch=4, dim=8, num_layers=1, num_heads=2, ff_dim=16)
        save_export(folders[stage], {"vision": part}, metadata={"stage": stage, "run": run}, files={})

    def now():
        return {"identity": "mine", "data": {}, "from": origins(["audio", "codec"], folders)}

    export("audio", identity="a")
    assert set(now()["from"]) == {"audio"}, "the codec is not there yet"
    export("codec", identity="c")
    export("talker", **now())
    before = now()
    assert is_up_to_date(folders["talker"], before, set())
    export("audio", identity="a")
    assert now() == before, "the same training again"
    export("audio", identity="other")
    assert not is_up_to_date(folders["talker"], now(), set())
    shutil.rmtree(folders["audio"])
    assert is_up_to_date(folders["talker"], now(), set()), "what is not there is not compared"
    export("talker", identity="mine", data={})
    assert is_up_to_date(folders["talker"], before, set()), "an earlier version did not note them"


def test_a_talkers_newer_options_are_no_part_of_a_run_that_leaves_them_off():
    """Runs of before, which lack them, are resumed and their exports kept, of every stage."""

    def config(*words):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return OmegaConf.to_container(compose("train", overrides=list(words)), resolve=False)

    def before(saved):
        for key in ("reads", "pattern", "text_dropout", "speaker_vector", "conditioning", "state_width"):
            del saved["backbone"]["talker"][key]
        if saved["stage"]["name"] == "talker":
            del saved["datamodule"]["references"], saved["module"]["reference_share"], saved["module"]["states"]
            del saved["module"]["evaluator"]["voice"]["options"]
        return saved

    for stage in ("thinker", "talker"):
        words = f"stage={stage}"
        assert identity(config(words)) == identity(before(config(words)))
        for change in (
            "reads=phonemes",
            "pattern=depth",
            "text_dropout=0.1",
            "speaker_vector=true",
            "conditioning=both",
        ):
            assert identity(config(words, f"backbone.talker.{change}")) != identity(config(words))
    for change in ("module.reference_share=1.0", "module.evaluator.voice.options.guidance=2"):
        assert identity(config("stage=talker", change)) != identity(config("stage=talker"))
