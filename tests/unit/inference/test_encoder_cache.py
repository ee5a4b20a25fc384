"""Features of media: the same bits in any company, computed once for the same content, within a bound."""

import threading

import pytest
import torch

from muomni.inference.encoder_cache import EncoderCache
from muomni.inference.prompt import Request
from muomni.models.omni import merge_features, split_features
from muomni.special_tokens import AUDIO, IMAGE


def images(count):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, 40, 48), generator=generator, dtype=torch.uint8) for _ in range(count)]


def sounds(*seconds):
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(round(16000 * each), generator=generator) for each in seconds]


def embedded(engine, request, cache=None):
    """Embeddings of the media slots."""
    prompter = engine.require_prompter()
    features = prompter.encode_media(request, cache=cache)
    ids = prompter.prompt(request, features).ids
    return prompter.embed(ids[None], [features])[0, (ids == IMAGE) | (ids == AUDIO)]


@pytest.mark.parametrize("truncate", [False, True])
def test_media_are_encoded_as_if_they_were_alone(truncate, engine):
    pictures, clips = images(4), sounds(0.4, 0.9, 0.2)
    alone = [embedded(engine, Request(images=[image])) for image in pictures]
    alone += [embedded(engine, Request(audios=[clip], truncate=truncate)) for clip in clips]
    cache = EncoderCache(max_bytes=1 << 20)
    for _ in range(2):
        together = embedded(engine, Request(images=pictures, audios=clips, truncate=truncate), cache)
        assert torch.equal(together, torch.cat(alone))
    assert (cache.misses, cache.hits) == (7, 7)
    assert torch.equal(embedded(engine, Request(images=pictures, audios=clips, truncate=truncate)), torch.cat(alone))


def test_features_of_several_media_split_into_what_they_were_merged_from(engine):
    request = Request(images=images(2), audios=sounds(0.3, 0.7))
    prompter = engine.require_prompter()
    features = prompter.encode_media(request)
    again = merge_features(list(split_features(features)))
    for name in ("images", "audios", "audio_lengths"):
        assert torch.equal(getattr(again, name), getattr(features, name))
    assert again.audio_counts == features.audio_counts == features.audio_lengths.tolist()


def test_what_was_used_last_is_kept_within_the_bound():
    cache = EncoderCache(max_bytes=3 * 40)
    contents = [torch.full((2, 2), float(index)) for index in range(5)]

    def get(index, options=""):
        return cache.features(contents[index], lambda: torch.full((10,), float(index)), options=options)

    for index in (0, 1, 2, 0, 3):  # 1 is dropped
        assert get(index).eq(index).all()
    assert (cache.misses, cache.hits, cache.bytes) == (4, 1, 120)
    for index in (0, 2, 3):
        get(index)
    assert cache.hits == 4
    get(1)
    get(0, "truncated")
    assert (cache.misses, cache.bytes) == (6, 120)
    cache.features(torch.zeros(7), lambda: torch.zeros(31), options="")  # larger than the bound: returned, not kept
    assert cache.bytes == 120
    whole = torch.zeros(1000)
    cache.features(torch.zeros(8), lambda: whole[:10], options="")
    assert max(entry.untyped_storage().nbytes() for entry in cache._entries.values()) == 40


def test_shape_and_dtype_are_part_of_the_content():
    cache = EncoderCache(max_bytes=1 << 10)
    for content in (torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32)):
        cache.features(content, lambda: torch.zeros(1), options="")
    assert (cache.misses, cache.hits) == (3, 0)


def test_an_error_is_raised_again_and_leaves_nothing():
    cache = EncoderCache(max_bytes=1 << 10)

    def fails():
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            cache.features(torch.zeros(1), fails, options="")
    assert (cache.misses, cache.bytes) == (2, 0)


def test_threads_share_a_cache():
    cache = EncoderCache(max_bytes=400)
    wrong = []

    def use(seed):
        generator = torch.Generator().manual_seed(seed)
        for index in torch.randint(0, 20, (300,), generator=generator).tolist():
            got = cache.features(torch.tensor([index]), lambda index=index: torch.full((10,), index), options="")
            if not got.eq(index).all():
                wrong.append(index)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.hits + cache.misses == 1200
    assert cache.bytes == sum(entry.nbytes for entry in cache._entries.values()) <= 400
