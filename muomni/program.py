"""How a user runs muomni: by the scripts of a checkout, or by the commands of an installed package. For help and errors."""

from pathlib import Path

#: Holds conf/, train.py and infer.py: the checkout, or the site-packages folder that the wheel was installed into.
ROOT = Path(__file__).resolve().parents[1]
INSTALLED = not (ROOT / "pyproject.toml").is_file()
TRAIN, INFER = ("muomni-train", "muomni-infer") if INSTALLED else ("python train.py", "python infer.py")
