"""python -m service: the API on a socket. Exit codes: 0 stopped, 1 the registry is damaged, 2 an argument is wrong."""

import argparse
import os
import signal
import socket
import sys
import threading
from functools import partial
from pathlib import Path

from recsys_ae.errors import RecsysError
from service.listening import announce, listening
from service.settings import Settings
from service.sources import load_settings
from service.workers import supervise


def main() -> int:
    """Parse the arguments and serve."""
    arguments = _parser().parse_args()
    names = ("registry", "keys", "without_keys", "workers")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    try:
        settings = load_settings(arguments.config, given)
        if not settings.registry.is_dir():
            return _refused(f"{settings.registry}: no such folder; expected a registry", 2)
        if arguments.exit_with_stdin:
            threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
        with listening(settings, arguments.host, arguments.port) as listener:
            _serve(settings, listener)
    except OSError as error:
        return _refused(str(error), 2)
    except RecsysError as error:
        return _refused(str(error), error.exit_code)
    return 0


def _serve(settings: Settings, listener: socket.socket) -> None:
    listens = partial(announce, settings, listener)
    if settings.workers > 1:
        supervise(settings, listener, listens)
    else:
        from service.app import serve  # loads torch, which the supervisor of workers does without

        serve(settings, listener, listens)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m service", description="Serve the current version of a registry over HTTP.")
    parser.add_argument("--config", type=Path, help="a run's TOML file, for its sections service, registry and store")
    parser.add_argument("--registry", type=Path, help="folder of the registry")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default %(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="0 for any free one (default %(default)s)")
    parser.add_argument("--keys", type=Path, help="file of API keys; without it only this machine is served")
    parser.add_argument("--without-keys", action="store_true", default=None, help="serve other machines without keys")
    parser.add_argument("--workers", type=int, help="processes that share the port (default 1)")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    return parser


def _stop_at_end_of_input() -> None:
    """For a parent that may be killed: its end of the pipe closes with it."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number from 0 to 65535")
    return int(text)


def _refused(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
