"""What a Talker with conditioning=hidden or both is told in training: the states of the Thinker that goes into its export.

The Thinker is the one that stage=thinker left. It goes along as it is, since omni_sft changes the states of its own.
"""

from collections.abc import Callable
from typing import Any

from muomni.checkpoints.export import check_same, weights_fingerprint
from muomni.evaluation.talker import TextStates
from muomni.frontends.text_form import form_metadata
from muomni.models.talker import Talker


def load_states(load: Callable[[], TextStates] | None, model: Talker, *, form: str | None) -> TextStates | None:
    """What tells a Talker the states that it takes; None if it takes none. form: of its texts, which must be the Thinker's.

    Raises ValueError where there is none to load, and for states of another width, or of texts in another form."""
    if model.conditioning == "text":
        return None
    if load is None:
        raise ValueError(f"backbone.talker.conditioning={model.conditioning} needs module.states, which is null")
    states = load()
    if states.thinker.dim != model.state_width:
        raise ValueError(
            f"{states.folder}: states of its Thinker have {states.thinker.dim} numbers, the Talker takes {model.state_width}: "
            "leave backbone.talker.state_width out"
        )
    written = None if form is None else form_metadata(form)
    check_same(states.metadata, {"text": written}, where=str(states.folder), remedy="give text= as it had")
    return states


def states_metadata(states: TextStates | None) -> dict[str, Any]:
    """What the Talker's export says of them: tokenizer and fingerprint of the Thinker. Other states would be noise."""
    if states is None:
        return {}
    return {"tokenizer": states.tokenizer.fingerprint(), "talker_thinker": weights_fingerprint(states.thinker)}
