"""Who may use the page: users with passwords and roles, and how a password is kept and checked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from consent.errors import ConfigurationError

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 1_000

_N, _R, _P = 2**15, 8, 1  # 32 MB and about 80 ms: https://cheatsheetseries.owasp.org (Password Storage)
_KEY_BYTES = 32
_MEMORY = 128 * 1024 * 1024
_LONGEST_NAME = 80


class Role(StrEnum):
    """What a user may do beside looking, which every user may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    PRIVACY = "privacy"


@dataclass(frozen=True, slots=True)
class User:
    """One user of the page: the name that the audit log keeps, and the roles.

    `proves_name` is False for a user whose name is only that of the operating system's account.
    """

    name: str
    roles: frozenset[Role]
    proves_name: bool = True

    def may(self, role: Role) -> bool:
        """Whether the user has a role; looking needs none."""
        return role is Role.VIEWER or role in self.roles


@dataclass(frozen=True, slots=True)
class _Password:
    n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    def is_of(self, password: str) -> bool:
        shown = hashlib.scrypt(
            password.encode(), salt=self.salt, n=self.n, r=self.r, p=self.p, maxmem=_MEMORY, dklen=len(self.key)
        )
        return hmac.compare_digest(shown, self.key)


@dataclass(frozen=True, slots=True)
class _Entry:
    user: User
    password: _Password | None = field(repr=False)  # None: an authenticating proxy vouches for the user


def hashed(password: str) -> str:
    """Return a password as the settings keep it: `scrypt:N:r:p:salt:key`, of characters that every shell leaves alone.

    Raises ConfigurationError for one that is too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigurationError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters")
    salt = secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY, dklen=_KEY_BYTES)
    return f"scrypt:{_N}:{_R}:{_P}:{_text(salt)}:{_text(key)}"


def read_roles(names: Iterable[str]) -> frozenset[Role]:
    """Read the names of roles; raise ConfigurationError for one that is none."""
    try:
        return frozenset(Role(name.strip().lower()) for name in names) | {Role.VIEWER}
    except ValueError:
        raise ConfigurationError(f"the roles of a user are {', '.join(Role)}") from None


class Users:
    """The users of the settings."""

    def __init__(self, setting: str) -> None:
        """Read `ann[operator+privacy]=scrypt:…,bob[viewer]=proxy`; raise ConfigurationError, which shows no hash."""
        self._entries: dict[str, _Entry] = {}
        for number, part in enumerate((one for one in setting.split(",") if one.strip()), 1):
            entry = _entry(part.strip(), f"OPTRELAY_UI_USERS: user {number}")
            if entry.user.name in self._entries:
                raise ConfigurationError(f"OPTRELAY_UI_USERS names {entry.user.name} twice")
            self._entries[entry.user.name] = entry
        self._dummy = _read_password(hashed(secrets.token_hex(16))) if self._entries else None

    def __bool__(self) -> bool:
        """Whether there is any user."""
        return bool(self._entries)

    @property
    def has_proxied(self) -> bool:
        """Whether a proxy vouches for any of them."""
        return any(one.password is None for one in self._entries.values())

    def with_password(self, name: str, password: str) -> User | None:
        """Return the user with this name and password, or None; it takes as long for a name that there is not."""
        entry = self._entries.get(name)
        known = entry.password if entry else None
        checked = known or self._dummy
        is_right = checked is not None and len(password) <= LONGEST_PASSWORD and checked.is_of(password)
        return entry.user if entry and known and is_right else None

    def proxied(self, name: str) -> User | None:
        """Return the user with this name if a proxy may vouch for it."""
        entry = self._entries.get(name)
        return entry.user if entry and entry.password is None else None


class Throttle:
    """Refuses more logins after so many failures within a time: for one name, and in all.

    It is kept by this process alone. Names are those that were typed, so only the latest ones are kept. Several logins
    may be under way at once, each in a thread of its own.
    """

    WINDOW_SECONDS = 600.0
    OF_NAME = 10
    OF_ALL = 100
    _NAMES = 1_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, list[float]] = {}
        self._all: list[float] = []
        self._lock = threading.Lock()

    def begin(self, name: str) -> float:
        """Take a login for a failure before its password is looked at, and return 0.0, or for how long none is."""
        with self._lock:
            wait = self.wait(name)
            if not wait:
                self.fail(name)
            return wait

    def wait(self, name: str) -> float:
        """Return for how many seconds no login of this name is looked at; 0.0 if it is looked at now."""
        since = self._clock() - self.WINDOW_SECONDS
        mine = [at for at in self._failures.get(name, ()) if at > since]
        self._all = [at for at in self._all if at > since]
        ends = [found[-most] for found, most in ((mine, self.OF_NAME), (self._all, self.OF_ALL)) if len(found) >= most]
        return max((at - since for at in ends), default=0.0)

    def fail(self, name: str) -> None:
        """Note a failure."""
        now = self._clock()
        self._failures[name] = [*self._failures.pop(name, ())[-self.OF_NAME + 1 :], now]
        self._all.append(now)
        while len(self._failures) > self._NAMES:
            del self._failures[next(iter(self._failures))]

    def succeed(self, name: str) -> None:
        """Forget the failures of a name, and the last one of all."""
        with self._lock:
            self._failures.pop(name, None)
            if self._all:
                self._all.pop()


def _entry(text: str, where: str) -> _Entry:
    name, equals, secret = text.partition("=")
    bare, bracket, roles = name.strip().removesuffix("]").partition("[")
    if not (equals and bracket and name.strip().endswith("]") and bare.strip()):
        raise ConfigurationError(f"{where} is not written like name[operator+privacy]=scrypt:…: see `optrelay user`")
    if len(bare.strip()) > _LONGEST_NAME or not bare.strip().isprintable():
        raise ConfigurationError(f"{where}: a name has at most {_LONGEST_NAME} printable characters")
    user = User(bare.strip(), read_roles(one for one in roles.split("+") if one.strip()))
    if secret.strip() == "proxy":
        return _Entry(user, None)
    try:
        return _Entry(user, _read_password(secret.strip()))
    except ValueError:
        raise ConfigurationError(f"{where}: its password is no hash of `optrelay user`") from None


def _read_password(text: str) -> _Password:
    """Read what `hashed` returns; raise ValueError for anything else, and for costs that no machine would pay."""
    kind, n, r, p, salt, key = text.split(":")
    found = _Password(int(n), int(r), int(p), _bytes(salt), _bytes(key))
    dear = 128 * found.n * found.r * found.p > _MEMORY or min(found.r, found.p) < 1
    if kind != "scrypt" or found.n < _N // 2 or found.n & (found.n - 1) or dear or len(found.key) != _KEY_BYTES:
        raise ValueError
    return found


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
