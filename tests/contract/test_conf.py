"""Every option of every group composes with every stage, and every `_target_` binds its constructor."""

import copy
import functools
import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf
from torch.nn.parallel import DistributedDataParallel

from muomni.cli import ablations
from muomni.frontends.char_vocab import NUM_SYMBOLS
from muomni.run.identity import KEYS, OFF, identity
from muomni.run.stage_graph import command, shared_overrides
from train import validate

CONF = Path(__file__).resolve().parents[2] / "conf"
STAGES = sorted(path.stem for path in (CONF / "stage").glob("*.yaml"))
GROUPS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in CONF.iterdir()
    if folder.is_dir()
    and folder.name
    not in ("stage", "generation", "mel", "experiment", "experiment_stage", "recipe", "search", "codec_training")
}
SIZES = sorted(path.stem for path in (CONF / "size").glob("*.yaml"))
BACKBONES = OmegaConf.to_container(OmegaConf.load(CONF / "backbone.yaml"))
ABLATIONS = ablations.named()
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
#: Whose `**options` go to a class that is no base of theirs.
FORWARDED = {DDPStrategy: DistributedDataParallel}
HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


@pytest.fixture(scope="module", autouse=True)
def _conf():
    """Hydra composes in this folder. Each of its files is parsed once: a fifth of the time of some two hundred compositions."""
    ablations.register()
    parse, parsed = yaml.load, {}

    def load(stream, Loader):
        name = (getattr(stream, "name", None), Loader.__name__)
        if name[0] is None:
            return parse(stream, Loader=Loader)
        if name not in parsed:
            parsed[name] = parse(stream, Loader=Loader)
        return copy.deepcopy(parsed[name])

    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(str(CONF), version_base="1.3"):
        patch.setattr(yaml, "load", load)
        yield


@functools.cache
def _composed(*overrides, config):
    return OmegaConf.to_container(compose(config, overrides=list(overrides)), resolve=False)


def composed(*overrides, config="train"):
    return copy.deepcopy(_composed(*overrides, config=config))


def targets(node, where=""):
    """Every node with a `_target_`, and where it stands."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield where, node
        for key, value in node.items():
            yield from targets(value, f"{where}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from targets(value, f"{where}[{index}]")


def parameters(target):
    """Keyword parameters by name, and whether any other is taken: `**options` stand for those of the bases."""
    taken, open_ended = {}, False
    functions = [c.__init__ for c in target.__mro__ if "__init__" in vars(c)] if inspect.isclass(target) else [target]
    for function in functions:
        signature = inspect.signature(function)
        open_ended = False
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                open_ended = True
            elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name != "self":
                taken.setdefault(parameter.name, parameter)
        if not open_ended:
            break
    return taken, open_ended


def check(node, where):
    target = get_object(node["_target_"])
    given = set(node) - HYDRA_KEYS
    taken, open_ended = parameters(target)
    if target in FORWARDED:
        taken = parameters(FORWARDED[target])[0] | taken
    assert open_ended or given <= set(taken), (
        f"{where}: {node['_target_']} takes no {sorted(given - set(taken))}; it takes {sorted(taken)}"
    )
    if not node.get("_partial_") and not node.get("_args_"):
        own = inspect.signature(target).parameters.values()
        needed = {p.name for p in own if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        assert needed <= given, f"{where}: {node['_target_']} also needs {sorted(needed - given)}"


def check_all(config):
    found = list(targets(config))
    assert found
    for where, node in found:
        check(node, where)


def rounds():
    """All options of all groups in as few compositions as the largest group has options."""
    for number in range(max(len(options) for options in GROUPS.values())):
        chosen = {group: options[number % len(options)] for group, options in GROUPS.items()}
        yield [f"{group}=[{option}]" if group == "logger" else f"{group}={option}" for group, option in chosen.items()]


@pytest.mark.parametrize("stage", STAGES)
def test_every_option_composes_with_every_stage(stage):
    for overrides in rounds():
        check_all(composed(f"stage={stage}", *overrides))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_with_the_stage_that_it_is_for(experiment):
    """And a budget of the command line wins over its steps."""
    config = compose("train", overrides=[f"experiment={experiment}", "budget=ci"])
    assert (config.budget.level, config.trainer.max_steps) == (0, 2)
    check_all(OmegaConf.to_container(config, resolve=False))


@pytest.mark.parametrize(
    ("typed", "steps"),
    [
        ([], (800, 800, 5000, 1500)),
        (["budget=ci"], (2, 2, 2, 2)),
        (["budget=ci", "budget.audio.max_steps=7"], (2, 2, 7, 2)),
    ],
)
def test_a_budget_of_the_command_line_wins_for_what_a_stage_needs_too(typed, steps):
    words = ["experiment=omni_real", "real=DIR", *typed]
    omni = compose("train", overrides=words)
    assert list(omni.stage.needs) == ["thinker", "vision", "audio"]
    needed = [compose("train", overrides=command(stage, words)[2:]) for stage in omni.stage.needs]
    assert tuple(each.trainer.max_steps for each in (*needed, omni)) == steps


@pytest.mark.parametrize("path", sorted((CONF / "experiment_stage").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_one_stage_of_an_experiment_learns_composes(path):
    (stage,) = (each for each in STAGES if path.stem.endswith(f"_{each}"))
    experiment = path.stem.removesuffix(f"_{stage}")
    assert experiment in EXPERIMENTS
    config = composed(f"experiment={experiment}", f"stage={stage}")
    check_all(config)
    assert config["data"]["kind"] in (stage, "${stage.shape}")


@pytest.mark.parametrize("stage", ["thinker", "vision", "omni_sft"])
def test_images_with_captions_are_read_by_every_stage_of_a_model_of_images_and_text(stage):
    """So one command trains what it needs on the same photos."""
    config = compose("train", overrides=["experiment=coco_captions", f"stage={stage}", "coco=DIR"])
    assert config.data.kind == config.stage.shape and config.data.train == "DIR/manifest.jsonl"
    assert list(config.stage.needs) == (["thinker", "vision"] if stage == "omni_sft" else [])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_option_for_a_folder_of_data_reaches_what_the_stage_needs(experiment):
    """Each `${oc.env:MUOMNI_..}` at the top level of an experiment, and no other option of its own."""
    written = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    options = [key for key, value in written.items() if isinstance(value, str) and "${oc.env:MUOMNI_" in value]
    words = [f"experiment={experiment}", *(f"{option}=DIR" for option in options)]
    assert shared_overrides([*words, "optim.lr=1"]) == words
    for option in options:
        assert composed(*words)[option] == "DIR"


def test_every_stage_has_its_export():
    exports = composed()["paths"]["exports"]
    assert set(exports) == set(STAGES) and len(set(exports.values())) == len(STAGES)


def test_an_ablation_of_the_size_that_is_chosen():
    config = composed("ablation=rope_scaling", "size=base")
    assert (config["tag"], config["backbone"]["thinker"]["max_length"]) == ("rope_scaling", 4096)
    assert (
        config["paths"]["exports"] == composed()["paths"]["exports"]
    )  # train.py changes them, of the stages that it changes
    own = composed("ablation=gqa", "tag=quarter", "backbone.thinker.num_kv_heads=1")
    assert (own["tag"], own["backbone"]["thinker"]["num_kv_heads"]) == ("quarter", 1)


@functools.cache
def plain(*overrides):
    return compose("train", overrides=list(overrides))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablation_changes_something_and_builds(ablation):
    changed = False
    for words in (["size=nano"], ["size=base"], ["experiment=reference"]):
        cfg = plain(*words).copy()
        options = ablations.options(ablation, cfg.size) or {}
        before = {key: OmegaConf.select(cfg, key) for key in options}
        for key, value in options.items():
            OmegaConf.update(cfg, key, value)
        if options != before and cfg.size != "base":
            for model in {".".join(key.split(".")[:-1]) for key in options}:
                instantiate(OmegaConf.select(cfg, model), _convert_="all")
        changed |= options != before
    assert changed


@pytest.mark.parametrize("size", SIZES)
def test_ablations_by_number_are_what_they_say(size):
    thinker = yaml.safe_load((CONF / "size" / f"{size}.yaml").read_text())["backbone"]["thinker"]
    heads, grouped = thinker["num_heads"], thinker["num_kv_heads"] < thinker["num_heads"]
    halved, whole, doubled = (ablations.options(name, size) for name in ("gqa", "mha", "rope_scaling"))
    assert (halved and halved["backbone.thinker.num_kv_heads"]) == (None if grouped else heads // 2)
    assert (whole and whole["backbone.thinker.num_kv_heads"]) == (heads if grouped else None)
    assert doubled["backbone.thinker.max_length"] == doubled["backbone.thinker.rope_scaling"] * thinker["max_length"]


def test_an_ablation_is_a_configuration_of_its_own():
    """So that no run goes on from the checkpoint of another."""
    configs = [composed("stage=omni_sft", *ablation) for ablation in ([], ["ablation=moe"], ["ablation=gqa"])]
    assert len({identity(config) for config in configs}) == 3


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_run_computes_from_is_part_of_its_identity(stage):
    """Identities are taken of `${hearing}` and the like as they are written: what they stand for must be among the keys itself.
    Paths are none of it; an4 and fsdd are two."""
    config = composed(f"stage={stage}")
    named = set(re.findall(r"\$\{(\w+)[.}]", json.dumps({key: config.get(key) for key in KEYS})))
    assert named <= {*KEYS, *OFF, "paths", "an4", "fsdd"}


@pytest.mark.parametrize(
    ("stage", "word"),
    [
        ("audio", "hearing.level=-20"), ("omni_sft", "hearing.pause=1"), ("talker", "speakers=[1]"),
        ("talker", "first_codebook=1.0"), ("talker", "judge=elsewhere"), ("vision", "contrastive=global"),
    ],
)  # fmt: skip
def test_another_option_is_another_run(stage, word):
    assert identity(composed(f"stage={stage}")) != identity(composed(f"stage={stage}", word))


@pytest.mark.parametrize("stage", STAGES)
def test_workers_of_the_loader_are_no_part_of_a_runs_identity(stage):
    """The data come in the same order: the same command with other workers goes on. A batch of another size does not."""
    words = ([], ["datamodule.num_workers=3"], ["datamodule.batch_size=3"])
    plain, workers, size = (identity(composed(f"stage={stage}", *word)) for word in words)
    assert plain == workers != size


@pytest.mark.parametrize("mel", sorted(path.stem for path in (CONF / "mel").glob("*.yaml")))
def test_every_spectrogram_is_one_that_the_frontend_takes(mel):
    config = OmegaConf.to_container(OmegaConf.load(CONF / "mel" / f"{mel}.yaml"))
    assert instantiate(config).bins == config["bins"]


def test_loggers_combine():
    config = composed("logger=[csv,tensorboard,wandb]")
    assert set(config["logger"]) == {"csv", "tensorboard", "wandb"}
    check_all(config)


@pytest.mark.parametrize("generation", sorted(path.stem for path in (CONF / "generation").glob("*.yaml")))
def test_every_preset_of_generation_composes(generation):
    assert composed(f"generation={generation}", config="infer")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_train_py_asks_for(stage):
    config = composed(f"stage={stage}")
    assert config["stage"]["name"] == stage
    assert set(config["stage"]) >= {"name", "needs", "shape", "monitor", "world"}
    assert set(config["stage"]["needs"]) <= set(STAGES) - {stage}
    assert config["stage"]["shape"] in GROUPS["data"]
    assert config["stage"]["monitor"].startswith(f"{stage}/")
    assert set(config["stage"]["world"]) - {"replay", "text"} == {"train", "val", "test"}
    assert config["module"]["_partial_"] is config["datamodule"]["_partial_"] is True


@pytest.mark.parametrize("budget", GROUPS["budget"])
def test_every_budget_knows_every_stage(budget):
    config = composed(f"budget={budget}")["budget"]
    assert {stage for stage in STAGES if config[stage]["max_steps"] > 0} == set(STAGES)


@pytest.mark.parametrize("size", SIZES)
def test_a_size_gives_the_numbers_that_the_backbones_leave_open_and_no_others(size):
    """So that two sizes are compared by looking at their two files."""

    def open_ones(node, where=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from open_ones(value, f"{where}{key}.")
            else:
                yield f"{where}{key}", value

    given = {key for key, _ in open_ones(yaml.safe_load((CONF / "size" / f"{size}.yaml").read_text())["backbone"])}
    assert given - {"vision.stem_patch"} == {key for key, value in open_ones(BACKBONES) if value == "???"}
    assert list(composed(f"size={size}")["backbone"]) == list(BACKBONES)


@pytest.mark.parametrize("size", SIZES)
def test_the_reader_knows_all_characters(size):
    assert composed(f"size={size}")["backbone"]["ocr"]["num_symbols"] == NUM_SYMBOLS


def test_all_stages_and_sizes_are_there():
    assert set(STAGES) == {"thinker", "vision", "audio", "codec", "talker", "omni_sft", "ocr", "vocoder"}
    assert set(SIZES) == {"nano", "tiny", "small", "base"}


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_option_is_reached(path):
    """An option that lies in no group of these tests is one that nobody composes."""
    group = path.relative_to(CONF).parts
    others = ("stage", "generation", "mel", "experiment", "experiment_stage", "recipe", "search", "codec_training")
    assert len(group) == 1 or group[0] in (*GROUPS, *others)


@pytest.mark.parametrize("option", ["accumulate_grad_batches=0", "log_every_n_steps=0", "gradient_clip_val=-1"])
def test_a_trainer_that_could_not_train_is_refused(option):
    """A negative norm to clip to would climb the loss, zero would learn nothing, both in silence."""
    with pytest.raises(ValueError, match=rf"^trainer\.{option}: "):
        validate(compose("train", overrides=[f"trainer.{option}"]))


#: How much of its data a stage uses, and in which order: what it does with data that nobody tuned it for.
WHOLLY = {
    "thinker": {"train_share": 1.0, "answer_weight": 1.0},
    "vision": {"probe_pictures": None},
    "audio": {"speakers": None, "test_kinds": None},
    "codec": {"speakers": None, "test_kinds": None},
    "talker": {"speakers": None, "test_kinds": None},
    "vocoder": {"test_kinds": None, "test_clips": None},
    "omni_sft": {"shares": None, "questions_per_row": 1, "curriculum": None, "replay_kinds": None},
    "ocr": {},
}
WORLDS = {
    "thinker": {"train_share": 0.5, "answer_weight": 2.0},
    "vision": {"probe_pictures": 2000},
    "talker": {"speakers": [0], "test_kinds": ["sentence"]},
    "omni_sft": {
        "shares": {"caption": 1.0, "asr": 0.5, "spoken_image_qa": 0.5, "audio_qa": 0.2, "text_qa": 0.6, "tts": 0.3},
        "questions_per_row": 9, "curriculum": {"caption": 0.75, "replay": 0.11}, "replay_kinds": {"caption": 0.1, "story": 0.3},
    },
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_tuned_for_the_world_never_touches_other_data(stage):
    """The demo's numbers (conf/recipe) reach its own data alone; other data is used wholly, each row once, in any order."""
    worlds = compose("train", overrides=[f"stage={stage}", "budget=demo"])
    others = compose("train", overrides=[f"stage={stage}", "budget=demo", f"data={worlds.stage.shape}"])
    for cfg, wanted in ((others, WHOLLY[stage]), (worlds, WHOLLY[stage] | WORLDS.get(stage, {}))):
        datamodule = OmegaConf.to_container(cfg.datamodule, resolve=True)
        assert {name: datamodule[name] for name in wanted} == wanted, cfg.data.kind


def test_an_option_of_the_command_line_wins_over_the_worlds_recipe():
    how = [
        "stage=omni_sft",
        "datamodule.questions_per_row=2",
        "datamodule.shares={tts: 0.3}",
        "datamodule.curriculum.caption=1",
    ]
    datamodule = compose("train", overrides=how).datamodule
    assert (datamodule.questions_per_row, datamodule.shares.tts, datamodule.curriculum.caption) == (2, 0.3, 1)
    mine = compose("train", overrides=["stage=omni_sft", "data=sft", "datamodule.shares={mine: 0.3}"]).datamodule
    assert dict(mine.shares) == {"mine": 0.3}


def test_every_recipe_is_one_of_a_stage_and_a_sort_of_data():
    pairs = {f"{stage}_{data}" for stage in STAGES for data in GROUPS["data"]}
    assert {path.stem for path in (CONF / "recipe").glob("*.yaml")} <= pairs
