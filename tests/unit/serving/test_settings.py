"""What a server may listen on, and with which limits."""

import pytest

from muomni.serving.settings import ServerSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_key(host):
    assert ServerSettings(host=host).is_local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "fe80::1", "example.org", "localhost.example.org"])
def test_any_other_address_needs_one(host):
    with pytest.raises(ValueError, match=r"host=.*: other machines could use this server: set a key"):
        ServerSettings(host=host)
    assert not ServerSettings(host=host, key="correct-horse").is_local


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"key": "short"}, "at least 8 ASCII characters"),
        ({"key": "with a space"}, "without spaces"),
        ({"key": "schlüssel-lang"}, "ASCII"),
        ({"port": 70000}, "port=70000"),
        ({"port": -1}, "port=-1"),
        ({"slots": 0}, "slots=0: a whole number"),
        ({"slots": True}, "slots=True"),
        ({"slots": 1.5}, "slots=1.5"),
        ({"grace": float("inf")}, "grace=inf"),
        ({"grace": float("nan")}, "grace=nan"),
        ({"grace": "ten"}, "grace=ten"),
        ({"origins": ("https://example.org/",)}, "without a path"),
        ({"origins": ("example.org",)}, "origins="),
        ({"vad": "magic"}, "vad=magic: energy or silero"),
        ({"look_ahead": -2}, "look_ahead=-2: a number of characters"),
    ],
)
def test_a_value_out_of_range_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        ServerSettings(**wrong)


def test_the_model_has_its_names():
    settings = ServerSettings(model="omni", names=("gpt-4o",))
    assert [settings.answers_to(name) for name in ("omni", "gpt-4o", "other")] == [True, True, False]
    assert ServerSettings(model="omni", names=("*",)).answers_to("other")
