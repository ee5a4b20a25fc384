"""Warnings of Lightning that do not apply here, and its advertisements.

Lightning expects the position in the loader and warns in each resumed run; here the datamodule stores it. Lightning also warns
of frozen modules in eval mode, such as the Talker's codec, and of epochs shorter than the
logging interval, which counts steps of all epochs.
"""

import logging
import warnings

WARNINGS = (
    "does not have many workers|LeafSpec|tensorboardX|Checkpoint directory|sync_dist=True|in eval mode at|"
    "your dataloader is not resumable|smaller than the logging interval"
)


def silence_known_warnings() -> None:
    """Filter these warnings in this process."""
    warnings.filterwarnings("ignore", message=f".*({WARNINGS})")
    # "Tip: For seamless cloud logging ...": an advertisement
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
