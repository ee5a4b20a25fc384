"""A small world that the tests of this folder share."""

from pathlib import Path

import pytest

from datamodules.world import WorldSpec, build_world

SMALLEST = {
    "text_bytes": 20_000, "text_eval_documents": 20, "train_pictures": 60, "eval_pictures": 8,
    "train_writings": 12, "eval_writings": 6, "speech_utterances": 10,
    "narrator_utterances": 6, "speech_val": 4, "speech_test": 8, "instructions": 120, "instruction_val": 20,
    "instruction_questions": 4, "instruction_tests": 3,
}  # fmt: skip


@pytest.fixture(scope="session")
def spec() -> WorldSpec:
    return WorldSpec.of("ci", **SMALLEST)


@pytest.fixture(scope="session")
def root(spec: WorldSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built world."""
    pytest.importorskip("espeakng_loader", reason="speech of the world needs the extra `world`")
    return build_world(spec, tmp_path_factory.mktemp("data"), workers=0)
