"""Where files are kept, as one address: `file:///srv/files`, `s3://bucket/prefix`, `memory://`, `none://`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bichat.errors import StorageError, UserInputError
from bichat.names import printable
from bichat.storage.links import DownloadLinks
from bichat.storage.local import LocalStorage
from bichat.storage.memory import MemoryStorage
from bichat.storage.nothing import NoStorage
from bichat.storage.storage import FileStorage

#: Schemes of object stores, with what an address of each may say behind its `?`.
_STORES: Final = {"s3": ("endpoint", "region", "virtual_hosted"), "gs": (), "az": ("endpoint", "account")}
_FORMS: Final = (
    "file:///path, s3://bucket/prefix?endpoint=https://host&region=name, gs://bucket/prefix, az://container/prefix, "
    "memory:// or none://"
)
#: Of a connection that is made, of a store that says nothing, and of one request with all its repetitions.
_CONNECT_S: Final = 5
_SILENCE_S: Final = 30
_RETRY_S: Final = 20
_RETRIES: Final = 3


def open_storage(url: str, links: DownloadLinks) -> FileStorage:
    """The storage at `url`; a folder is swept of what a crash left there, nothing else is touched or asked.

    Credentials of object stores come from the environment that their own tools read (`AWS_ACCESS_KEY_ID`,
    `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_KEY`, ...), never from the address.

    Args:
        url: `file:///path`, `s3://bucket/prefix?endpoint=https://host&region=name`, `gs://bucket/prefix`,
            `az://container/prefix`, `memory://` or `none://`.
        links: makes download addresses for what has no server of its own: folders and memory.

    Raises:
        UserInputError: no such address, or one with a password in it.
        StorageError: the extra `s3` is not installed, or the folder cannot be read.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise _unusable(
            parts.scheme + "://…", "credentials do not belong into it", "Pass them as AWS_ACCESS_KEY_ID, ..."
        )
    if parts.scheme == "file":
        return _folder(url, parts, links)
    if parts.scheme in _STORES:
        return _store(url, parts)
    if url == "memory://":
        return MemoryStorage(links)
    if url == "none://":
        return NoStorage()
    raise _unusable(url, "there is no such kind of storage")


def _folder(url: str, parts: SplitResult, links: DownloadLinks) -> LocalStorage:
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.is_absolute():
        raise _unusable(
            url, "it names no folder of this host", "Write three slashes and a path, as in file:///srv/files."
        )
    storage = LocalStorage(path, links)
    storage.sweep()
    return storage


def _store(url: str, parts: SplitResult) -> FileStorage:
    try:
        from obstore.store import from_url

        from bichat.storage.objects import ObjectStorage
    except ImportError as error:
        raise StorageError(
            f"object stores need a package that is not installed ({error.name})",
            stage="settings",
            remedy="Install the extra: pip install 'bichat[s3]'.",
        ) from error
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - set(_STORES[parts.scheme])
    if not parts.netloc or parts.fragment or unknown:
        reason = f"it says {min(unknown)}, which means nothing here" if unknown else "it names no bucket"
        raise _unusable(url, reason)
    place = f"{parts.scheme}://{parts.netloc}{parts.path}"
    try:
        store = from_url(
            place,
            config=_config(parts.scheme, options),
            client_options={
                "allow_http": options.get("endpoint", "").startswith("http://"),
                "connect_timeout": timedelta(seconds=_CONNECT_S),
                "read_timeout": timedelta(seconds=_SILENCE_S),
                "timeout": timedelta(days=1),  # of a whole request: large files take their time
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)},
        )
    except Exception as error:  # obstore's exceptions have no base in common for what is wrong with an address
        raise _unusable(url, printable(str(error).partition("\n")[0])[:200]) from error
    return ObjectStorage(store, place=place)


def _config(scheme: str, options: dict[str, str]) -> Any:
    names = {"virtual_hosted": "virtual_hosted_style_request", "account": "account_name"}
    config = {names.get(name, name): value for name, value in options.items()}
    if scheme == "s3":
        config.setdefault("region", "us-east-1")
    return config


def _unusable(url: str, reason: str, remedy: str = "") -> UserInputError:
    return UserInputError(
        f"no storage at {printable(url)[:200]}: {reason}",
        stage="settings",
        remedy=remedy or f"BICHAT_STORAGE_URL is {_FORMS}.",
    )
