"""An independent judge of speech: what Whisper understands, how natural DistillMOS takes it to be, and how near it is to its
recording by STOI and PESQ. Wanted by judge=whisper; needs the extra `judge`, and for the second and fourth `naturalness`.

Legend: N samples.
"""

import logging
from collections.abc import Mapping, Sequence

from torch import Tensor

from muomni.evaluation.judged_text import judged_text
from muomni.evaluation.naturalness import INSTALL, Naturalness, has_distillmos
from muomni.evaluation.whisper import WhisperJudge
from muomni.metrics.sound import has_pesq, has_stoi, match_level, need_stoi, pesq, stoi

log = logging.getLogger(__name__)

Quality = dict[str, dict[str, list[float | None]]]


class IndependentJudge:
    """Whisper and DistillMOS, each loaded when it is first used.

    Args:
        whisper: what `find_whisper` takes. sample_rate: of the waveforms, in Hz. threads: of Whisper on the CPU.

    Raises ValueError, of one line, where a package of `judge` is missing. Those of `naturalness` may be, which a line of the log
    says: PESQ is compiled where it is installed, DistillMOS brings a tree of packages.
    """

    def __init__(self, whisper: str, *, sample_rate: int, threads: int = 1) -> None:
        self.transcribe = WhisperJudge(whisper, sample_rate=sample_rate, threads=threads)
        self.sample_rate = sample_rate
        self._naturalness = Naturalness(sample_rate=sample_rate) if has_distillmos() else None
        need_stoi()
        judged_text("")  # raises where its package is missing
        absent = [name for name, there in (("distillmos", has_distillmos()), ("pesq", has_pesq())) if not there]
        if absent:
            log.warning("not measured, since not installed: %s (%s)", " and ".join(absent), INSTALL)

    def compared(self, texts: Sequence[str], truth: Sequence[str]) -> tuple[list[str], list[str]]:
        """Transcripts and references in the same words, without those whose reference has none. Raises ValueError if all are."""
        pairs = [(judged_text(text), judged_text(said)) for text, said in zip(texts, truth, strict=True)]
        pairs = [pair for pair in pairs if pair[1]]
        if not pairs:
            raise ValueError("judge=whisper: no text of this split has a word in English letters")
        return [text for text, _ in pairs], [said for _, said in pairs]

    def quality(self, waveforms: Mapping[str, Sequence[Tensor]], *, aligned: Sequence[str]) -> Quality:
        """By measure and version: "mos" of all, "stoi" and "pesq" of those of the versions `aligned` that are there, against
        "recorded"; None where one is not defined. waveforms: (N) by version."""
        measured: Quality = {}
        if self._naturalness is not None:
            measured["mos"] = {version: self._naturalness(each) for version, each in waveforms.items()}
        return measured | similarity(waveforms, aligned=aligned, sample_rate=self.sample_rate)


def similarity(waveforms: Mapping[str, Sequence[Tensor]], *, aligned: Sequence[str], sample_rate: int) -> Quality:
    """By measure and version: "stoi" and "pesq" of those of the versions `aligned` that are there, against "recorded", each
    where its package is installed; None where one is not defined. waveforms: (N) by version."""
    measures = {"stoi": stoi} if has_stoi() else {}
    measures |= {"pesq": pesq} if has_pesq() else {}
    measured: Quality = {}
    for version in (version for version in aligned if version in waveforms):
        pairs = [same_part(*pair) for pair in zip(waveforms[version], waveforms["recorded"], strict=True)]
        for name, measure in measures.items():
            values = [measure(*pair, sample_rate=sample_rate) if len(pair[0]) else None for pair in pairs]
            measured.setdefault(name, {})[version] = values
    return measured


def same_part(made: Tensor, recorded: Tensor) -> tuple[Tensor, Tensor]:
    """Both (N) cut to the shorter, `made` at the level of the recording."""
    shared = min(len(made), len(recorded))
    made, recorded = made[:shared].cpu(), recorded[:shared].cpu()
    return (match_level(made, recorded), recorded) if shared else (made, recorded)


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def independent_judge(whisper: str | None, *, sample_rate: int, threads: int = 1) -> IndependentJudge | None:
    """The judge that judge=whisper adds, or None."""
    return None if whisper is None else IndependentJudge(whisper, sample_rate=sample_rate, threads=threads)
