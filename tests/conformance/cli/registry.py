"""A real registry on the laptop's loopback, which asks for a password, and the way to it from inside an environment."""

import base64
import contextlib
import ctypes
import os
import pathlib
import shutil
import socket
import subprocess
import threading

import bcrypt
from kit import wait_for

PROGRAM = shutil.which("docker-registry")
USER, PASSWORD = "ann", "correct-horse-9b1f"
CLONE_NEWNET = 0x40000000

CONFIGURATION = """version: 0.1
log: {{ level: warn }}
storage: {{ filesystem: {{ rootdirectory: {place}/data }}, delete: {{ enabled: true }} }}
http: {{ addr: "127.0.0.1:{port}", secret: none }}
auth: {{ htpasswd: {{ realm: conformance, path: {place}/passwords }} }}
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def listener_in(engine, port):
    """A listener on the loopback of the engine's network: a thread enters it, and the socket stays there."""
    made = []

    def enter():
        with open(f"/proc/{engine}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot enter the engine's network")
        made.append(socket.create_server(("127.0.0.1", port)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0]


def pump(source, target):
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


def relay(listener, port):
    """What connects inside is connected to the laptop's port, as an SSH client's reverse forward does it."""
    while True:
        try:
            inside, _ = listener.accept()
        except OSError:
            return
        outside = socket.create_connection(("127.0.0.1", port))
        threads = [threading.Thread(target=pump, args=pair, daemon=True) for pair in ((inside, outside), (outside, inside))]
        [thread.start() for thread in threads]


@contextlib.contextmanager
def running(place, engine):
    """Runs a registry and the way to it. Gives its name, as in the name of an image."""
    place.mkdir()
    port = free_port()
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (place / "passwords").write_text(f"{USER}:{hashed}\n")
    (place / "config.yml").write_text(CONFIGURATION.format(place=place, port=port))
    with open(place / "log", "wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", place / "config.yml"], stdout=log, stderr=log)
    listener = None
    try:
        wait_for(lambda: connects(port))
        listener = listener_in(engine, port)
        threading.Thread(target=relay, args=(listener, port), daemon=True).start()
        yield f"127.0.0.1:{port}"
    finally:
        if listener:
            # Closing alone does not wake who waits in accept.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        process.terminate()
        process.wait()


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False


def traces_of_password(directories):
    """Files that hold the password, plain or in base64, wherever in a longer text it stands there."""
    needles = [PASSWORD.encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + PASSWORD.encode())
        # The first and the last characters depend on what stands beside it.
        needles.append(encoded[shift + 1 : -4])
    found = []
    for directory in directories:
        for path in pathlib.Path(directory).rglob("*"):
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(OSError):
                    content = path.read_bytes()
                    if any(needle in content for needle in needles):
                        found.append(str(path))
    return found
