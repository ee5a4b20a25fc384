"""Values of a config.json, one by one: of the right type, and none that changes the result left unread.

A key that is neither read nor known to change nothing is refused: it may be what the result depends on.
"""

import re
from collections.abc import Mapping
from typing import Any

from muomni.nn.rope_scaling import ORIGINAL, VARIANTS
from muomni.short_repr import shown

FULL, SLIDING = "full_attention", "sliding_attention"
#: Keys that change no logits: of training, generation, tokens, and of the libraries that wrote the file.
WITHOUT_EFFECT = re.compile(
    r"_.*|muomni|architectures|model_type|transformers.*|torch_dtype|dtype|name_or_path|.*_token_ids?|use_cache|initializer_range"
    r"|attention_dropout|\w+_pdrop|dropout|pretraining_tp|output_\w+|router_aux_loss_coef|return_dict|use_return_dict|summary_\w+"
    r"|task_specific_params|id2label|label2id|problem_type|finetuning_task|gradient_checkpointing|torchscript|unsloth_\w+"
    r"|attn_implementation|chunk_size_feed_forward|cache_implementation|n_ctx|is_llama_config|tokenizer_class|num_labels"
    r"|max_length|min_length|do_sample|early_stopping|num_beams|temperature|top_k|top_p|repetition_penalty|reorder_and_upcast_attn"
)


class ConfigReader:
    """The keys of a config.json. defaults: values of keys that may be missing, as transformers has them."""

    def __init__(self, config: Mapping[str, Any], *, defaults: Mapping[str, Any], where: str) -> None:
        self.config, self.defaults, self.where = config, defaults, where
        self.read: set[str] = set()

    def get(self, key: str) -> Any:
        """The value of a key, or its default. Raises ValueError for a missing key without one."""
        self.read.add(key)
        if self.config.get(key) is None and key in self.defaults:
            return self.config.get(key, self.defaults[key])
        if key not in self.config:
            raise ValueError(f"{self.where}: {key} is missing: the file is incomplete")
        return self.config[key]

    def integer(self, key: str) -> int:
        """A whole number above 0."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.where}: {key}={shown(value)}: a whole number above 0 is needed")
        return value

    def number(self, key: str) -> float:
        """A number above 0."""
        return self._number(key, self.get(key))

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{self.where}: {key}={shown(value)}: a number above 0 is needed")
        return float(value)

    def switch(self, key: str) -> bool:
        """True or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}: {key}={shown(value)}: true or false is needed")
        return value

    def choice(self, key: str, known: Mapping[str, str]) -> str:
        """One of the known values, in our name."""
        value = self.get(key)
        if value not in known:
            raise ValueError(f"{self.where}: {key}={shown(value)}: this Thinker has {', '.join(known)}")
        return known[value]

    def only(self, key: str, *values: Any) -> None:
        """Refuse all other values than these, the first of which is the default."""
        self.read.add(key)
        value = self.config.get(key, values[0])
        if value not in values:
            raise ValueError(f"{self.where}: {key}={shown(value)} is not supported, only {key}={shown(values[0])}")

    def finish(self) -> None:
        """Refuse keys that were not read and may change the result."""
        for key, value in self.config.items():
            if key in self.read or WITHOUT_EFFECT.fullmatch(key) or value in (None, False, [], {}):
                continue
            raise ValueError(
                f"{self.where}: {key}={shown(value)} is not known here, and may change the results: remove it from the file if "
                "it does not"
            )

    def rope(self, *, section: str | None = None, theta: str = "rope_theta") -> tuple[float, float | dict[str, Any]]:
        """Base and scaling of the rotary positions, as `Rope` takes them: of `rope_parameters` (transformers 5, of a `section`
        where layers have their own), or of the key `theta` and rope_scaling, which is that of rope_theta alone."""
        self.read |= {theta, "rope_scaling", "rope_parameters"}
        self.only("partial_rotary_factor", None, 1, 1.0)
        self.only("rope_interleaved", False)
        given = self.config.get("rope_parameters")
        if given is None:
            given = self.config.get("rope_scaling") if theta == "rope_theta" else None
        elif section is not None and isinstance(given, dict) and {FULL, SLIDING} & given.keys():
            given = given.get(section)
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise ValueError(f"{self.where}: rope_scaling={shown(given)}: a table is needed")
        base = given.get("rope_theta", self.config.get(theta))
        base = self.defaults.get(theta, 10000.0) if base is None else base
        return self._number(theta, base), self._rope_scaling(given)

    def _rope_scaling(self, given: Mapping[str, Any]) -> float | dict[str, Any]:
        kind = given.get("rope_type", given.get("type", "default"))
        left_out = ("rope_theta", "rope_type", "type", "partial_rotary_factor")
        rest = {key: value for key, value in given.items() if key not in left_out and value is not None}
        if given.get("partial_rotary_factor", 1.0) != 1:
            raise ValueError(f"{self.where}: partial_rotary_factor={given['partial_rotary_factor']} is not supported")
        if kind == "default":
            return 1.0
        if kind == "linear":
            return self._number("rope_scaling.factor", rest.get("factor"))
        if kind not in VARIANTS:
            known = ", ".join(("default", "linear", *VARIANTS))
            raise ValueError(f"{self.where}: rope_type={shown(kind)} is not supported, only {known}")
        if ORIGINAL not in rest:
            rest[ORIGINAL] = self.get("max_position_embeddings")
        return {"rope_type": kind, **rest}

    def layer_types(self, count: int) -> list[bool] | None:
        """Whether each layer's attention has a window, None where nothing is said."""
        self.read.add("layer_types")
        found = self.config.get("layer_types")
        if found is None:
            return None
        if not isinstance(found, list) or len(found) != count or any(name not in (FULL, SLIDING) for name in found):
            raise ValueError(f"{self.where}: layer_types={shown(found)}: {count} of {FULL} or {SLIDING} are needed")
        return [name == SLIDING for name in found]
