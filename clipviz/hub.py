"""Folders on the Hugging Face Hub: pushed as they are, and fetched with nothing but the files that a reader names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

Kind = Literal["model", "dataset"]


def push(
    folder: Path, repo: str, kind: Kind, files: Sequence[str], private: bool | None, message: str
) -> str:
    """Upload some files of a folder to a repository, which is created if it does not exist.

    Args:
        folder: The folder.
        repo: "owner/name".
        kind: Whether the repository is one of models or of data sets.
        files: Patterns of the files' names.
        private: Whether a new repository is private; None for the owner's default.
        message: The commit's title.

    Returns:
        The commit's address.

    Raises:
        ValueError: The repository has no such name, or it cannot be written.
    """
    hub = _hub()
    try:
        hub.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message=message,
        )
    except (hub.errors.HFValidationError, OSError) as error:
        raise ValueError(
            f"expected a repository to which you may write, got {repo!r} ({_short(error)}); sign in with "
            "`hf auth login`, and name the repository as owner/name"
        ) from error
    return str(done.commit_url)


def fetch(repo: str, kind: Kind, files: Sequence[str], revision: str | None, path: Path | None) -> Path:
    """Download some files of a repository, and return the folder that holds them.

    Args:
        repo: "owner/name".
        kind: Whether the repository is one of models or of data sets.
        files: Patterns of the files' names; others are not downloaded.
        revision: A branch, tag or commit; None for the main branch.
        path: A folder to download to; None for the Hub's cache, whose files must not be changed.

    Raises:
        ValueError: There is no such repository or revision, or it cannot be reached.
    """
    hub = _hub()
    try:
        found = hub.snapshot_download(
            repo, repo_type=kind, revision=revision, allow_patterns=list(files), local_dir=path
        )
    except (hub.errors.HFValidationError, OSError) as error:
        raise ValueError(
            f"expected a repository of the Hugging Face Hub, got {repo!r} ({_short(error)}); check its name, the "
            "revision and the network"
        ) from error
    return Path(found)


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError("the Hub needs huggingface_hub; pip install huggingface_hub") from error
    return huggingface_hub


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
