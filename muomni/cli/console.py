"""The commands `muomni-train`, `muomni-infer` and `muomni-serve` of an installed package.

Each runs the package's `train.py`, `infer.py` or `serve.py` as a script in the same process: so the package's folder, not the
user's, comes first on the import path, and further processes of a run are started the same way.
"""

import os
import sys
from typing import NoReturn

from muomni.program import ROOT


def train() -> NoReturn:
    """Entry point of muomni-train."""
    os.execv(sys.executable, [sys.executable, str(ROOT / "train.py"), *sys.argv[1:]])


def infer() -> NoReturn:
    """Entry point of muomni-infer."""
    os.execv(sys.executable, [sys.executable, str(ROOT / "infer.py"), *sys.argv[1:]])


def serve() -> NoReturn:
    """Entry point of muomni-serve."""
    os.execv(sys.executable, [sys.executable, str(ROOT / "serve.py"), *sys.argv[1:]])
