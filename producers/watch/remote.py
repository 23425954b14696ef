"""A place of another machine, by way of fsspec: SFTP, S3, Google Cloud Storage, Azure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from consent.errors import ConfigurationError, SourceUnavailable, UnreadableNow
from consent.files import path_text, private_folder
from consent.times import to_micros
from producers.files.rejects import REJECTS_ENDING
from producers.files.sources import Origin, SourceFile, path_of, private_copy
from producers.watch.address import WatchAddress
from producers.watch.finished import REASON_ENDING, names_for
from producers.watch.place import LONGEST_NOTE, FileGone, FoundFile

_CHUNK = 1024 * 1024
_REJECTS = "rejects"
_SECONDS = 20.0
EXTRAS = {"sftp": "sftp", "s3": "s3", "gs": "gcs", "az": "azure"}
"""What must be installed for each scheme: `pip install 'optrelay[sftp]'`."""


def open_sftp(address: WatchAddress) -> Any:
    """Connect to an SFTP server whose key is known; raises SourceUnavailable.

    fsspec's own way would take any key of a server that it does not know.
    """
    paramiko = import_module("paramiko")
    from fsspec.implementations.sftp import SFTPFileSystem  # noqa: PLC0415 - an extra brings it

    class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
        def _connect(self) -> None:
            parts = urlsplit(address.url)
            self.client = paramiko.SSHClient()
            if address.known_hosts:
                self.client.load_host_keys(address.known_hosts)
            else:
                self.client.load_system_host_keys()
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            self.client.connect(
                parts.hostname,
                port=parts.port or 22,
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                key_filename=address.key,
                timeout=_SECONDS,
                banner_timeout=_SECONDS,
                auth_timeout=_SECONDS,
            )
            self.client.get_transport().set_keepalive(30)
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(60.0)

    return KnownHosts(host=urlsplit(address.url).hostname, skip_instance_cache=True)


def open_store(address: WatchAddress) -> Any:
    """Return an object store; its credentials are those that its own tools find."""
    fsspec = import_module("fsspec")
    return fsspec.filesystem(address.scheme, skip_instance_cache=True, use_listings_cache=False)


@dataclass(slots=True)
class RemotePlace:
    """A folder, or what a bucket holds below a prefix. A file is copied to a private file to be read.

    Rejected rows go into a folder of ours, `rejects`, for a place may be someone else's.
    """

    address: WatchAddress
    rejects: Path
    connect: Callable[[WatchAddress], Any]
    _files: Any = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """Its address without a password."""
        return self.address.shown

    def list(self) -> list[FoundFile]:
        """Return its files."""
        with self._usable() as files:
            files.invalidate_cache()
            try:
                found = files.ls(self._root, detail=True)
            except FileNotFoundError:
                if self.address.scheme == "sftp" or not self._has_bucket(files):
                    raise
                found = []  # an empty prefix is no folder
            return [_found(one) for one in found if one.get("type") == "file"]

    @contextmanager
    def fetched(self, file: FoundFile) -> Iterator[SourceFile]:
        """Copy it to a private file; what was replaced on the way is another file."""
        digest = hashlib.sha256()
        with private_copy() as spool:
            with self._usable() as files, _gone(file.name), files.open(self._at(file.name), "rb") as remote:
                while chunk := remote.read(_CHUNK):
                    digest.update(chunk)
                    spool.write(chunk)
            spool.flush()
            self._same(file)
            if spool.tell() < file.size:
                raise UnreadableNow(f"{self.shown} gave {spool.tell():,} of the {file.size:,} bytes of {file.name}")
            private_folder(self.rejects)
            modified = None if file.modified is None else to_micros(datetime.fromtimestamp(file.modified, UTC))
            origin = Origin(digest.hexdigest(), modified, self.rejects / f"{file.name}{REJECTS_ENDING}", None)
            yield SourceFile(path_of(spool), f"{self.shown}/{path_text(file.name)}", spooled=True, origin=origin)

    def text(self, name: str) -> str | None:
        """Return a small file as text."""
        with self._usable() as files, suppress(FileNotFoundError):
            with files.open(self._at(name), "rb") as remote:
                content: bytes = remote.read(LONGEST_NOTE + 1)
            return content.decode("utf-8", "replace") if len(content) <= LONGEST_NOTE else None
        return None

    def move(self, file: FoundFile, folder: str, reason: str = "") -> str:
        """Move a file into a folder below, where no other has its name."""
        self._same(file)
        with self._usable() as files, _gone(file.name):
            target = self._free(files, folder, file.name)
            files.mv(self._at(file.name), target)
            if reason:
                files.pipe_file(f"{target}{REASON_ENDING}", f"{reason}\n".encode())
        return f"{self.shown}/{folder}/{target.rpartition('/')[2]}"

    def move_rejects(self, path: Path, *, put: bool) -> str:
        """Keep a rejects file here, and put it back beside what was brought if that is wanted."""
        if not put:
            return path_text(path)
        with self._usable() as files:
            target = self._free(files, _REJECTS, path.name)
            files.put_file(str(path), target)
        return f"{self.shown}/{_REJECTS}/{target.rpartition('/')[2]}"

    def delete(self, name: str) -> None:
        """Remove a file."""
        with self._usable() as files, suppress(FileNotFoundError):
            files.rm_file(self._at(name))

    def close(self) -> None:
        """Let go of the connection."""
        files, self._files = self._files, None
        if (client := getattr(files, "client", None)) is not None:
            client.close()

    def _has_bucket(self, files: Any) -> bool:
        """Whether the bucket is there; one that may be listed below a prefix alone is."""
        try:
            files.ls(urlsplit(self.address.url).hostname)
        except FileNotFoundError:
            return False
        except PermissionError:
            return True
        return True

    @property
    def _root(self) -> str:
        path = unquote(urlsplit(self.address.url).path).rstrip("/")
        return path or "/" if self.address.scheme == "sftp" else f"{urlsplit(self.address.url).hostname}{path}"

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _free(self, files: Any, folder: str, name: str) -> str:
        files.makedirs(self._at(folder), exist_ok=True)
        return next(at for one in names_for(name) if not files.exists(at := self._at(f"{folder}/{one}")))

    def _same(self, file: FoundFile) -> None:
        with self._usable() as files, _gone(file.name):
            files.invalidate_cache()
            if _found(files.info(self._at(file.name))).version != file.version:
                raise FileGone(file.name)

    @contextmanager
    def _usable(self) -> Iterator[Any]:
        """Give the connection; it is made anew after anything went wrong with it."""
        try:
            if self._files is None:
                self._files = self.connect(self.address)
            yield self._files
        except (FileGone, ConfigurationError):
            raise
        except ImportError:
            extra = EXTRAS[self.address.scheme]
            raise ConfigurationError(f"{self.address.scheme}:// needs more: pip install 'optrelay[{extra}]'") from None
        except Exception as error:
            self.close()
            raise SourceUnavailable(f"{self.shown} cannot be used: {_message(error)}") from error


def _message(error: Exception) -> str:
    """Return what is wrong in words that hold no credential."""
    if "known_hosts" in str(error) or type(error).__name__ == "BadHostKeyException":
        return "its host key is not a known one: compare it with its owner, then add it to known_hosts"
    if isinstance(error, FileNotFoundError):
        return "it is not there: look at its address"
    return getattr(error, "strerror", None) or type(error).__name__


@contextmanager
def _gone(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileGone(name) from None


def _found(info: Mapping[str, Any]) -> FoundFile:
    times = (info.get(one) for one in ("mtime", "LastModified", "updated", "last_modified", "modified", "created"))
    tags = (info.get(one) for one in ("ETag", "etag", "generation"))
    name = str(info["name"]).rstrip("/").rpartition("/")[2]
    return FoundFile(name, int(info.get("size") or 0), next(map(_seconds, filter(None, times)), None), _tag(*tags))


def _tag(*tags: object) -> str:
    return next((str(one) for one in tags if one), "")


def _seconds(moment: Any) -> float:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return float(moment.timestamp() if isinstance(moment, datetime) else moment)
