"""The speaker of an export: its Talker, its codec and, for a codec of mels, a vocoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from muomni.frontends.mel import MelSpec
from muomni.frontends.text_form import form_of
from muomni.frontends.text_normalizer import LETTERS
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.row_blocks import with_row_blocks
from muomni.inference.errors import InvalidOption
from muomni.inference.media import spec_from_metadata
from muomni.inference.tts.reference import ReferenceReader
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.speech_decoder import speech_decoder
from muomni.inference.tts.text_states import MODULE, states_of
from muomni.inference.tts.vocoder import choose_vocoder
from muomni.models.waveform_codec import WaveformCodec


def build_speaker(
    modules: Mapping[str, Any], metadata: Mapping[str, Any], *, tokenizer: Tokenizer | None, vocoder: str | Path, where: str,
    device: torch.device,
) -> tuple[Speaker, str]:  # fmt: skip
    """The speaker of an export with Talker and codec, and a line about what makes its waveform.

    tokenizer: of the Thinker whose states the Talker is told, if any. vocoder: see `choose_vocoder`. Raises ValueError where one
    is named for a codec of waveforms.
    """
    codec, chosen, spec = modules["codec"], None, None
    if isinstance(codec, WaveformCodec):
        if str(vocoder) != "auto":
            raise InvalidOption(
                f"vocoder={vocoder}: the codec of {where} makes waveforms itself; leave vocoder out", param="vocoder"
            )
        note = f"vocoder: none, the codec ({speech_decoder(codec, None).name}) makes waveforms"
    else:
        spec = spec_from_metadata(MelSpec, metadata, "codec_mel" if "codec_mel" in metadata else "mel", where=where)
        chosen, note = choose_vocoder(vocoder, spec=spec, export=Path(where), device=device)
    form = form_of(metadata, where=where, key="spoken_text" if "spoken_text" in metadata else "text")
    alphabet = metadata.get("alphabet", LETTERS)
    talker = with_row_blocks(modules["talker"])
    reader = ReferenceReader(talker, codec, spec)
    told = talker.conditioning != "text" and MODULE in modules  # else the speaker refuses the Talker
    states = states_of(modules, tokenizer, metadata=metadata, where=where) if told else None
    return Speaker(talker, codec, chosen, alphabet=alphabet, form=form, read_reference=reader, states=states), note
