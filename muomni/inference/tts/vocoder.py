"""The neural vocoder of stage=vocoder for inference, and the choice between it and Griffin-Lim.

Shapes: B clips, T frames, M mel bins, N = T x hop samples.
"""

from pathlib import Path

import torch
from torch import Tensor

from muomni.checkpoints.export import check_same, is_export, load_export, read_description
from muomni.frontends.loudness import peak_normalise
from muomni.frontends.mel import MelSpec, check_mel
from muomni.inference.tts.griffin_lim import GriffinLim
from muomni.inference.tts.mel_correction import MelCorrection
from muomni.inference.tts.vocoder_blocks import StreamingVocoder
from muomni.models.vocoder import Vocoder
from muomni.program import TRAIN

GRIFFIN_LIM_ITERATIONS = 32
DEFAULT_EXPORT = "vocoder"  # folder name of the export of stage=vocoder, next to the Talker's


class NeuralVocoder:
    """A trained vocoder followed by `MelCorrection`. Callable, like `GriffinLim`."""

    def __init__(self, model: Vocoder, *, spec: MelSpec, corrections: int, name: str) -> None:
        self.model, self.spec, self.name = model.eval(), spec, name
        self.device = next(model.parameters()).device
        self.correction, self.corrections = MelCorrection(spec), corrections

    @classmethod
    def from_export(cls, folder: str | Path, *, spec: MelSpec, device: torch.device | str = "cpu") -> "NeuralVocoder":
        """Load the export folder of stage=vocoder. Raises ValueError if it was trained on another spectrogram."""
        export = load_export(folder, ["vocoder"])
        check_same(export.metadata, {"codec_mel": spec.metadata()}, where=str(folder))
        model = export.modules["vocoder"]
        if not isinstance(model, Vocoder) or "corrections" not in export.metadata:
            raise ValueError(
                f"{folder}: not an export of stage=vocoder, or one without 'corrections' in its facts: export it again"
            )
        return cls(model.to(device), spec=spec, corrections=int(export.metadata["corrections"]), name=str(folder))

    @torch.inference_mode()
    def __call__(self, mel: Tensor) -> Tensor:
        """Peak-normalised to 0.95; silence stays silence. Raises ValueError for a mel that is empty or not finite."""
        check_mel(mel, self.spec, where=self.name)
        batch = (mel if mel.dim() == 3 else mel[None]).float().to(self.device)
        waveform = peak_normalise(self.correction(self.model(batch).waveform, batch, iterations=self.corrections))
        return waveform if mel.dim() == 3 else waveform[0]

    @property
    def context(self) -> int:
        """Mel frames that `extend` needs on each side of a block: the receptive field of network and correction."""
        return self.model.reach + -(-self.spec.win // self.spec.hop)

    @torch.inference_mode()
    def extend(self, mel: Tensor, past: Tensor, *, ends: bool) -> Tensor:
        """Continue a waveform that ends with the samples `past`: see `GriffinLim.extend`."""
        check_mel(mel, self.spec, where=self.name)
        batch, past = mel.float()[None].to(self.device), past.to(self.device)
        waveform = self.model(batch).waveform
        waveform = torch.cat([past.expand(1, -1), waveform[:, len(past) :]], dim=1)
        waveform = self.correction(waveform, batch, iterations=self.corrections, past=past)
        return waveform[0, len(past) : (len(mel) if ends else len(mel) - 1) * self.spec.hop].clone()


def choose_vocoder(
    choice: str | Path, *, spec: MelSpec, export: Path, device: torch.device | str
) -> tuple[StreamingVocoder, str]:
    """A vocoder for the export in the folder `export`, and a line that says which it is and why.

    choice: griffin_lim | an export of stage=vocoder | auto: the folder `vocoder` next to `export` if it was trained on this
    spectrogram, else Griffin-Lim. Raises FileNotFoundError or ValueError if a given export cannot be used.
    """
    griffin_lim = GriffinLim(spec, iterations=GRIFFIN_LIM_ITERATIONS)
    if str(choice) == "griffin_lim":
        return griffin_lim, "vocoder: griffin_lim"
    if str(choice) != "auto":
        if not is_export(choice):
            raise FileNotFoundError(
                f"vocoder={choice}: no export there; griffin_lim, auto, or an export of stage=vocoder"
            )
        return NeuralVocoder.from_export(choice, spec=spec, device=device), f"vocoder: {choice}"
    found = export.parent / DEFAULT_EXPORT
    if not is_export(found):
        return griffin_lim, f"vocoder: griffin_lim (there is no {found}: {TRAIN} stage=vocoder)"
    if read_description(found)["facts"].get("codec_mel") != spec.metadata():
        return griffin_lim, f"vocoder: griffin_lim ({found} was trained on another spectrogram)"
    return NeuralVocoder.from_export(found, spec=spec, device=device), f"vocoder: {found}"
