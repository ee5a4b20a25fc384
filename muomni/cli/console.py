"""The commands `muomni-train` and `muomni-infer` of an installed package.

Each runs the package's `train.py` or `infer.py` as a script in the same process: so the package's folder, not the
user's, comes first on the import path, and further processes of a run are started the same way.
"""

import os
import sys

from muomni.program import ROOT


def train() -> None:
    """Entry point of muomni-train; does not return."""
    _become("train.py")


def infer() -> None:
    """Entry point of muomni-infer; does not return."""
    _become("infer.py")


def _become(script: str) -> None:
    os.execv(sys.executable, [sys.executable, str(ROOT / script), *sys.argv[1:]])
