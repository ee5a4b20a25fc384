"""The commands `muomni-train` and `muomni-infer` of an installed package.

Each runs the package's `train.py` or `infer.py` as a script in the same process: so the package's folder, not the
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
