"""The library of espeak-ng: where its data is."""

import importlib
from pathlib import Path

import pytest

from muomni.frontends import espeak

pytest.importorskip("espeakng_loader", reason="pip install 'muomni[world]'")


def test_a_long_data_path_is_linked_to_a_short_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = espeak.data_path()
    long = tmp_path / ("x" * 100) / ("y" * 100)
    long.parent.mkdir()
    long.symlink_to(real)

    class Loader:
        @staticmethod
        def get_data_path() -> str:
            return str(long)

    monkeypatch.setattr(importlib, "import_module", lambda name: Loader)
    short = espeak.data_path.__wrapped__()
    assert len(short) <= espeak.LONGEST_DATA_PATH
    assert (Path(short) / "voices").is_dir()
