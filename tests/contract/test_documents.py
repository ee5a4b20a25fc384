"""What the documents say is so: the tree, the commands, the names of metrics."""

import ast
import json
import re
import runpy

import pytest
import yaml

from datamodules.world.spec import PRESETS, WorldSpec
from tests.contract.tree import BEGIN, END, PAGE, ROOT, tracked, tree

README = ROOT / "README.md"


def test_the_tree_is_that_of_the_files():
    """Files by name, options of conf/ by group; what a file says of itself may have been reworded since."""

    def names(text):
        lines = [line for line in text.strip().splitlines() if not line.startswith("```")]
        return [line if " | " in line else re.match(r" *\S+", line).group() for line in lines]

    shown = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    assert names(shown) == names(tree()), "files have changed: run  python -m tests.contract.tree"


def test_the_tree_names_every_folder_and_file_of_the_top_level():
    shown = tree()
    for name in tracked():
        top = name.split("/")[0]
        assert re.search(rf"^{re.escape(top)}", shown, flags=re.MULTILINE), name


def test_readme_has_a_line_for_each_folder():
    folders = {name.split("/")[0] for name in tracked() if "/" in name and not name.startswith(".")}
    assert [folder for folder in folders if f"\n{folder}/ " not in README.read_text()] == []


def test_the_drawing_is_what_its_command_draws():
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))["drawing"]()
    assert (ROOT / "docs" / "architecture.svg").read_text() == drawn


def test_readme_opens_with_demo_and_test():
    commands = re.findall(r"^    (\S.*)$", README.read_text(), flags=re.MULTILINE)
    assert [command.split("#")[0].strip() for command in commands[:3]] == [
        "make demo", "make test", "python train.py stage=omni_sft"
    ]  # fmt: skip


def test_make_targets_exist_and_explain_themselves():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## \S", text, flags=re.MULTILINE))
    assert targets >= {"setup", "demo", "train", "test", "test-all", "lint", "type", "bench"}


@pytest.mark.parametrize(
    "path", [README, *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_links_and_named_files_exist(path):
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)\)", text):
        assert link.startswith("http") or (path.parent / link).exists(), link
    for name in re.findall(r"`((?:muomni|datamodules|callbacks|conf|tests|docs|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def patterns():
    """The names of docs/metrics.md: first cells of its tables, <x> standing for any word.

    Lines for any metric of foreign manifests are left out: they would explain everything.
    """
    names = re.findall(r"^\| `([^`]+/[^`]+)`", (ROOT / "docs" / "metrics.md").read_text(), flags=re.MULTILINE)
    names = [name for name in names if not re.search(r"/<split>/<\w+>$", name)]
    assert len(names) > 40
    pieces = [re.split(r"(<\w+>)", name) for name in names]
    return [re.compile("".join(r"\w+" if p.startswith("<") else re.escape(p) for p in parts)) for parts in pieces]


def explained(name):
    """Whether a line of its own explains a name; endings have theirs."""
    base = re.sub(r"_(majority|blind|shuffled|typed|before|pairs|low|high|mean|median|capped)$", "", name)
    return any(pattern.fullmatch(variant) for pattern in patterns() for variant in (name, base))


def test_every_metric_that_a_goal_is_about_is_explained():
    goals = yaml.safe_load((ROOT / "muomni" / "report" / "goals.yaml").read_text())
    assert [name for goal in goals for name in goal["metrics"] if not explained(name)] == []


@pytest.mark.parametrize("stage", ["thinker", "vision", "audio", "codec", "talker", "omni_sft"])
def test_every_metric_of_a_run_is_explained_and_every_goal_is_measured(line, stage):
    (path,) = (line / "runs" / stage).glob("*/metrics.json")
    metrics = json.loads(path.read_text())
    assert [name for name in metrics if not explained(name)] == []
    goals = yaml.safe_load((ROOT / "muomni" / "report" / "goals.yaml").read_text())
    asked = [name for goal in goals if goal["stage"] == stage for name in goal["metrics"]]
    assert [name for name in asked if name not in metrics] == []


@pytest.mark.parametrize("stage", ["thinker", "vision", "audio", "codec", "talker", "omni_sft"])
def test_every_column_of_a_training_is_explained(line, stage):
    (path,) = (line / "runs" / stage).glob("*/metrics.csv")
    columns = path.read_text().splitlines()[0].split(",")
    assert [name for name in columns if name not in ("epoch", "step") and not explained(name)] == []


def loss_names(path):
    """The strings in a stage's `loss_names`."""
    for node in ast.walk(ast.parse(path.read_text())):
        targets = [ast.unparse(target) for target in getattr(node, "targets", [])]
        if isinstance(node, ast.Assign) and {"loss_names", "self.loss_names", "self.codebook_names"} & {*targets}:
            strings = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            yield from (string for string in strings if re.fullmatch(r"[a-z_0-9]+", string))


#: Names that are made of a number.
FAMILIES = {"codebook_": "codebook_<k>"}


def test_every_named_loss_is_explained():
    text = (ROOT / "docs" / "metrics.md").read_text()
    named = re.sub(r"\s+", " ", text[text.index("Named losses:") : text.index("## thinker")])
    found = {name: path.stem for path in (ROOT / "muomni" / "stages").glob("*.py") for name in loss_names(path)}
    assert {"next_token", "ctc", "global", "answer", "stop", "mel"} <= found.keys()
    assert [name for name in found if f"`{FAMILIES.get(name, name)}`" not in named] == []


def test_the_worlds_sizes_are_those_of_its_presets():
    text = (ROOT / "docs" / "world.md").read_text()
    for preset in PRESETS:
        spec = WorldSpec.of(preset)
        (row,) = re.findall(rf"^\| {preset} \|(.*)$", text, flags=re.MULTILINE)
        numbers = {int(number.replace(" ", "")) for number in re.findall(r"\d+(?: \d{3})*", row)}
        speech = {spec.speech_utterances, spec.narrator_utterances}
        sums = {spec.speech_utterances + spec.narrator_utterances}
        size = spec.text_bytes // (10**6 if spec.text_bytes >= 10**6 else 10**3)
        assert {size, spec.train_pictures, spec.image_size, spec.instructions} <= numbers
        assert speech <= numbers or sums <= numbers
