"""The socket, and what is said on stderr once somebody listens at it."""

import ipaddress
import socket
import sys

from recsys_ae.errors import ConfigError
from service.settings import Settings


def listening(settings: Settings, host: str, port: int) -> socket.socket:
    """A socket bound to the address, IPv4 or IPv6 as the host is; port 0 is any free one.

    Raises OSError where the address cannot be had, ConfigError where it is open to other machines and no keys are asked for.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one of a host
        raise OSError(f"cannot listen at {host}:{port}: {error}") from None
    if settings.keys is None and not settings.without_keys and not _is_loopback(listener):
        listener.close()
        raise ConfigError(f"--host {host} is open to other machines; expected --keys FILE, or --without-keys to serve anybody")
    return listener


def announce(settings: Settings, listener: socket.socket, version: str) -> None:
    """Say what is served and where, and who may ask where there are no keys."""
    host, port = listener.getsockname()[:2]
    said = f"serving {version} at http://{f'[{host}]' if ':' in host else host}:{port}\n"
    if settings.keys is None:
        anybody = "this machine alone is served" if _is_loopback(listener) else "whoever reaches the port may all"
        said += f"no API keys: {anybody}\n"
    sys.stderr.write(said)
    sys.stderr.flush()


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
