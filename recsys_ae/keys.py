"""API keys: who may ask what. A file holds their names, scopes and hashes; the key itself is seen once, when it is made."""

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys_ae.errors import ConfigError
from recsys_ae.scratch import whole_file

SCOPES = ("read", "write", "admin")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ApiKey:
    """One key: who it is given to, the hash of it, what it allows, and when it was made (ISO 8601, UTC)."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(f"found {self.name!r}; expected a name of 1 to 64 letters, digits, dots, dashes or underscores")
        if not SHA256.fullmatch(self.sha256):
            raise ConfigError(f"key {self.name}: expected a sha256 of 64 hexadecimal digits")
        if not self.scopes or (wrong := [scope for scope in self.scopes if scope not in SCOPES]):
            found = ", ".join(map(str, wrong)) if self.scopes else "no scope"
            raise ConfigError(f"key {self.name}: found {found}; expected scopes of {', '.join(SCOPES)}")

    def allows(self, scope: str) -> bool:
        """Whether the key has the scope; admin has all."""
        return scope in self.scopes or "admin" in self.scopes


class KeyRing:
    """The keys of a file; to have none is to let nobody in."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)
        names = [key.name for key in keys]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two keys are named {name}; expected names that differ")
        self._digests = [bytes.fromhex(key.sha256) for key in keys]

    def find(self, presented: bytes) -> ApiKey | None:
        """The key that was presented. It is hashed and held against every key, so that the time taken tells nothing."""
        digest = hashlib.sha256(presented).digest()
        found = None
        for key, expected in zip(self.keys, self._digests, strict=True):
            if hmac.compare_digest(digest, expected):
                found = key
        return found


def read_keys(path: Path) -> KeyRing:
    """The keys of a file. Raises ConfigError, which names the file and shows nothing of a hash."""
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        entries = content["keys"]
        keys = [ApiKey(e["name"], e["sha256"], tuple(e["scopes"]), e.get("created", "")) for e in entries]
        return KeyRing(keys)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or 'cannot be read'}; expected a file of keys") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"{path}: is no file of keys; expected what `recsys-ae keys add` writes") from None


def add_key(path: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a key, write its hash into the file (made where there is none, for its owner alone), and return it.

    256 random bits, so that one round of SHA-256 without salt is as good as a slow hash, and costs a request nothing.
    Raises ConfigError where the name is taken.
    """
    key = f"rae_{secrets.token_urlsafe(32)}"
    made = ApiKey(name, hashlib.sha256(key.encode()).hexdigest(), tuple(scopes), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    with _alone(path):
        present = read_keys(path).keys if path.exists() else ()
        if any(other.name == name for other in present):
            raise ConfigError(f"{path}: has a key named {name}; expected another name, or `keys remove` before")
        _write(path, [*present, made])
    return key


def remove_key(path: Path, name: str) -> None:
    """Take a key out of the file. Raises ConfigError where there is none of that name."""
    with _alone(path):
        present = read_keys(path).keys
        if not any(key.name == name for key in present):
            raise ConfigError(
                f"{path}: has no key named {name}; expected one of {', '.join(k.name for k in present) or 'none'}"
            )
        _write(path, [key for key in present if key.name != name])


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    with whole_file(path) as partial:
        os.chmod(partial, 0o600 if not path.exists() else path.stat().st_mode & 0o777)
        partial.write_text(json.dumps({"keys": [asdict(key) for key in keys]}, indent=2) + "\n", "utf-8")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While the block runs, no other command changes a file of keys of this folder. Raises ConfigError without the folder."""
    try:
        folder = os.open(path.absolute().parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{path.absolute().parent}: {error.strerror}; expected a folder for the keys") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
