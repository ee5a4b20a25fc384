"""The layout of a dashboard covers what runs log, and reaches TensorBoard."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from callbacks import dashboard
from callbacks.panels import PANELS, custom_scalars

ROOT = Path(__file__).resolve().parents[3]


def test_every_metric_while_training_has_a_panel():
    text = (ROOT / "docs" / "metrics.md").read_text().split("## While training")[1].split("\n## ")[0]
    names = re.findall(r"^\| `(<stage>/train/[^`]+)`", text, flags=re.MULTILINE)
    words = {
        "<stage>": "audio",
        "total_<name>": "total_flops",
        "<name>": "ctc",
        "<module>": "encoder",
        "<phase>": "data",
    }
    filled = names
    for word, instead in words.items():
        filled = [name.replace(word, instead) for name in filled]
    assert len(filled) > 15
    assert [name for name in filled if not dashboard.covered(name) and name != "audio/train/too_short"] == []


def test_without_a_login_it_is_a_file_for_tensorboard(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dashboard, "logged_in", lambda: False)
    dashboard.main(["project=p", f"out={tmp_path}/new/dashboard.json"])
    assert json.loads((tmp_path / "new" / "dashboard.json").read_text()) == json.loads(json.dumps(custom_scalars()))
    assert "nobody is logged in" in capsys.readouterr().out


def test_the_layout_goes_into_logs(tmp_path, monkeypatch, capsys):
    from torch.utils.tensorboard import SummaryWriter

    monkeypatch.setattr(dashboard, "logged_in", lambda: False)
    with pytest.raises(ValueError, match="no TensorBoard logs there"):
        dashboard.main([f"runs={tmp_path}", f"out={tmp_path}/d.json"])
    with SummaryWriter(str(tmp_path / "run" / "tensorboard")) as writer:
        writer.add_scalar("audio/train/loss", 1.0, 0)
    dashboard.main([f"runs={tmp_path}", f"out={tmp_path}/d.json"])
    assert len(list(tmp_path.rglob("*.layout"))) == 1


def test_with_a_login_a_workspace_is_saved(monkeypatch, capsys):
    saved = []

    class Workspace(SimpleNamespace):
        def save(self):
            saved.append(self)
            return SimpleNamespace(url="https://wandb.ai/me/p?nw=1")

    workspaces, reports = ModuleType("wandb_workspaces.workspaces"), ModuleType("wandb_workspaces.reports.v2")
    workspaces.Workspace = Workspace
    workspaces.Section = reports.LinePlot = SimpleNamespace
    monkeypatch.setitem(sys.modules, "wandb_workspaces", ModuleType("wandb_workspaces"))
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", workspaces)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", ModuleType("wandb_workspaces.reports"))
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", reports)
    monkeypatch.setattr(dashboard, "logged_in", lambda: True)
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: True)
    dashboard.main(["project=p", "entity=me"])
    assert [section.name for section in saved[0].sections] == list(PANELS)
    assert "https://wandb.ai/me/p" in capsys.readouterr().out


def test_what_is_no_option_is_refused():
    with pytest.raises(ValueError, match="'x=1' is no option"):
        dashboard.main(["x=1"])
    with pytest.raises(ValueError, match="give project="):
        dashboard.main([])
