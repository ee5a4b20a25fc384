"""What architectures cost, by formula (nn/flops.py): from the shapes of a batch, which the host knows without waiting.

Legend: B batch, T time, C characters, N vectors, M mel bins, I image side in pixels.
"""

import math
from collections.abc import Sequence

from torch import nn

from muomni.models.aligned_text import INSTANTS
from muomni.models.codec import Codec, ConvNeXtStack, FrameLinear
from muomni.models.conv_vision import ConvEncoder
from muomni.models.discriminators import Discriminators, PeriodDiscriminator, SpectrogramDiscriminator
from muomni.models.encoders import AudioEncoder, ImageEncoder
from muomni.models.fourier_codec import FourierCodec, stacks
from muomni.models.hf_audio import HfAudio, field_of_view
from muomni.models.hf_vision import HfVision
from muomni.models.omni import Omni
from muomni.models.talker import Talker
from muomni.models.text_tower import TextTower
from muomni.models.thinker import Thinker
from muomni.nn.causal import CausalBlock
from muomni.nn.conv import AudioStem
from muomni.nn.flops import Cost, conv, convnext, learns, linear, product, transformer
from muomni.nn.patch import PatchStem
from muomni.nn.rvq import ResidualQuantizer


def thinker(model: Thinker, batch: int, length: int, *, predicted: int) -> Cost:
    """Rows of `length` tokens; predicted: rows that the head reads."""
    return transformer(model.transformer, batch, length) + linear(model.head, predicted)


def _patch_stem(stem: PatchStem, batch: int, side: int) -> Cost:
    cost, sizes, reads_pixels = Cost(), [side, side], True
    for layer in [*([] if stem.first is None else [stem.first]), *stem.convs, stem.project]:
        more, sizes = conv(layer, batch, *sizes, input_grad=not reads_pixels)
        cost, reads_pixels = cost + more, False
    return cost


def _conv_encoder(model: ConvEncoder, batch: int) -> Cost:
    width, channels, *kernel = model.whitening.shape
    side = model.image_size // 2
    cost = product(batch * side * side, channels * math.prod(kernel), width, gradients=0)  # it does not learn
    sizes = [side, side]
    for stage in model.stages:
        more, sizes = conv(stage.first, batch, *sizes)  # type: ignore[arg-type]
        cost += more
        for layer in stage.convs:  # type: ignore[union-attr]
            cost += conv(layer, batch, *sizes)[0]
    return cost + conv(model.project, batch, *(size // model.pool for size in sizes))[0]


def _of_transformers(encoder: nn.Module, batch: int, length: int, *, width: int) -> Cost:
    """Linear layers on rows of `length` tokens, and attention of as many layers as there are projections of queries."""
    cost, rows = Cost(), batch * length
    layers = 0
    for name, layer in encoder.named_modules():
        if isinstance(layer, nn.Linear):
            cost += linear(layer, rows)
            layers += name.rpartition(".")[2] in ("q_proj", "query")
    mixing = product(rows, length, width)
    return cost + (mixing + Cost(mixing.forward, mixing.backward)).times(layers)


def _hf_vision(model: HfVision, batch: int) -> Cost:
    patches = next(layer for layer in model.encoder.modules() if isinstance(layer, nn.Conv2d))
    inner, gradients = patches.in_channels * math.prod(patches.kernel_size), int(learns(patches))
    stem = product(batch * model.side**2, inner, patches.out_channels, gradients=gradients)
    extra = 0 if model.model_type == "siglip_vision_model" else 1
    return stem + _of_transformers(model.encoder, batch, model.side**2 + extra, width=model.dim)


def _hf_audio(model: HfAudio, batch: int, frames: int, *, readings: int) -> Cost:
    cost, sizes, tokens = Cost(), [frames], model.out_lengths(frames)
    if model.model_type == "whisper":
        window = 2 * model.config["max_source_positions"]
        batch, sizes, tokens = batch * -(-frames // window), [window], window // 2
    else:
        view, hop = field_of_view(model.config)
        sizes = [(frames - 1) * hop + view]
    stem = model.encoder if model.model_type == "whisper" else model.encoder.feature_extractor
    for number, layer in enumerate(each for each in stem.modules() if isinstance(each, nn.Conv1d)):
        more, sizes = conv(layer, batch, *sizes, input_grad=number > 0)
        cost += more
    if model.model_type != "whisper":
        cost += conv(model.encoder.encoder.pos_conv_embed.conv, batch, tokens)[0]
    cost += _of_transformers(model.encoder, batch, tokens, width=model.dim)
    return cost + (linear(model.head, batch * tokens).times(readings) if isinstance(model.head, nn.Linear) else Cost())


def vision(model: ImageEncoder, batch: int) -> Cost:
    """So many images."""
    if isinstance(model, HfVision):
        return _hf_vision(model, batch)
    if isinstance(model, ConvEncoder):
        return _conv_encoder(model, batch)
    return _patch_stem(model.stem, batch, model.image_size) + transformer(model.transformer, batch, model.side**2 + 1)


def text_tower(model: TextTower, batch: int, length: int) -> Cost:
    """Both heads included."""
    heads = linear(model.pooled_head, batch) + linear(model.token_head, batch * length)
    return transformer(model.transformer, batch, length) + heads


def _audio_stem(stem: AudioStem, batch: int, frames: int, bins: int) -> tuple[Cost, int]:
    cost, sizes = Cost(), [frames, bins]
    for number, layer in enumerate(stem.convs):
        more, sizes = conv(layer, batch, *sizes, input_grad=number > 0)  # type: ignore[arg-type]
        cost += more
    return cost + linear(stem.proj, batch * sizes[0]), sizes[0]


def audio(model: AudioEncoder, batch: int, frames: int, *, readings: int = 1) -> Cost:
    """Clips of so many mel frames. readings: how often the head reads, as after intermediate blocks."""
    if isinstance(model, HfAudio):
        return _hf_audio(model, batch, frames, readings=readings)
    stem, length = _audio_stem(model.encoder.stem, batch, frames, model.n_mels)
    head = linear(model.head, batch * length).times(readings)
    chunks = model.encoder.chunks
    tokens = length if chunks is None else chunks.tokens(length)
    return stem + transformer(model.encoder.transformer, batch, tokens) + head


def convnext_stack(side: nn.Module, batch: int, length: int, *, input_grad: bool) -> Cost:
    """A side of the codec, or the vocoder's backbone."""
    if isinstance(side, FrameLinear):
        return linear(side.proj, batch * length, input_grad=input_grad)
    assert isinstance(side, ConvNeXtStack)
    rows = batch * length
    ends = linear(side.proj_in, rows, input_grad=input_grad) + linear(side.proj_out, rows)
    return ends + convnext(side.blocks, batch, length)


def codec_encode(model: Codec, batch: int, frames: int) -> Cost:
    """Mel frames -> codes. The search of the nearest entries has no gradient."""
    length = -(-frames // model.stride)
    _, entries, dim = model.quantizer.codebooks.shape
    search = product(batch * length, dim, entries, gradients=0).times(model.num_codebooks)
    return convnext_stack(model.encoder, batch, length, input_grad=False) + search


def codec(model: Codec, batch: int, frames: int) -> Cost:
    """Mel frames -> codes -> mel frames."""
    decoder = convnext_stack(model.decoder, batch, -(-frames // model.stride), input_grad=True)
    return codec_encode(model, batch, frames) + decoder


def fourier_codec(model: FourierCodec, batch: int, samples: int) -> Cost:
    """Waveforms -> codes -> waveforms. The search of the nearest entries has no gradient."""
    rows, cost = batch * -(-samples // model.hop), Cost()
    for stack, repeats in stacks(model):
        count = rows * repeats
        cost += linear(stack.proj_in, count, input_grad=stack is not model.encoder) + linear(stack.proj_out, count)
        for block in stack.blocks:
            assert isinstance(block, CausalBlock)
            cost += (
                product(count, *block.conv.weight.shape) + linear(block.mlp.up, count) + linear(block.mlp.down, count)
            )
    if isinstance(model.quantizer, ResidualQuantizer):
        _, entries, dim = model.quantizer.codebooks.shape
        cost += product(rows, dim, entries, gradients=0).times(model.num_codebooks)
    return cost


def talker(model: Talker, batch: int, characters: int, frames: int) -> Cost:
    """Texts of so many characters with so many frames of codes."""
    frames += model.lag
    rows = batch * frames
    guide = model.aligned
    units = characters if guide is None else characters + 2
    text = convnext(model.text.blocks, batch, units) + linear(model.text.step, batch * units)
    if model.text.states is not None:
        text += linear(model.text.states.proj, batch * units, input_grad=False)
    heads = Cost() if model.stop is None else linear(model.stop, rows)
    if model.depth is not None:
        each = linear(model.depth.mlp.gate_up, rows) + linear(model.depth.mlp.down, rows)
        heads += each.times(model.num_codebooks - 1)
    if model.reference is not None:
        text += linear(model.reference.proj, batch)
    for head in model.heads:
        heads += linear(head, rows)  # type: ignore[arg-type]
    if guide is None:
        return text + transformer(model.transformer, batch, characters + frames) + heads
    told = linear(guide.progress, rows * INSTANTS) + linear(guide.mix, rows)
    return text + told + transformer(model.transformer, batch, frames) + heads


def _discriminator(member: nn.Module, batch: int, samples: int, *, input_grad: bool) -> Cost:
    if isinstance(member, PeriodDiscriminator):
        batch, sizes = batch * member.period, [-(-samples // member.period)]
    else:
        assert isinstance(member, SpectrogramDiscriminator)
        sizes = [samples // (member.n_fft // 2) + 1, member.n_fft // 2 + 1]
    cost, first = Cost(), True
    for layer in [*member.convolutions.layers, member.convolutions.last]:
        more, sizes = conv(layer, batch, *sizes, input_grad=input_grad or not first)
        cost, first = cost + more, False
    return cost


def adversarial(model: Discriminators, batch: int, samples: int) -> Cost:
    """Real and generated audio for the discriminators, and generated audio once more for the generator, through weights that
    learn nothing there."""
    cost = Cost()
    for member in model.members:
        learns = _discriminator(member, batch, samples, input_grad=False)
        through = learns.forward
        cost += learns.times(2) + Cost(through, through, learns.activations)
    return cost


def encoders(model: Omni, images: int, clips: Sequence[tuple[int, int]]) -> Cost:
    """So many images, and groups of (clips, mel frames of each). One that is frozen has no gradients."""
    cost = Cost()
    if images and model.vision is not None:
        seen = vision(model.vision, images)
        cost += seen if learns(model.vision) else seen.frozen()
    for batch, frames in clips:
        assert model.audio is not None
        heard = audio(model.audio, batch, frames)
        cost += heard if learns(model.audio) else heard.frozen()
    return cost


def projectors(model: Omni, image_tokens: int, audio_tokens: int) -> Cost:
    """Of both modalities, padding included."""
    cost = Cost()
    for projector, encoder, rows in (
        (model.image_projector, model.vision, image_tokens), (model.audio_projector, model.audio, audio_tokens)
    ):  # fmt: skip
        if projector is not None and rows:
            input_grad = encoder is not None and learns(encoder)
            for layer in projector.layers.modules():
                if isinstance(layer, nn.Linear):
                    cost += linear(layer, rows, input_grad=input_grad)
                    input_grad = True
    return cost
