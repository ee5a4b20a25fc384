"""A step for matrices and AdamW for vectors, embeddings and heads, as one optimizer, so that a trainer counts one step."""

from typing import Any, ClassVar

from torch.optim import AdamW

from muomni.optim.by_group import ByGroup


class WithAdamW(ByGroup):
    """Groups in which `key` is True take the subclass's `_matrix_step`; the others take AdamW's."""

    key: ClassVar[str]

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__(groups, {**defaults, "weight_decay": 0.0, self.key: False})
        others = [group for group in self.param_groups if not group[self.key]]
        self._adamw = AdamW(others, lr=defaults["lr"], betas=defaults["betas"], fused=True) if others else None
        if self._adamw is not None:
            # The same dictionaries: a schedule that changes a rate here changes it there.
            self._adamw.param_groups = others
            self._adamw.state = self.state

    def _step_groups(self) -> None:
        for group in self.param_groups:
            if group[self.key]:
                self._matrix_step(group)
        if self._adamw is not None:
            self._adamw.step()

    def _matrix_step(self, group: dict[str, Any]) -> None:
        raise TypeError(f"{type(self).__name__} does not define _matrix_step")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both; the inner AdamW looks at the new groups and state."""
        super().load_state_dict(state_dict)
        if self._adamw is not None:
            self._adamw.param_groups = [group for group in self.param_groups if not group[self.key]]
            self._adamw.state = self.state
