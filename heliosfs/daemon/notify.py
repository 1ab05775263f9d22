"""Tell systemd how far the service is (the protocol of sd_notify(3)); nothing happens without systemd."""

import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(*states: str) -> None:
    """Send these lines to the service manager. A manager that does not listen is no error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto("\n".join(states).encode(), address)
        except OSError:
            return
