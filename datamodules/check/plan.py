"""What a command would train on, as plain values: the files of each split, which of their rows are used, and the limits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.formats import Reading, Row

#: Options of a datamodule by which it leaves rows out: the key of a row, its default, and in which phases.
FILTERS = {"speakers": ("speaker", "0", ("train", "val", "test")), "test_kinds": ("kind", None, ("test",))}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of a split. name: "train", "val" or "test/NAME". split: value of the rows' "split" key; None: all rows."""

    name: str
    path: Path
    split: str | None

    @property
    def phase(self) -> str:
        """ "train", "val" or "test"."""
        return self.name.partition("/")[0]

    @property
    def option(self) -> str:
        """Of the command line, that names its file."""
        return f"data.{self.name.replace('/', '.')}"

    @property
    def split_option(self) -> str:
        """Of the command line, that chooses its rows."""
        return f"data.{self.phase}_split"

    def same_rows(self, other: "Source") -> bool:
        """True if both are the same rows of the same file. A folder may have rows of its own for each phase."""
        alike = self.phase == other.phase or self.split is not None or self.path.is_file()
        return alike and self.path == other.path and self.split == other.split


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Arguments of the checks.

    Args:
        stage, data: names of the configuration. shape: of the manifests. root: of the media paths; None: each manifest's folder.
        sources: training first. options: the datamodule's, as plain values. reading: of the files.
        tokenizer: None where there is none yet. val_given: False where validation takes the training data for want of
            any other. overfit: training is meant to be repeated on what it is validated on.
        probe: name of a test split that may be training data.
    """

    stage: str
    data: str
    shape: str
    root: str | None
    sources: list[Source]
    options: Mapping[str, Any]
    reading: Reading = field(default_factory=Reading)
    tokenizer: Any = None
    val_given: bool = True
    overfit: bool = False
    probe: str | None = None

    @property
    def train(self) -> Source | None:
        """The training rows."""
        return next((source for source in self.sources if source.phase == "train"), None)

    @property
    def held_out(self) -> Iterator[Source]:
        """All others."""
        return (source for source in self.sources if source.phase != "train")

    def repeats(self, source: Source) -> Source | None:
        """The earlier split of the very same rows, whose results are those of this one."""
        earlier = self.sources[: self.sources.index(source)]
        return next((each for each in earlier if source.same_rows(each)), None)

    def uses(self, row: Row, source: Source) -> bool:
        """True unless the datamodule leaves the row out by what it says of itself."""
        for option, (key, default, phases) in FILTERS.items():
            wanted = self.options.get(option)
            if wanted is None or source.phase not in phases:
                continue
            value = row.get(key, default)
            if value is not None and str(value) not in set(map(str, wanted)):
                return False
        return True

    def option(self, name: str, default: Any = None) -> Any:
        """A value of the datamodule's options; the default where it has none."""
        value = self.options.get(name)
        return default if value is None else value


def make_plan(
    cfg: Any, sources: Mapping[str, Any], options: Mapping[str, Any], *, given_val: bool, tokenizer: Any = None
) -> Plan:
    """The plan of a composed configuration. sources: of `resolve_sources`. options: the datamodule's, resolved."""
    splits = sources.get("splits") or {}
    found = []
    for phase in ("train", "val"):
        if sources.get(phase) is not None:
            found.append(Source(name=phase, path=Path(sources[phase]), split=splits.get(phase)))
    for name, path in (sources.get("test") or {}).items():
        found.append(Source(name=f"test/{name}", path=Path(path), split=splits.get("test")))
    return Plan(
        stage=cfg.stage.name,
        data=cfg.data.kind,
        shape=cfg.stage.shape,
        root=sources.get("root"),
        sources=found,
        options=options,
        reading=sources.get("reading") or Reading(),
        tokenizer=tokenizer,
        val_given=given_val or splits.get("val") is not None,
        overfit=bool(cfg.trainer.get("overfit_batches")),
        probe=(cfg.module.get("evaluator") or {}).get("probe_split"),
    )
