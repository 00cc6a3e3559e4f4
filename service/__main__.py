"""python -m service --registry DIR [--host H] [--port P]: the API in the foreground."""

import argparse
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn

from recsys_ae.errors import RecsysError
from service.app import create_app
from service.settings import Settings

GRACE_SECONDS = 10


def main() -> int:
    """Parse, load, listen. Returns the exit code: 0 stopped, 1 a damaged model, 2 wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    arguments = parser.parse_args()
    if not arguments.registry.is_dir():
        return failed(f"{arguments.registry}: no such registry; expected the folder that `recsys-ae train` wrote")
    try:
        app = create_app(Settings(registry=arguments.registry))
    except RecsysError as error:
        return failed(str(error), error.exit_code)
    try:
        listener = bound(arguments.host, arguments.port)
    except (OSError, OverflowError) as error:
        return failed(f"cannot listen on {arguments.host}:{arguments.port}: {error}")
    if arguments.exit_with_stdin:
        threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    with listener:
        host, port = listener.getsockname()[:2]
        version = app.state.engine.version if app.state.engine else "no model"
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {version} at http://{shown}:{port}", file=sys.stderr, flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def bound(host: str, port: int) -> socket.socket:
    """A listening socket: the kernel takes connections from now on, so what we say of it is true."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener


def stop_at_end_of_input() -> None:
    """For a parent that may be killed: its end of the pipe closes with it."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def failed(message: str, code: int = 2) -> int:
    """One line on stderr."""
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
