"""Warnings of Lightning that do not apply here, and its advertisements.

It looks for the position in the loader and warns of each resumed run; here the datamodule has it. It takes frozen modules,
such as the Talker's codec, for modules forgotten in eval mode.
"""

import logging
import warnings


def silence_known_warnings() -> None:
    """Filter them out in this process."""
    texts = (
        "does not have many workers",
        "LeafSpec",
        "tensorboardX",
        "Checkpoint directory",
        "sync_dist=True",
        "in eval mode at",
        "your dataloader is not resumable",
    )
    # "Tip: For seamless cloud logging ...": an advertisement
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    for text in texts:
        warnings.filterwarnings("ignore", message=f".*{text}.*")
