"""Testcontainers for Python, without Ryuk: test_ryuk.py has it."""

import os

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
os.environ["DOCKER_HOST"] = "unix://" + os.environ.get("CONFORMANCE_SOCKET", "")

import pytest
from kit import BASE

from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

STAYS = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def container(script):
    return DockerContainer(BASE).with_command(["sh", "-c", script])


def test_a_container_is_awaited_by_its_logs(plain, record):
    with container(f"sleep 0.5; echo it is ready now; {STAYS}") as started:
        wait_for_logs(started, "ready now", timeout=20)
        record(started.get_logs())


def test_exec_tells_code_and_output(plain, record):
    with container(STAYS) as started:
        result = started.exec(["sh", "-c", "echo inside; exit 3"])
        record([result.exit_code, result.output])


def test_a_random_port_is_told(plain, record):
    with container(STAYS).with_exposed_ports(8080) as started:
        record([int(started.get_exposed_port(8080)) > 1024, started.get_container_host_ip()])


def test_environment_and_name(plain, record):
    with container(f"echo $WORD; {STAYS}").with_env("WORD", "given").with_name("named") as started:
        wait_for_logs(started, "given", timeout=20)
        record(started.get_wrapped_container().name)


def test_containers_meet_in_a_network_by_alias(plain, record):
    with Network() as network:
        server = container("while :; do echo served | nc -l -p 7000; done").with_network(network).with_network_aliases("far")
        script = "for i in 1 2 3 4 5 6 7 8 9; do nc far 7000 < /dev/null && break; sleep 0.3; done; sleep 100"
        with server, container(script).with_network(network) as client:
            wait_for_logs(client, "served", timeout=20)
            record(client.get_logs()[0])


def test_an_image_is_built_and_run(plain, record, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo built > /file\nCMD cat /file; sleep 100\n")
    with DockerImage(path=str(tmp_path), tag="testcontainers:built") as image:
        with DockerContainer(str(image)) as started:
            wait_for_logs(started, "built", timeout=20)
            record(started.get_logs()[0])


def test_everything_is_gone_behind_it(plain, record):
    with container(STAYS) as started:
        name = started.get_wrapped_container().name
    record([each["Names"] for each in plain.containers(all=True) if f"/{name}" in each["Names"]])


def test_a_container_that_ends_too_early_is_told(plain, record):
    with container("echo gone") as started:
        with pytest.raises(Exception) as error:
            wait_for_logs(started, "never written", timeout=3)
        record(type(error.value).__name__)
