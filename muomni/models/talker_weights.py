"""Initial weights of the Talker."""

from typing import TYPE_CHECKING

from torch import nn

from muomni.nn.initialise import initialise

if TYPE_CHECKING:
    from muomni.models.talker import Talker

INPUT_STD = 0.5  # of the embeddings of characters and codes before training


def initialise_talker(talker: "Talker", *, start_std: float) -> None:
    """Draw all weights. start_std: of the start frame."""
    initialise(talker, num_layers=talker.num_layers)
    # The text is normalised before it enters. Next to it codes with the usual 0.02 would hardly count (learning then
    # takes four times the steps), and characters of 0.02 would have gradients fifty times as large.
    nn.init.normal_(talker.text.embedding.weight, std=INPUT_STD)
    if talker.text.states is not None:
        nn.init.normal_(talker.text.states.proj.weight, std=INPUT_STD * talker.state_width**-0.5)
    nn.init.normal_(talker.code_embedding.weight, std=INPUT_STD)
    nn.init.normal_(talker.start, std=start_std)
    if talker.stop is not None:
        nn.init.constant_(talker.stop.bias, -3.0)  # one frame in twenty is the last
    if talker.aligned is not None:
        talker.aligned.initialise()
    if talker.depth is not None:
        nn.init.normal_(talker.depth.embedding.weight, std=INPUT_STD)
    if talker.text.no_text is not None:
        nn.init.normal_(talker.text.no_text, std=INPUT_STD)
