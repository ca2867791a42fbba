"""Testcontainers' Ryuk with the library for Python. The image is a stand-in, see ryuk/ryuk.c; its port is carried by the
suite, see ports.py."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from kit import BASE, base_archive, wait_for

HERE = pathlib.Path(__file__).resolve().parent
SIDE = os.environ.get("CONFORMANCE_SIDE")
PROGRAM = pathlib.Path(os.environ.get("CONFORMANCE_RYUK", ""))
# As the library names it: only so it pulls nothing.
RYUK = ("testcontainers/ryuk", "0.8.1")

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="no gcc at hand to compile the stand-in")


@pytest.fixture
def started(plain, socket_path):
    """Starts sessions; all is ended behind the test."""
    root = base_archive({"ryuk": (PROGRAM.read_bytes(), 0o755)})
    plain.import_image_from_data(root, *RYUK, changes=['CMD ["/ryuk"]', "LABEL org.testcontainers.ryuk=true"])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = []
    if SIDE == "direct":
        ports = subprocess.Popen([sys.executable, HERE.parent / "ports.py", socket_path], **pipes)
        assert ports.stdout.readline() == "watching\n"
        processes.append(ports)
    variables = os.environ | {
        "DOCKER_HOST": f"unix://{socket_path}",
        # Whether or not this machine looks like a container from within.
        "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
        "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
        "TESTCONTAINERS_RYUK_DISABLED": "false",
        "RYUK_RECONNECTION_TIMEOUT": "500ms",
    }
    if SIDE == "direct":
        # The library mounts the socket that it uses itself; the engine does not see this machine's path to it.
        variables["TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE"] = "/run/docker.sock"

    def start():
        process = subprocess.Popen([sys.executable, HERE / "session.py", BASE], env=variables, **pipes)
        processes.append(process)
        return process, json.loads(process.stdout.readline())

    yield start
    for process in reversed(processes):
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def left(plain, made):
    containers = {each["Id"] for each in plain.containers(all=True)}
    networks = {each["Id"] for each in plain.networks()}
    return [made["container"] in containers, made["reaper"] in containers, made["network"] in networks]


def test_ryuk_starts_with_the_docker_socket_and_is_told_of_the_session(plain, record, started):
    _, made = started()
    told = plain.inspect_container(made["reaper"])
    record([told["HostConfig"]["AutoRemove"], told["HostConfig"]["Binds"], told["Config"]["Image"]])
    wait_for(lambda: made["session"].encode() in plain.logs(made["reaper"]))


def test_ryuk_removes_what_is_left_of_a_session_that_is_killed(plain, record, started):
    process, made = started()
    record(left(plain, made))
    process.kill()
    wait_for(lambda: not any(left(plain, made)))


def test_a_session_that_ends_takes_its_ryuk_along(plain, record, started):
    process, made = started()
    process.stdin.close()
    process.wait(30)
    record(process.returncode)
    wait_for(lambda: not left(plain, made)[1])
