"""An encoder of chunks: bounded right context, and a stream that equals the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.models.audio import Audio
from muomni.models.audio_stream import AudioStream


def build(**options):
    torch.manual_seed(0)
    shape = {"n_mels": 16, "num_symbols": 9, "channels": 4, "downsample": 4, "dim": 32, "num_layers": 3, "num_heads": 2}
    return Audio(**(shape | {"ff_dim": 48, "conv_kernel": 5, "chunk": 4, "right_context": 2} | options)).eval()


@torch.inference_mode()
def streamed(model, mel):
    """Settled logits (T', S), and the open ones of each step."""
    stream, settled, opened, begin = AudioStream(model), [], [], 0
    while len(mel) - begin >= stream.next_frames:
        end = begin + stream.next_frames
        output = stream.step(mel[begin:end])
        settled.append(output.settled)
        opened.append(output.open)
        begin = end
    return torch.cat([*settled, stream.close(mel[begin:]).settled]), opened


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 130), chunk=st.integers(1, 7), right=st.integers(0, 5), left=st.sampled_from([None, 0, 1, 5, 9]),
    kernel=st.sampled_from([0, 1, 3, 9]), downsample=st.sampled_from([2, 4, 8]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_stream_equals_the_whole(frames, chunk, right, left, kernel, downsample, seed):
    model = build(
        chunk=chunk, right_context=right, left_context=left, conv_kernel=kernel, downsample=downsample, num_layers=2
    )
    mel = torch.randn(frames, 16, generator=torch.Generator().manual_seed(seed))
    whole = model(mel[None]).logits[0]
    torch.testing.assert_close(streamed(model, mel)[0], whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", [0, 5])
@pytest.mark.parametrize("left", [None, 3])
def test_padding_never_changes_a_valid_frame(kernel, left):
    model = build(conv_kernel=kernel, left_context=left)
    mel = torch.randn(2, 90, 16)
    mel[1, 43:] = 1e3
    output, alone = model(mel, torch.tensor([90, 43])), model(mel[1:, :43])
    assert output.lengths.tolist() == [23, 11]
    assert output.logits.isfinite().all()
    torch.testing.assert_close(output.logits[1, :11], alone.logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("right", "seen_until"), [(0, 8), (2, 10)])
def test_a_chunk_sees_its_right_context_and_nothing_after_it_in_any_layer(right, seen_until):
    model = build(right_context=right)
    mel = torch.randn(1, 80, 16, requires_grad=True)
    model(mel).logits[0, 4:8].square().sum().backward()  # the second chunk
    touched = mel.grad[0].abs().sum(-1) > 0
    assert touched[: 4 * seen_until].all()
    assert not touched[4 * seen_until :].any()


def test_the_left_context_is_bounded():
    model = build(left_context=3, conv_kernel=0, num_layers=1, right_context=0)
    mel = torch.randn(1, 80, 16, requires_grad=True)
    model(mel).logits[
        0, 8:12
    ].square().sum().backward()  # frames 5 to 11, and of frame 5 the stem's 3 mel frames before
    touched = mel.grad[0].abs().sum(-1) > 0
    assert touched.nonzero()[0].item() == 5 * 4 - 3


def test_one_chunk_of_all_is_the_encoder_without_chunks():
    chunked, plain = build(chunk=30, right_context=0), build(chunk=0, right_context=0)
    plain.load_state_dict(chunked.state_dict())
    mel, lengths = torch.randn(2, 100, 16), torch.tensor([100, 61])
    output, expected = chunked(mel, lengths, after_blocks=(1,)), plain(mel, lengths, after_blocks=(1,))
    for length, ours, theirs in zip(output.lengths, output.logits, expected.logits, strict=True):
        torch.testing.assert_close(ours[:length], theirs[:length], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.intermediate[0][0], expected.intermediate[0][0], atol=1e-5, rtol=1e-4)


def test_open_logits_are_those_of_a_recording_that_ends_there():
    model, mel = build(), torch.randn(60, 16)
    _, opened = streamed(model, mel)
    for step, logits in enumerate(opened):
        ended = model(mel[None, : (4 * step + 6) * 4]).logits[0, 4 * step + 4 :]
        torch.testing.assert_close(logits, ended, atol=1e-5, rtol=1e-4)
    later = model(mel[None]).logits[0, 4:6]
    assert not torch.allclose(opened[0], later, atol=1e-2)  # they may change


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="give chunk= too"):
        build(chunk=0, right_context=2)
    with pytest.raises(ValueError, match="chunk >= 1"):
        build(chunk=-1)
    with pytest.raises(ValueError, match="train with audio_encoder=streaming"):
        AudioStream(build(chunk=0, right_context=0))
