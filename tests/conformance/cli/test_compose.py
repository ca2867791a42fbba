"""A Compose project with everything that Compose is used for."""

import re
import subprocess

import pytest
from kit import BASE, wait_for

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


@pytest.fixture
def project(cli):
    cli.write("compose.yaml", PROJECT)
    cli.write("Dockerfile", DOCKERFILE)
    cli.write("page", "hello page\n")
    yield cli
    cli("compose", "down", "-v", "--remove-orphans", "-t", "1")


def told(result, *, output=True):
    return [result.returncode, result.stdout if output else None]


@pytest.mark.timeout(240)
def test_a_compose_project_comes_up_in_order_and_goes_down(project, record, plain):
    up = project("compose", "up", "-d", "--build")
    assert up.returncode == 0, up.stderr.decode()
    listed = project("compose", "ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}}")
    wait_for(lambda: "job exited" in (listed_now(project)))
    record(sorted(listed_now(project).splitlines()))
    assert listed.returncode == 0
    record(told(project("compose", "logs", "--no-log-prefix", "web")))
    record(told(project("compose", "logs", "--no-log-prefix", "job")))
    record(told(project("compose", "logs", "--no-log-prefix", "db")))
    record(told(project("compose", "exec", "-T", "db", "cat", "/run/secrets/token")))
    piped = project("compose", "exec", "-T", "web", "sh", "-c", "cat; exit 4", data=b"into the service\n")
    record(told(piped))
    record(told(project("compose", "run", "--rm", "-T", "--no-deps", "web", "cat", "/colour")))
    record(sorted(each["Name"] for each in plain.networks() if each["Name"].startswith("shop")))
    record([each["Labels"].get("kept") for each in plain.volumes()["Volumes"]])
    # Up again changes nothing: Compose recognises what it made.
    again = project("compose", "up", "-d")
    record([again.returncode, b"Recreated" in again.stderr, b"Running" in again.stderr])
    record(told(project("compose", "restart", "-t", "2", "web"), output=False))
    record(told(project("compose", "down", "-v", "-t", "2"), output=False))
    record([len(plain.containers(all=True)), plain.volumes()["Volumes"], len(plain.networks())])


def listed_now(project):
    return project("compose", "ps", "-a", "--format", "{{.Service}} {{.State}} {{.Health}}").stdout.decode()


def test_compose_follows_logs_until_the_containers_end(project, record):
    up = project("compose", "up", "--no-log-prefix", "--no-color", "--abort-on-container-exit", "--exit-code-from", "job", "job")
    record([up.returncode, b"a secret word" in up.stdout, b"the database" in up.stdout])


def test_a_compose_service_that_never_becomes_healthy_fails_the_start(project, record):
    (project.place / "compose.yaml").write_text(
        f"name: ill\nservices:\n  a: {{ image: '{BASE}', command: sleep 100, stop_grace_period: 0s,"
        " healthcheck: { test: [CMD, 'false'], interval: 100ms, retries: 2 } }\n"
        f"  b: {{ image: '{BASE}', command: 'true', depends_on: {{ a: {{ condition: service_healthy }} }} }}\n"
    )
    result = project("compose", "up", "-d")
    record([result.returncode, re.findall(rb"dependency failed to start: .*", result.stderr)])


WATCHED = f"""
name: watched
services:
  web:
    build: {{ context: ., dockerfile: Dockerfile.web }}
    stop_grace_period: 0s
    develop:
      watch:
        - {{ action: sync, path: ./site, target: /site, ignore: [drafts/] }}
        - {{ action: rebuild, path: ./version }}
"""


@pytest.mark.timeout(180)
def test_compose_watch_syncs_changes_and_rebuilds(cli, record):
    cli.write("compose.yaml", WATCHED)
    cli.write("Dockerfile.web", f"FROM {BASE}\nCOPY version /version\nCOPY site /site\nCMD sleep 100000\n")
    cli.write("version", "one\n")
    cli.write("site/page", "before\n")
    cli.succeed("compose", "up", "-d", "--build")
    inside = lambda path: cli("compose", "exec", "-T", "web", "cat", path).stdout
    record(inside("/site/page"))
    watching = subprocess.Popen(
        [cli.program, "compose", "watch", "--no-up"], cwd=cli.place, env=cli.environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        said = iter(watching.stdout)
        assert any("Watch enabled" in line for line in said)
        cli.write("site/drafts/hidden", "not for you\n")
        cli.write("site/page", "after\n")
        cli.write("site/deep/new", "made\n")
        wait_for(lambda: inside("/site/page") == b"after\n" and inside("/site/deep/new") == b"made\n")
        record(inside("/site/drafts/hidden"))
        (cli.place / "site" / "page").unlink()
        wait_for(lambda: inside("/site/page") == b"")
        cli.write("version", "two\n")
        wait_for(lambda: inside("/version") == b"two\n", limit=60)
    finally:
        watching.terminate()
        record(watching.wait(20) is not None)
        watching.stdout.close()
        cli("compose", "down", "-t", "0", "--rmi", "local")
