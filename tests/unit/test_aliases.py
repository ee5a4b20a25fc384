"""Names of before: import paths, options of command lines and of saved configurations, metrics, descriptions of exports."""

import importlib
import subprocess
import sys
import warnings

import pytest

from muomni import aliases
from muomni.run.identity import identity


@pytest.fixture
def rows(monkeypatch):
    """A row in each table."""
    monkeypatch.setitem(aliases.OPTIONS, "datamodule.old", "datamodule.fresh")
    monkeypatch.setitem(aliases.OPTIONS, "ablation=old", "tag=old size.width=3")
    monkeypatch.setitem(aliases.REMOVED, "gone", "give kept=1")
    monkeypatch.setitem(aliases.MODULES, "muomni.old_file", "muomni.short_repr")
    monkeypatch.setitem(aliases.NAMES, "muomni.short_repr.Old", "muomni.short_repr.New")
    monkeypatch.setitem(aliases.METRICS, "acc", "accuracy")
    monkeypatch.setitem(aliases.METADATA, "letters", "alphabet")
    monkeypatch.setitem(aliases.MODULE_OPTIONS, "thinker.depth", "num_layers")
    aliases._say.cache_clear()


OLD = {
    "datamodule": {"old": {"a": 1}, "kept": "${datamodule.old.a}"},
    "list": [{"_target_": "muomni.old_file.Old.make"}],
}
NEW = {
    "datamodule": {"fresh": {"a": 1}, "kept": "${datamodule.fresh.a}"},
    "list": [{"_target_": "muomni.short_repr.New.make"}],
}


def test_an_override_with_an_old_key_works_and_says_once_which_is_new(rows, caplog):
    assert aliases.override("datamodule.old.a=b=c") == ["datamodule.fresh.a=b=c"]
    assert aliases.override("++datamodule.old={a: 1}") == ["++datamodule.fresh={a: 1}"]
    assert aliases.override("~datamodule.old") == ["~datamodule.fresh"]
    assert aliases.override("ablation=old") == ["tag=old", "size.width=3"]
    assert [record.getMessage() for record in caplog.records] == [
        "datamodule.old.a is now called datamodule.fresh.a",
        "datamodule.old is now called datamodule.fresh",
        "ablation=old is now called tag=old size.width=3",
    ]
    for word in ("datamodule.older=1", "-m", "text=a\nb", "ablation=older"):
        assert aliases.override(word) == [word]


def test_a_removed_option_names_the_way_out(rows):
    with pytest.raises(ValueError, match=r"gone\.a=1: gone is no option any more: give kept=1"):
        aliases.override("gone.a=1")


def test_saved_configurations_are_read_with_todays_names_and_hashed_with_those_of_before(rows):
    assert aliases.config(OLD) == NEW
    assert aliases.former(NEW) == OLD
    keys = ("datamodule", "list")
    assert identity(NEW, keys) == identity(OLD, keys) != identity({**NEW, "list": []}, keys)


def test_metrics_and_descriptions(rows):
    assert aliases.metric("omni_sft/val/acc") == "omni_sft/val/accuracy"
    assert aliases.metric("omni_sft/acc/loss") == "omni_sft/acc/loss"
    described = {"facts": {"letters": "ab"}, "parts": {"t": {"part": "thinker", "options": {"depth": 2}}, "x": "codec"}}
    assert aliases.description(described) == {
        "facts": {"alphabet": "ab"},
        "parts": {"t": {"part": "thinker", "options": {"num_layers": 2}}, "x": "codec"},
    }


def test_every_row_of_a_module_or_name_leads_somewhere():
    assert not [new for new in aliases.MODULES.values() if new in aliases.MODULES]
    for new in aliases.MODULES.values():
        assert importlib.util.find_spec(new), new
    for old in aliases.NAMES:
        owner, _, name = old.rpartition(".")
        with pytest.warns(DeprecationWarning, match=aliases.NAMES[old]):
            assert getattr(importlib.import_module(owner), name)


def test_imports_of_before_are_redirected():
    with pytest.warns(DeprecationWarning, match=r"muomni\.sweeps is now muomni\.run\.sweeps"):
        old = importlib.import_module("muomni.sweeps")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rules = importlib.import_module("muomni.micro_omni.rules")
    import muomni.interop.micro_omni.rules as today_rules
    import muomni.run.sweeps as today

    assert old is today
    assert rules is today_rules
    assert today.__spec__.name == today.__name__ == "muomni.run.sweeps"
    with pytest.raises(ImportError, match="no_such"):
        from muomni.checkpoints import no_such  # noqa: F401


def test_names_of_before_are_found_in_modules_that_were_moved():
    code = (
        "import warnings; warnings.simplefilter('ignore'); import muomni\n"
        "from muomni.inference.recognise import Recogniser\n"
        "from muomni.checkpoints import load_export\n"
        "print(Recogniser.__name__, load_export.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Recognizer", "load_export"]


def test_importing_muomni_imports_next_to_nothing():
    code = "import sys; before = set(sys.modules); import muomni; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"muomni"}
    assert loaded <= sys.stdlib_module_names
    assert [name for name in done.stdout.split() if name.startswith("muomni")] == ["muomni", "muomni.aliases"]
