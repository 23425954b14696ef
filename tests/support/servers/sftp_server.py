"""An SFTP server in this process: a folder of this machine, a user with a password, and a key of its own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

USER, PASSWORD = "till", "hush-hush-7"


@dataclass
class SftpServer:
    """Where it listens, the file of known hosts that knows it, and what its open files are."""

    port: int
    known_hosts: Path
    handle: type[_Handle]

    def url(self, folder: str = "drop", password: str = PASSWORD) -> str:
        """The address of a folder."""
        return f"sftp://{USER}:{password}@127.0.0.1:{self.port}/{folder}"


class _Login(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if (username, password) == (USER, PASSWORD) else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002 - the library's shape
        return paramiko.OPEN_SUCCEEDED

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "password"


class _Handle(paramiko.SFTPHandle):
    """An open file, which ends after `longest` bytes of it if the server is a faulty one."""

    longest: int | None = None

    def read(self, offset: int, length: int) -> Any:
        most = length if self.longest is None else max(0, min(length, self.longest - offset))
        return super().read(offset, most) if most else paramiko.SFTP_EOF

    def stat(self) -> Any:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


def _answer(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno or 0)


def _done(work: Callable[[], object]) -> int:
    def all_of_it() -> int:
        work()
        return int(paramiko.SFTP_OK)

    return int(_answer(all_of_it))


def _attributes(path: Path) -> Any:
    found = paramiko.SFTPAttributes.from_stat(path.lstat())
    found.filename = path.name
    return found


class _Folder(paramiko.SFTPServerInterface):
    """A folder; its path is the server's `root`."""

    root: Path
    handle: type[_Handle]

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def list_folder(self, path: str) -> Any:
        return _answer(lambda: [_attributes(one) for one in self._at(path).iterdir()])

    def stat(self, path: str) -> Any:
        return _answer(lambda: _attributes(self._at(path)))

    lstat = stat

    def open(self, path: str, flags: int, attr: Any) -> Any:  # noqa: ARG002 - the library's shape
        def opened() -> _Handle:
            handle = self.handle(flags)
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            handle.readfile = handle.writefile = self._at(path).open("wb" if writes else "rb")
            return handle

        return _answer(opened)

    def remove(self, path: str) -> int:
        return _done(self._at(path).unlink)

    def rename(self, oldpath: str, newpath: str) -> int:
        return _done(lambda: self._at(oldpath).rename(self._at(newpath)))

    posix_rename = rename

    def mkdir(self, path: str, attr: Any) -> int:  # noqa: ARG002 - the library's shape
        return _done(self._at(path).mkdir)


@contextmanager
def sftp_server(root: Path) -> Iterator[SftpServer]:
    """Serve a folder until the test ends."""
    key, listener, transports = paramiko.ECDSAKey.generate(), socket.create_server(("127.0.0.1", 0)), []
    port = listener.getsockname()[1]
    handle = type("Handle", (_Handle,), {})
    folder = type("Folder", (_Folder,), {"root": root, "handle": handle})
    known = root / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")

    def accept() -> None:
        with suppress(OSError):
            while True:
                transport = paramiko.Transport(listener.accept()[0])
                transports.append(transport)
                transport.add_server_key(key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, folder)
                with suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=_Login())

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield SftpServer(port, known, handle)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in transports:
            transport.close()
        thread.join(5)
