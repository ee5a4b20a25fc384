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
    """Rows of a split. name: "train", "val" or "test/NAME". split: value of the rows' "split" key; None: all rows.
    division: which rows of a file are read where phases read different ones, "train", "val", "test" or "held out"; "": they do
    not."""

    name: str
    path: Path
    split: str | None
    division: str = ""

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
        divided = self.division != other.division
        alike = self.phase == other.phase or (not divided and (self.split is not None or self.path.is_file()))
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
        last_line: of the training text, where its end is held out (datamodules/text_stream.py).
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
    last_line: int | None = None

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

    def uses(self, row: Row, source: Source, number: int | str = 0) -> bool:
        """True unless the datamodule leaves the row out by what it says of itself, or by its line in the file."""
        trains, own = source.phase == "train", self.train is not None and source.path == self.train.path
        if self.last_line is not None and own and isinstance(number, int):
            return (number <= self.last_line) == trains
        if isinstance(speakers := self.options.get("held_out"), list) and (trains or own):
            theirs = str(row.get("speaker", "0")) in set(map(str, speakers))
            if theirs == trains:
                return False
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
    splits, reading = sources.get("splits") or {}, sources.get("reading") or Reading()
    held_out = options.get("held_out")
    named = [(phase, phase, sources.get(phase)) for phase in ("train", "val")]
    named += [("test", f"test/{name}", path) for name, path in (sources.get("test") or {}).items()]
    found = []
    for phase, name, path in named:
        if path is not None:
            inside = phase if reading.split_shares or phase == "train" else "held out"
            division = inside if reading.split_shares or held_out else ""
            found.append(Source(name=name, path=Path(path), split=splits.get(phase), division=division))
    stream = str(options.get("_target_", "")).endswith(".TextStream")
    return Plan(
        stage=cfg.stage.name,
        data=cfg.data.kind,
        shape=cfg.stage.shape,
        root=sources.get("root"),
        sources=found,
        options=options,
        reading=reading,
        tokenizer=tokenizer,
        val_given=given_val or splits.get("val") is not None or any(each.division for each in found),
        overfit=bool(cfg.trainer.get("overfit_batches")),
        probe=(cfg.module.get("evaluator") or {}).get("probe_split"),
        last_line=last_line(Path(sources["train"]), float(held_out))
        if stream and held_out and sources.get("train")
        else None,
    )


def last_line(path: Path, held_out: float) -> int | None:
    """The line of a text in which the held-out share at its end begins; None where it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):  # the datamodule names it
        return None
    return text.count("\n", 0, int(len(text) * (1 - held_out))) + 1
