"""A folder as a data set repository on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracestill.records.errors import first_line


def hub_url() -> str:
    """Where the hub is that is asked: `HF_ENDPOINT`, or huggingface.co."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def create_dataset(repository: str, *, private: bool) -> str:
    """A data set repository on the hub, made where there is none; its whole name.

    Raises:
        ValueError: nobody is logged in, the hub refuses or can't be reached, or a repository that
            is to be private is public.

    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise ValueError(
            "no token for the Hugging Face Hub is on this machine: log in with `hf auth login`, or "
            "set HF_TOKEN to one that may write"
        )
    api = HfApi()
    with _readable(repository):
        made = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        public = not api.dataset_info(made.repo_id).private
    if private and public:
        raise ValueError(
            f"{made.repo_id} is there already and public: name another, make it private, or push "
            "with --public"
        )
    return made.repo_id


def upload_dataset(folder: Path, repository: str) -> str:
    """Put a folder's files into a repository as one commit, in place of the data that it has: who
    reads it sees the old or the new. Returns the data set's address.

    Raises:
        ValueError: as `create_dataset`, or the hub takes no such card.

    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    new = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.*"))}
    with _readable(repository):
        there = api.dataset_info(repository).siblings or []
        old = (one.rfilename for one in there if one.rfilename.startswith("data/"))
        api.create_commit(
            repository,
            [
                *(CommitOperationDelete(name) for name in old if name not in new),
                *(CommitOperationAdd(name, path) for name, path in new.items()),
            ],
            repo_type="dataset",
            commit_message="Add the kept traces",
        )
    return f"{hub_url()}/datasets/{repository}"


@contextmanager
def _readable(repository: str) -> Iterator[None]:
    """What goes wrong with the hub, as a line for the user."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        raise ValueError(_refused(error, repository)) from error
    except OfflineModeIsEnabled as error:
        raise ValueError("HF_HUB_OFFLINE is set: unset it to push to the hub") from error
    except (httpx2.HTTPError, ConnectionError) as error:
        raise ValueError(f"{hub_url()} can't be reached: {first_line(error)}") from error
    except RuntimeError as error:  # of a file's upload, with its reason behind it
        why = first_line(error.__cause__ or error)
        raise ValueError(f"a file could not be uploaded to {repository}: {why}") from error


def _refused(error: object, repository: str) -> str:
    """What the hub's refusal means."""
    from huggingface_hub.errors import HfHubHTTPError

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    said = " ".join((error.server_message or first_line(error)).split())
    if status == 401:
        return f"the hub does not know this token ({said}): log in anew with `hf auth login`"
    if status == 403:
        return (
            f"{repository} belongs to somebody else, or the token may not write there ({said}): "
            "name a repository of yours, or log in with a token that may write"
        )
    return f"{hub_url()} answered {status} for {repository}: {said}"
