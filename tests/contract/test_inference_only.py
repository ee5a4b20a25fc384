"""Running a model needs none of what training needs: muomni/inference/requirements.txt is enough."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ("lightning", "torchmetrics", "wandb", "matplotlib", "tqdm")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def required(package):
    lines = (ROOT / "muomni" / package / "requirements.txt").read_text().splitlines()
    return sorted(line for line in lines if not line.startswith("#"))


def test_the_requirements_are_the_packages_own_less_those_of_training():
    own = [line for line in PROJECT["dependencies"] if re.split(r"[<>=]", line)[0] not in TRAINING]
    assert required("inference") == sorted(own)
    assert required("serving") == sorted(PROJECT["optional-dependencies"]["serve"])


def test_models_are_run_and_served_without_them():
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAINING}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import infer, serve, muomni.serving.app
from muomni import load_model
model = load_model({str(ROOT / "tests" / "fixtures" / "export_0_1")!r}, device="cpu")
assert model.generate("what colour", max_new_tokens=2) is not None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
