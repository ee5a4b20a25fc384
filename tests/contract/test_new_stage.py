"""The example of docs/architecture.md, "A new stage": its four files, as they stand there, make a stage that learns."""

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import lightning
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from muomni.cli.errors import CONF

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Its files by path, written below a folder; its modules can be imported."""
    section = (ROOT / "docs/architecture.md").read_text().split("## A new stage")[1].split("\n## ")[0]
    files = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", section, flags=re.DOTALL))
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.endswith(".py"):
            module_name = name.removesuffix(".py").replace("/", ".")
            spec = importlib.util.spec_from_file_location(module_name, path)
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, module_name, module)
            package = importlib.import_module(module_name.rpartition(".")[0])
            monkeypatch.setattr(package, "document", module, raising=False)
            spec.loader.exec_module(module)
    return files


def test_the_example_is_a_stage_that_learns(example, tmp_path):
    packages = ["muomni/stages", "muomni/evaluation", "datamodules", "conf/stage"]
    assert sorted(str(Path(name).parent) for name in example) == sorted(packages)
    assert sum(len(text.splitlines()) for text in example.values()) <= 85
    for split in ("train", "test"):
        rows = [{"id": f"{n}", "kind": "sum", "text": f"{n} + {n} = {2 * n}"} for n in range(16)]
        rows += [{"id": f"s{n}", "kind": "story", "text": "the cat sat on the mat" + n * "."} for n in range(16)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        search = f"hydra.searchpath=[file://{tmp_path}/conf]"
        cfg = compose("train", overrides=["stage=document", f"paths.root={tmp_path}", search])
    lightning.seed_everything(0, verbose=False)
    manifests = {"train": f"{tmp_path}/train.jsonl", "val": f"{tmp_path}/test.jsonl"}
    data = instantiate(cfg.datamodule, _convert_="all")(**manifests, test={"test": f"{tmp_path}/test.jsonl"})
    stage = instantiate(cfg.module, _convert_="all")(**data.metadata())
    trainer = lightning.Trainer(
        max_steps=cfg.trainer.max_steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
        default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(stage, datamodule=data)
    trainer.test(stage, datamodule=data, verbose=False)
    assert stage.results == {"document/test/accuracy": 100.0}
