"""Models remember how they were built."""

from torch import nn

from muomni.models.registry import ARCHITECTURES, register


def test_options_are_those_of_the_constructor_with_defaults():
    @register("test_thing")
    class Thing(nn.Module):
        def __init__(self, *, width: int, sides: tuple[int, int] = (2, 3)) -> None:
            super().__init__()
            self.width = width

    thing = Thing(width=5)
    assert thing.options == {"width": 5, "sides": [2, 3]}
    assert thing.architecture == "test_thing"
    assert ARCHITECTURES.pop("test_thing") is Thing
    assert Thing(**thing.options).options == thing.options
