"""What goes wrong between here and a hub, as one line that says what to do. The hub's own messages name the reason."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from muomni.short_repr import shown

LOGIN = "log in by  hf auth login, or set HF_TOKEN to a token of https://huggingface.co/settings/tokens"


def hub() -> Any:
    """The module huggingface_hub. Raises ValueError where it is missing."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError("to push and pull:  pip install 'muomni[hf]'") from error
    return huggingface_hub


def hub_api() -> Any:
    """The client of the hub that HF_ENDPOINT names."""
    return hub().HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


@contextmanager
def one_line(repo: str, action: str) -> Iterator[None]:
    """Errors of huggingface_hub, of every class, as a ValueError of one line. action: such as `pushed to`."""
    errors = hub().errors
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"repo={repo}: a repository is USER/NAME ({shown(error, str, most=160)})") from error
    except errors.GatedRepoError as error:
        raise ValueError(f"{repo} is gated: ask for access on its page, and {LOGIN}") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"no repository {repo}, or it is private and this token may not read it: {LOGIN}") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{repo} has no such revision: name a branch, a tag or a commit of it") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        way_out = f"; {LOGIN}, one that may write" if status in (401, 403) else ""
        raise ValueError(
            f"nothing {action} {repo}: the hub refused it ({shown(error, str, most=200)}){way_out}"
        ) from error
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:  # of httpx, of its transport, of the cache: of many classes
        reason = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else shown(error, str, most=160)
        raise ValueError(
            f"nothing {action} {repo}: the hub cannot be reached ({reason}): see to the network"
        ) from error
