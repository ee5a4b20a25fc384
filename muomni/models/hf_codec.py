"""A pretrained codec as a module of an export: Mimi, EnCodec and DAC as transformers' own classes, SNAC as our own."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from muomni.models.hf_codec_families import Dac, Encodec, Family, Mimi
from muomni.models.registry import register
from muomni.models.snac import Snac
from muomni.models.waveform_codec import DecoderState, WaveformCodec

FAMILIES: dict[str, type[Family]] = {"mimi": Mimi, "encodec": Encodec, "dac": Dac, "snac": Snac}


@register("hf_codec")
class HfCodec(WaveformCodec):
    """See `WaveformCodec`. Codes and waveforms are those of transformers, in float32 also under autocast.

    Args:
        model_type: of `FAMILIES`. config: fields of its configuration.
    """

    def __init__(self, *, model_type: str, config: Mapping[str, Any]) -> None:
        super().__init__()
        if model_type not in FAMILIES:
            raise ValueError(f"model_type={model_type!r}: available are {', '.join(FAMILIES)}")
        self.name, self._family = model_type, FAMILIES[model_type](config)
        self.model = self._family.model
        family = self._family
        self.sample_rate, self.hop = family.sample_rate, family.hop
        self.num_codebooks, self.codebook_size = family.num_codebooks, family.codebook_size
        self.past, self.ahead, self.first_frames = family.past, family.ahead, family.first_frames

    def check_codebooks(self, count: int) -> None:
        super().check_codebooks(count)
        self._family.check_codebooks(count)

    def encode(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            return self._family.encode(waveform.float())

    def decode(self, codes: Tensor) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            return self._family.decode(codes)

    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            return self._family.decode_block(codes, begin, end, state=state)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        result = super().load_state_dict(state_dict, strict=strict, assign=assign)
        self._family.renew()
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "HfCodec":
        """Called by `to`, `cuda`, `float` and the like."""
        super()._apply(fn, recurse)
        self._family.renew()
        return self
