"""The codecs of transformers that the Talker can speak through: what of their configuration counts, and how each encodes and
decodes, whole and block by block.

- Mimi (Défossez et al. 2024, arXiv:2410.00037): causal convolutions and transformers, 12.5 Hz. Its blocks keep the decoder
  transformer's keys and values, and the frames that the convolutions after it look back to.
- EnCodec (Défossez et al. 2022, arXiv:2210.13438) at 24 kHz: causal convolutions and an LSTM, 75 Hz. Its blocks keep the LSTM's
  state, and the frames that the convolutions after it look back to.
- DAC (Kumar et al. 2023, arXiv:2306.06546): convolutions that look both ways. Its blocks are cut out of a decoding of their
  neighbourhood.

Legend: B batch, N samples, T frames of codes, K codebooks, H samples a frame, D width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.models.hf_build import build_config, build_model, transformers_class
from muomni.models.waveform_codec import DecoderState, convolutions, receptive_field

MOST_REPEATS = 256


class Family(ABC):
    """One codec: its model, and the attributes and methods of `WaveformCodec`, for which see there.

    config_class, model_class: of transformers. also: fields of a configuration that the class accepts and does not declare.
    """

    config_class: ClassVar[str]
    model_class: ClassVar[str]
    also: ClassVar[tuple[str, ...]] = ()
    sample_rate: int
    hop: int
    num_codebooks: int
    codebook_size: int
    past = 0
    ahead = 0
    first_frames = 1

    def __init__(self, config: Mapping[str, Any]) -> None:
        built = build_config(self.config_class, config, also=self.also)
        self.check(built)
        self.sample_rate, self.codebook_size = built.sampling_rate, built.codebook_size
        self.model: Any = build_model(self.model_class, built)

    def check(self, config: Any) -> None:
        """Raise ValueError for a configuration that is not of a codec of one channel."""
        channels = getattr(config, "audio_channels", 1)
        if channels != 1:
            raise ValueError(f"config.audio_channels={channels}: a codec of one channel is needed")

    def check_codebooks(self, count: int) -> None:  # noqa: B027  (most have nothing to refuse)
        """See `WaveformCodec.check_codebooks`."""

    def renew(self) -> None:  # noqa: B027  (most compute nothing of them)
        """The model's tensors have been moved or loaded: forget what was computed of the former ones."""

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """See `WaveformCodec.encode`."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """See `WaveformCodec.decode`."""

    @abstractmethod
    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        """See `WaveformCodec.decode_block`."""


def _check_repeats(**counts: int) -> None:
    for name, count in counts.items():
        if not 1 <= count <= MOST_REPEATS:
            raise ValueError(f"config: {name}={count}: from 1 to {MOST_REPEATS}")


def _with_past(state: DecoderState, hidden: Tensor, past: int) -> Tensor:
    """hidden (B, D, T) after the last `past` frames of what came before it, which are kept in the state for the next block."""
    whole = torch.cat([state["hidden"], hidden], dim=-1) if "hidden" in state else hidden
    state["hidden"] = whole[..., max(0, whole.shape[-1] - past) :]
    return whole


class Mimi(Family):
    """`MimiModel`."""

    config_class, model_class, also = "MimiConfig", "MimiModel", ("frame_rate", "rope_theta")

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        built, decoder = self.model.config, self.model.decoder
        self.hop, self.num_codebooks = built.frame_size, built.num_quantizers
        self.past = receptive_field(convolutions(decoder.upsample), causal=True)
        self.hidden_past = receptive_field(convolutions(decoder.decoder_seanet), causal=True)

    def check(self, config: Any) -> None:
        super().check(config)
        _check_repeats(num_quantizers=config.num_quantizers, num_hidden_layers=config.num_hidden_layers,
                       num_residual_layers=config.num_residual_layers)  # fmt: skip
        if not config.use_causal_conv or config.trim_right_ratio != 1.0 or config.pad_mode == "reflect":
            raise ValueError(
                "config: use_causal_conv=true, trim_right_ratio=1 and pad_mode=constant are needed, as in Mimi"
            )
        if config.frame_rate * config.frame_size != config.sampling_rate or config.latent_stride != 2:
            raise ValueError(
                f"config.frame_rate={config.frame_rate}: half of the rate of its convolutions, {config.encodec_frame_rate}, is "
                "needed, as in Mimi"
            )

    def renew(self) -> None:
        quantizer = self.model.quantizer
        for each in (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer):
            for layer in each.layers:
                layer.codebook._embed = None

    def encode(self, waveform: Tensor) -> Tensor:
        codes: Tensor = self.model.encode(waveform[:, None]).audio_codes
        return codes.mT

    def decode(self, codes: Tensor) -> Tensor:
        waveform: Tensor = self.model.decode(codes.mT).audio_values
        return waveform[:, 0]

    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        decoder, low = self.model.decoder, max(0, begin - self.past)
        if "cache" not in state:
            state["cache"] = transformers_class("DynamicCache")(config=decoder.config)
        latents = decoder.upsample(self.model.quantizer.decode(codes[:, low:end].mT))
        latents = latents[..., (begin - low) * decoder.config.latent_stride :]
        out = decoder.decoder_transformer(latents.mT, cache=state["cache"], use_cache=True)
        hidden = _with_past(state, out.last_hidden_state.mT, self.hidden_past)
        waveform: Tensor = decoder.decoder_seanet(hidden)[:, 0]
        return waveform[:, waveform.shape[-1] - (end - begin) * self.hop :]


class Encodec(Family):
    """`EncodecModel` of one channel, without chunks and normalisation: that at 24 kHz."""

    config_class, model_class = "EncodecConfig", "EncodecModel"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        built = self.model.config
        first, self.lstm, *self.rest = self.model.decoder.layers
        self.hop, self.num_codebooks = built.hop_length, built.num_quantizers
        self.past = receptive_field(convolutions(first), causal=True)
        self.hidden_past = receptive_field([each for layer in self.rest for each in convolutions(layer)], causal=True)
        self.first_frames = max(self.past, self.hidden_past) + 1  # before the first frame is its reflection

    def check(self, config: Any) -> None:
        super().check(config)
        _check_repeats(num_quantizers=config.num_quantizers, num_residual_layers=config.num_residual_layers,
                       num_lstm_layers=config.num_lstm_layers)  # fmt: skip
        fitting = config.use_causal_conv and config.trim_right_ratio == 1.0 and config.norm_type == "weight_norm"
        if not fitting or config.normalize or config.chunk_length_s is not None:
            raise ValueError(
                "config: an EnCodec that is causal, normalised by weight_norm, without chunk_length_s and normalize is needed: "
                "encodec_24khz"
            )

    def encode(self, waveform: Tensor) -> Tensor:
        codes: Tensor = self.model.quantizer.encode(self.model.encoder(waveform[:, None]))
        return codes.permute(1, 2, 0)

    def decode(self, codes: Tensor) -> Tensor:
        waveform: Tensor = self.model.decoder(self._latents(codes))
        return waveform[:, 0]

    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        low, first = max(0, begin - self.past), self.model.decoder.layers[0]
        hidden = first(self._latents(codes[:, low:end]))[..., begin - low :].permute(2, 0, 1)
        spoken, state["lstm"] = self.lstm.lstm(hidden, state.get("lstm"))
        hidden = _with_past(state, (spoken + hidden).permute(1, 2, 0), self.hidden_past)
        for layer in self.rest:
            hidden = layer(hidden)
        waveform: Tensor = hidden[:, 0]
        return waveform[:, waveform.shape[-1] - (end - begin) * self.hop :]

    def _latents(self, codes: Tensor) -> Tensor:
        """codes (B, T, K) -> (B, D, T)."""
        latents: Tensor = self.model.quantizer.decode(codes.permute(2, 0, 1))
        return latents


class Dac(Family):
    """`DacModel`. A waveform is padded by silence to whole frames, as its feature extractor does."""

    config_class, model_class = "DacConfig", "DacModel"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        built = self.model.config
        self.hop, self.num_codebooks = math.prod(built.downsampling_ratios), built.n_codebooks
        self.past = self.ahead = receptive_field(convolutions(self.model.decoder), causal=False)

    def check(self, config: Any) -> None:
        super().check(config)
        _check_repeats(n_codebooks=config.n_codebooks)

    def encode(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (0, -waveform.shape[-1] % self.hop))
        codes: Tensor = self.model.encode(padded[:, None]).audio_codes
        return codes.mT

    def decode(self, codes: Tensor) -> Tensor:
        """An odd ratio takes a few samples from the end; they are silence."""
        waveform: Tensor = self.model.decode(audio_codes=codes.mT).audio_values
        return F.pad(waveform, (0, codes.shape[1] * self.hop - waveform.shape[-1]))

    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        return self.decode(codes)[:, begin * self.hop : end * self.hop]
