"""How a user runs muomni: by the scripts of a checkout, or by the commands of an installed package. For help and errors."""

from pathlib import Path

#: Holds conf/, train.py, infer.py and serve.py: the checkout, or the site-packages folder that the wheel was installed into.
ROOT = Path(__file__).resolve().parents[1]
INSTALLED = not (ROOT / "pyproject.toml").is_file()
PROGRAMS = ("train", "infer", "serve")
TRAIN, INFER, SERVE = (f"muomni-{name}" if INSTALLED else f"python {name}.py" for name in PROGRAMS)
