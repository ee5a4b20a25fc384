"""Who may import whom: the table in docs/architecture.md against every import statement."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from muomni.checkpoints.export import save_export
from muomni.models.projector import ImageProjector
from muomni.models.vision import VisionTransformer

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ("lightning", "hydra", "omegaconf", "fastapi")
OURS = ("muomni", "datamodules", "callbacks")
#: Packages of pure maths: torch, the standard library, and these.
PURE = {
    "muomni.nn": {"torch", "einops"},
    "muomni.models": {"torch", "einops", "transformers"},  # the last where a model is built of its classes
    "muomni.losses": {"torch"},
    "muomni.optim": {"torch"},
}


def read_table():
    """Package -> what it may import, as the document says."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split("## Who may import whom")[1].split("\n## ")[0]
    table = {}
    for line in re.findall(r"^    (\S.*)$", section, flags=re.MULTILINE):
        package, rest = line.split(maxsplit=1)
        ours, _, frameworks = rest.partition("[")
        names = [name.strip() for name in ours.split(",") if name.strip() not in ("", "-")]
        allowed = {name if name.split(".")[0] in OURS else f"muomni.{name}" for name in names}
        table[package] = allowed | {name.strip() for name in frameworks.rstrip("]").split(",") if name.strip()}
    return table


TABLE = read_table()
#: Package -> packages inside it that have a line of their own: what is outside of them does not import them.
INNER = {package: [name for name in TABLE if name.startswith(f"{package}.")] for package in TABLE}


def sources(package):
    """Its files, but for those of packages inside it that the document lists, too."""
    path = ROOT / package.replace(".", "/")
    inner = [ROOT / name.replace(".", "/") for name in TABLE if name.startswith(f"{package}.")]
    if not path.is_dir():
        return [path.with_suffix(".py")]
    return sorted(each for each in path.rglob("*.py") if not any(each.is_relative_to(folder) for folder in inner))


def imports(path):
    """Every module that a file imports, with the names of `from` imports appended."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def within(name, package):
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", TABLE)
def test_a_package_imports_what_the_document_says(package):
    wrong = []
    for path in sources(package):
        for name, line in imports(path):
            watched = name.split(".")[0] in (*OURS, *FRAMEWORKS) and name != "muomni.__version__"
            own = within(name, package) and not any(within(name, inner) for inner in INNER.get(package, ()))
            if watched and not own and not any(within(name, allowed) for allowed in TABLE[package]):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert not wrong, f"{package} may import {sorted(TABLE[package])}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("package", TABLE)
def test_the_document_allows_nothing_that_is_not_there(package):
    for allowed in TABLE[package]:
        if allowed.split(".")[0] in OURS:
            path = ROOT / allowed.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), allowed


def test_every_file_belongs_to_a_package():
    listed = {path for package in TABLE for path in sources(package)}
    everything = {path for top in OURS for path in (ROOT / top).rglob("*.py")}
    outside = {ROOT / "muomni" / "__init__.py", ROOT / "muomni" / "distributed" / "__init__.py"}
    assert everything - listed == outside


@pytest.mark.parametrize("package", PURE)
def test_pure_packages_need_torch_alone(package):
    for path in sources(package):
        for name, line in imports(path):
            top = name.split(".")[0]
            assert top in PURE[package] | {"muomni"} | sys.stdlib_module_names, f"{path}:{line}: {name}"


def test_audio_files_are_opened_in_one_place():
    """The server writes to clients while the Talker speaks; the world's workers start without torch."""
    found = [
        path.relative_to(ROOT).as_posix()
        for package in TABLE
        for path in sources(package)
        if any(within(name, "soundfile") for name, _ in imports(path))
    ]
    assert found == [
        "muomni/frontends/audio_io.py",
        "muomni/serving/audio_format.py",
        "datamodules/world/speech.py",
    ]


def test_inference_loads_neither_lightning_nor_hydra():
    code = (
        "import pkgutil, importlib, sys, muomni, muomni.inference as package\n"
        "[importlib.import_module(f'muomni.inference.{m.name}') for m in pkgutil.iter_modules(package.__path__)]\n"
        "muomni.load_model\n"
        f"print(sorted(set({[*FRAMEWORKS, 'datamodules', 'callbacks']}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_loading_a_model_waits_for_no_compiler(tmp_path):
    """torch's compiler and its sharded tensors take twice as long to import as all else that an answer needs."""
    modules = {
        "vision": VisionTransformer(image_size=16, patch=8, dim=16, num_layers=1, num_heads=2, ff_dim=16),
        "image_projector": ImageProjector(dim=16, out_dim=16, image_tokens="grid", grid=2, cell=4, positions=0.5),
    }
    metadata = {"stage": "vision", "image": {"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}}
    whole = save_export(tmp_path / "export", modules, files={}, metadata=metadata)
    slow = ("torch._dynamo", "torch.distributed.tensor", "sympy")
    code = (
        "import sys\nfrom muomni.checkpoints.export import load_export\nfrom muomni.inference.load import load_model\n"
        f"load_model({str(ROOT / 'tests/fixtures/export_0_1')!r})\nload_export({str(whole)!r})\n"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_importing_has_no_side_effects():
    """No seeding, thread counts, or output when a module is imported."""
    code = (
        "import torch, random, lightning\n"  # rich, which Lightning loads where it is installed, draws a number
        "state = lambda: (torch.get_rng_state().sum(), random.getstate(), torch.get_num_threads())\n"
        "torch.manual_seed(5); random.seed(5); before = state()\n"
        "import muomni.stages.thinker, muomni.inference, muomni.report.tables, datamodules.text, callbacks.samples\n"
        "assert before == state()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
