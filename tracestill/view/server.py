"""The local server of `tracestill view`."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from tracestill.view.guard import HOST
from tracestill.view.tables import forget_old, index_path

USUAL_PORT = 8642


def listen(port: int | None) -> socket.socket:
    """A socket on this machine's loopback: at a port, or at the usual one, or, where that is in
    use, at any.

    Raises:
        ValueError: the port is in use or can't be had.

    """
    if port is None:
        with contextlib.suppress(OSError):
            return _bound(USUAL_PORT)
    tried = port or 0
    try:
        return _bound(tried)
    except OSError as error:
        raise ValueError(
            f"port {tried} can't be had ({error.strerror}): name another with --port"
        ) from error


def _bound(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def serve(
    runs: Sequence[Path], port: int | None, tell: Callable[[str], None], *, browser: bool
) -> None:
    """Serve runs to the browser of this machine until Ctrl-C. `tell` is told the address.

    Raises:
        ValueError: a folder is no run, or the port can't be had.
        ModuleNotFoundError: a library of the extra `view` is not installed.

    """
    import duckdb  # noqa: F401  # said to be missing here, not by the first request
    import uvicorn

    from tracestill.view.app import make_app
    from tracestill.view.opened import OpenRun

    opened = [OpenRun(run) for run in runs]
    listening = listen(port)
    own_port = listening.getsockname()[1]
    forget_old()
    for run in opened:
        run.indexed()
    token = secrets.token_urlsafe(32)
    url = f"http://{HOST}:{own_port}/?token={token}"
    config = uvicorn.Config(
        make_app(opened, own_port, token), log_level="warning", access_log=False,
        server_header=False, date_header=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=2, proxy_headers=False,
    )  # fmt: skip
    tell(url)
    if browser:
        threading.Thread(target=_open, args=(url, own_port), daemon=True).start()
    with contextlib.closing(listening), contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    for run in opened:
        run.close()


def _open(url: str, port: int) -> None:
    """Open the address in a browser with a window. It is handed over in a file that only this user
    can read: what a program is started with, every user of the machine can see.
    """
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return
    path = index_path(f"open-{port}", "html")
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">\n')
    with contextlib.suppress(webbrowser.Error):  # the address is printed in any case
        webbrowser.open(path.as_uri())
