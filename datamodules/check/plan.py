"""What a command would train on, as plain values: the files of each split, which of their rows are used, and the limits.

Several training sets (`data.sets`) are a source each, "train/NAME"; what is said of all of them together (limits to set,
speakers, lengths) is said of "train", which has no file of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.formats import Reading, Row
from datamodules.held_out import same_data, same_file
from datamodules.same_speaker import speaker_of

#: Options of a datamodule by which it leaves rows out: the key of a row, and in which phases.
FILTERS = {"speakers": ("speaker", ("train", "val", "test")), "test_kinds": ("kind", ("test",))}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of a split.

    name: "train", "val" or "test/NAME"; of a set of several "train/SET", "val/SET". split: value of the rows' "split" key; None:
    all rows. division: which rows of a file are read where phases read different ones, "train", "val", "test" or "held out";
    "": they do not. root: of the media paths; None: the manifest's folder. reading: of the file. of_set: the set's name, "" where
    there are no sets."""

    name: str
    path: Path
    split: str | None
    division: str = ""
    root: str | None = None
    reading: Reading = field(default_factory=Reading)
    of_set: str = ""

    @property
    def phase(self) -> str:
        """ "train", "val" or "test"."""
        return self.name.partition("/")[0]

    @property
    def option(self) -> str:
        """Of the command line, that names its file."""
        return f"data.sets.{self.of_set}.{self.phase}" if self.of_set else f"data.{self.name.replace('/', '.')}"

    @property
    def split_option(self) -> str:
        """Of the command line, that chooses its rows."""
        return f"data.{f'sets.{self.of_set}.' if self.of_set else ''}{self.phase}_split"

    def same_rows(self, other: "Source") -> bool:
        """True if both are the same rows of the same file. A folder may have rows of its own for each phase."""
        divided = self.division != other.division
        alike = self.phase == other.phase or (not divided and (self.split is not None or self.path.is_file()))
        if not alike or (self.split, self.reading) != (other.split, other.reading):
            return False
        return self.path == other.path or (self.root == other.root and same_data(self.path, other.path, root=self.root))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Arguments of the checks.

    Args:
        stage, data: names of the configuration. shape: of the manifests.
        sources: training first. options: the datamodule's, as plain values.
        tokenizer: None where there is none yet. val_given: False where validation takes the training data for want of
            any other. overfit: training is meant to be repeated on what it is validated on.
        probe: name of a test split that may be training data.
        last_line: of the training text, where its end is held out (datamodules/text_stream.py).
        shares: set -> its share of the training samples, where there are sets; all 0 where the command gives no weights.
    """

    stage: str
    data: str
    shape: str
    sources: list[Source]
    options: Mapping[str, Any]
    tokenizer: Any = None
    val_given: bool = True
    overfit: bool = False
    probe: str | None = None
    last_line: int | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def trained(self) -> list[Source]:
        """The training rows: of each set, where there are several."""
        return [source for source in self.sources if source.phase == "train"]

    @property
    def train(self) -> Source | None:
        """All training rows; of several sets "train", which is in none of the files (`pooled`)."""
        first = next(iter(self.trained), None)
        return first if first is None or not first.of_set else replace(first, name="train", of_set="")

    def pooled(self, source: Source) -> bool:
        """Whether its rows count for all sets together, too."""
        return bool(source.of_set) and source.phase == "train"

    @property
    def held_out(self) -> Iterator[Source]:
        """All others."""
        return (source for source in self.sources if source.phase != "train")

    def repeats(self, source: Source) -> Source | None:
        """The earlier split of the very same rows, whose results are those of this one."""
        earlier = self.sources[: self.sources.index(source)]
        return next((each for each in earlier if source.same_rows(each)), None)

    @cached_property
    def _trained_on(self) -> set[str]:
        """The names of the sources whose file is one that is trained on, however it is named."""
        return {each.name for each in self.sources if any(same_file(each.path, of.path) for of in self.trained)}

    def uses(self, row: Row, source: Source, number: int | str = 0) -> bool:
        """True unless the datamodule leaves the row out by what it says of itself, or by its line in the file."""
        trains, own = source.phase == "train", source.name in self._trained_on
        if self.last_line is not None and own and isinstance(number, int):
            return (number <= self.last_line) == trains
        if isinstance(speakers := self.options.get("held_out"), list) and (trains or own):
            theirs = speaker_of(row) in set(map(str, speakers))
            if theirs == trains:
                return False
        for option, (key, phases) in FILTERS.items():
            wanted = self.options.get(option)
            if wanted is None or source.phase not in phases:
                continue
            value = speaker_of(row) if key == "speaker" else row.get(key)
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
    sets, held_out = sources.get("sets") or [], options.get("held_out")
    found = _sources(sources, held_out=bool(held_out))
    splits = sources.get("splits") or {}
    stream = str(options.get("_target_", "")).endswith(".TextStream")
    return Plan(
        stage=cfg.stage.name,
        data=cfg.data.kind,
        shape=cfg.stage.shape,
        sources=found,
        options=options,
        tokenizer=tokenizer,
        val_given=given_val or bool(sets) or splits.get("val") is not None or any(each.division for each in found),
        overfit=bool(cfg.trainer.get("overfit_batches")),
        probe=(cfg.module.get("evaluator") or {}).get("probe_split"),
        last_line=last_line(Path(sources["train"]), float(held_out))
        if stream and held_out and sources.get("train")
        else None,
        shares={each.name: float(each.share) for each in sets},
    )


def _sources(sources: Mapping[str, Any], *, held_out: bool) -> list[Source]:
    """Of `resolve_sources`: training first. held_out: rows of the training files are left to validation and tests."""

    def source(name: str, path: Any, options: Mapping[str, Any], of_set: str = "") -> Source:
        phase, reading = name.partition("/")[0], options.get("reading") or Reading()
        inside = phase if reading.split_shares or phase == "train" else "held out"
        return Source(
            name=name,
            path=Path(path),
            split=(options.get("splits") or {}).get(phase),
            division=inside if reading.split_shares or held_out else "",
            root=options.get("root"),
            reading=reading,
            of_set=of_set,
        )

    sets = sources.get("sets") or []
    found = [source(f"train/{each.name}", each.train, each.options, each.name) for each in sets]
    of_val = [source(f"val/{each.name}", each.val, each.options, each.name) for each in sets if each.val is not None]
    named = [("train", None if sets else sources.get("train")), ("val", None if of_val else sources.get("val"))]
    named += [(f"test/{name}", path) for name, path in (sources.get("test") or {}).items()]
    other = [source(name, path, sources) for name, path in named if path is not None]
    return [*found, *of_val, *other]


def last_line(path: Path, held_out: float) -> int | None:
    """The line of a text in which the held-out share at its end begins; None where it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):  # the datamodule names it
        return None
    return text.count("\n", 0, int(len(text) * (1 - held_out))) + 1
