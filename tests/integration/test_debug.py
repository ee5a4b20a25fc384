"""`debug=` runs train a little, and leave a trained model as it was."""

from pathlib import Path

from tests.conftest import BUDGET, run_script


def test_its_export_goes_to_the_run_folder(tmp_path: Path) -> None:
    trained = tmp_path / "checkpoints" / "thinker" / "kept.txt"
    trained.parent.mkdir(parents=True)
    trained.write_text("weeks of training")
    few = ("trainer.max_steps=4", "callbacks.profile.warm_up=1", "callbacks.profile.steps=2")
    done = run_script("train.py", "stage=thinker", *BUDGET, "debug=profile", *few, f"paths.root={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(trained.parent.iterdir()) == [trained]
    (export,) = tmp_path.glob("runs/thinker/*/export")
    assert (export / "config.yaml").exists() or list(export.glob("*.safetensors"))
    assert (export.parent / "profile" / "operations.txt").is_file()
