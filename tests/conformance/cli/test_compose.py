"""Docker's command line of the newer kind, and a Compose project with everything that Compose is used for."""

import os
import pathlib
import re

import pytest
from kit import BASE, command, machine_free_environment, wait_for

MODERN = os.environ.get("OVERSIDE_TEST_MODERN_DOCKER")
pytestmark = pytest.mark.skipif(not MODERN, reason="no newer Docker at hand")

PROJECT = f"""
name: shop
services:
  db:
    image: {BASE}
    command: ["sh", "-c", "echo $$TOKEN_NAME; sleep 0.5; touch /data/ready; trap 'exit 0' TERM; while :; do sleep 0.05; done"]
    environment: {{ TOKEN_NAME: "the database" }}
    healthcheck: {{ test: ["CMD", "test", "-e", "/data/ready"], interval: 300ms, retries: 50 }}
    volumes: ["data:/data"]
    networks: {{ back: {{ aliases: [database] }} }}
    secrets: [token]
  web:
    build:
      context: .
      args: {{ COLOUR: green }}
      labels: {{ made.by: compose }}
    depends_on: {{ db: {{ condition: service_healthy }} }}
    networks: [back, front]
    stop_grace_period: 3s
  job:
    image: {BASE}
    command: ["sh", "-c", "cat /run/secrets/token; exit 0"]
    secrets: [token]
    depends_on: {{ web: {{ condition: service_started }} }}
volumes: {{ data: {{ labels: {{ kept: "yes" }} }} }}
networks: {{ back: {{ internal: true }}, front: {{}} }}
secrets: {{ token: {{ environment: TOKEN }} }}
"""

DOCKERFILE = f"""FROM {BASE}
ARG COLOUR
COPY page /page
RUN echo $COLOUR > /colour
CMD ["sh", "-c", "cat /page /colour; trap 'exit 0' TERM; while :; do sleep 0.05; done"]
"""


class Cli:
    def __init__(self, place, socket_path):
        self.place = place
        plugins = place / "config" / "cli-plugins"
        plugins.parent.mkdir()
        plugins.symlink_to(pathlib.Path(MODERN) / "config" / "cli-plugins")
        self.environment = machine_free_environment(
            HOME=str(place), DOCKER_CONFIG=str(place / "config"), DOCKER_HOST=f"unix://{socket_path}", TOKEN="a secret word",
            COMPOSE_ANSI="never", COMPOSE_PROGRESS="plain", BUILDKIT_PROGRESS="plain",
        )

    def __call__(self, *arguments, data=None):
        options = {"input": data} if data is not None else {}
        return command([f"{MODERN}/bin/docker", *arguments], self.environment, cwd=self.place, **options)


@pytest.fixture
def cli(plain, tmp_path, socket_path):
    (tmp_path / "compose.yaml").write_text(PROJECT)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "page").write_text("hello page\n")
    cli = Cli(tmp_path, socket_path)
    yield cli
    cli("compose", "down", "-v", "--remove-orphans", "-t", "1")


def told(result, *, output=True):
    return [result.returncode, result.stdout if output else None]


def test_version_is_the_engines(cli, record):
    record(told(cli("version", "--format", "{{.Server.Version}} {{.Server.APIVersion}} {{.Client.APIVersion}}")))


def test_run_attached_with_input_and_exit_code(cli, record):
    result = cli("run", "-i", "--rm", BASE, "sh", "-c", "cat; echo err >&2; exit 5", data=b"through\n")
    record([result.returncode, result.stdout, result.stderr])


def test_run_detached_logs_and_remove(cli, record):
    record(told(cli("run", "-d", "--name", "detached", BASE, "seq", "3")))
    record(told(cli("wait", "detached")))
    record(told(cli("logs", "detached")))
    record(told(cli("rm", "detached")))


def test_copy_both_ways(cli, record):
    cli("create", "--name", "copied", BASE, "true")
    record(told(cli("cp", "page", "copied:/tmp/page")))
    record(told(cli("cp", "copied:/tmp/page", "back")))
    record((cli.place / "back").read_text())


def test_build_with_buildx(cli, record):
    record(told(cli("build", "-q", "-t", "built", "--build-arg", "COLOUR=red", ".")))
    record(told(cli("run", "--rm", "built", "cat", "/colour")))


def test_save_and_load_through_pipes(cli, record):
    saved = cli("save", BASE)
    record([saved.returncode, len(saved.stdout) > 500_000])
    record(told(cli("load", data=saved.stdout)))


def test_an_error_has_the_engines_words(cli, record):
    result = cli("inspect", "nobody")
    record([result.returncode, result.stdout, result.stderr])
    result = cli("run", "--rm", "--pull", "never", "nothing:1")
    record([result.returncode, result.stderr])


@pytest.mark.timeout(240)
def test_a_compose_project_comes_up_in_order_and_goes_down(cli, record, plain):
    up = cli("compose", "up", "-d", "--build")
    assert up.returncode == 0, up.stderr.decode()
    listed = cli("compose", "ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}}")
    wait_for(lambda: "job exited" in (listed_now(cli)))
    record(sorted(listed_now(cli).splitlines()))
    assert listed.returncode == 0
    record(told(cli("compose", "logs", "--no-log-prefix", "web")))
    record(told(cli("compose", "logs", "--no-log-prefix", "job")))
    record(told(cli("compose", "logs", "--no-log-prefix", "db")))
    record(told(cli("compose", "exec", "-T", "db", "cat", "/run/secrets/token")))
    piped = cli("compose", "exec", "-T", "web", "sh", "-c", "cat; exit 4", data=b"into the service\n")
    record(told(piped))
    record(told(cli("compose", "run", "--rm", "-T", "--no-deps", "web", "cat", "/colour")))
    record(sorted(each["Name"] for each in plain.networks() if each["Name"].startswith("shop")))
    record([each["Labels"].get("kept") for each in plain.volumes()["Volumes"]])
    # Up again changes nothing: Compose recognises what it made.
    again = cli("compose", "up", "-d")
    record([again.returncode, b"Recreated" in again.stderr, b"Running" in again.stderr])
    record(told(cli("compose", "restart", "-t", "2", "web"), output=False))
    record(told(cli("compose", "down", "-v", "-t", "2"), output=False))
    record([len(plain.containers(all=True)), plain.volumes()["Volumes"], len(plain.networks())])


def listed_now(cli):
    return cli("compose", "ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}}").stdout.decode()


def test_compose_follows_logs_until_the_containers_end(cli, record):
    up = cli("compose", "up", "--no-log-prefix", "--no-color", "--abort-on-container-exit", "--exit-code-from", "job", "job")
    record([up.returncode, b"a secret word" in up.stdout, b"the database" in up.stdout])


def test_a_compose_service_that_never_becomes_healthy_fails_the_start(cli, record):
    (cli.place / "compose.yaml").write_text(
        f"name: ill\nservices:\n  a: {{ image: '{BASE}', command: sleep 100, stop_grace_period: 0s,"
        " healthcheck: { test: [CMD, 'false'], interval: 100ms, retries: 2 } }\n"
        f"  b: {{ image: '{BASE}', command: 'true', depends_on: {{ a: {{ condition: service_healthy }} }} }}\n"
    )
    result = cli("compose", "up", "-d")
    record([result.returncode, re.findall(rb"dependency failed to start: .*", result.stderr)])
