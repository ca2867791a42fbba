"""Credentials stay on the laptop: login, push and pull with a registry that asks for a password."""

import json
import os
import pathlib
import stat

import pytest
import registry
from kit import BASE

ENGINE = os.environ.get("CONFORMANCE_ENGINE_PID", "")
HOME = os.environ.get("CONFORMANCE_HOME", "")

# A credential helper as Docker's clients call them: the command as an argument, the rest on standard input.
HELPER = """#!/bin/sh
store=$(dirname "$0")/store
case $1 in
store) cat > "$store" ;;
get) cat > /dev/null; test -e "$store" && cat "$store" || { echo credentials not found in native keychain; exit 1; } ;;
erase) cat > /dev/null; rm -f "$store" ;;
list) echo "{}" ;;
esac
"""


@pytest.fixture
def place(tmp_path):
    if not registry.PROGRAM:
        pytest.skip("no docker-registry")
    with registry.running(tmp_path / "registry", ENGINE) as name:
        yield name


def words(result, place):
    return result.stderr.decode(errors="replace").replace(place, "REGISTRY")


def log_in(cli, place, password=registry.PASSWORD):
    return cli("login", "--username", registry.USER, "--password-stdin", place, data=password.encode())


def test_a_wrong_password_is_refused_with_the_registrys_words(any_cli, record, place):
    result = log_in(any_cli, place, "wrong")
    record([result.returncode, words(result, place).strip().splitlines()[-1:]])


def test_without_login_neither_push_nor_pull(any_cli, record, place):
    any_cli.succeed("tag", BASE, f"{place}/private:1")
    for command in ("push", "pull"):
        result = any_cli(command, f"{place}/private:1")
        record([result.returncode, words(result, place).strip().splitlines()[-1:]])


def test_login_push_pull_and_logout(any_cli, record, place):
    result = log_in(any_cli, place)
    record([result.returncode, result.stdout])
    any_cli.succeed("tag", BASE, f"{place}/private:1")
    record("digest: sha256:" in any_cli.succeed("push", f"{place}/private:1"))
    any_cli.succeed("rmi", f"{place}/private:1")
    pulled = any_cli.succeed("pull", f"{place}/private:1").replace(place, "REGISTRY")
    record(pulled.splitlines()[-1])
    record(any_cli.succeed("run", "--rm", f"{place}/private:1", "echo", "from the registry"))
    record(any_cli("logout", place).returncode)
    record(any_cli("push", f"{place}/private:1").returncode)
    # The engine had the password for its calls only, and we have written it nowhere.
    inside = [f"/proc/{ENGINE}/root/{name}" for name in ("etc", "home", "root", "run", "tmp", "var")]
    record(registry.traces_of_password([HOME, *inside]))


def test_a_credential_helper_of_the_laptop_is_asked(any_cli, record, place):
    helper = any_cli.place / "programs" / "docker-credential-conformance"
    helper.write_text(HELPER)
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    configuration = pathlib.Path(any_cli.environment["DOCKER_CONFIG"]) / "config.json"
    configuration.write_text(json.dumps({"credsStore": "conformance"}))
    record(log_in(any_cli, place).returncode)
    record(registry.PASSWORD in (any_cli.place / "programs" / "store").read_text())
    record(registry.PASSWORD in configuration.read_text())
    any_cli.succeed("tag", BASE, f"{place}/helped:1")
    record("digest: sha256:" in any_cli.succeed("push", f"{place}/helped:1"))
    any_cli.succeed("rmi", f"{place}/helped:1")
    record(any_cli("pull", "-q", f"{place}/helped:1").returncode)
    record(any_cli("logout", place).returncode)
    record((any_cli.place / "programs" / "store").exists())


@pytest.mark.parametrize("builder", ["legacy builder", "BuildKit"])
def test_a_build_pulls_its_base_with_the_laptops_password(any_cli, record, place, builder):
    log_in(any_cli, place)
    any_cli.succeed("tag", BASE, f"{place}/private/base:1")
    any_cli.succeed("push", f"{place}/private/base:1")
    any_cli.succeed("rmi", f"{place}/private/base:1")
    any_cli.write("Dockerfile", f"FROM {place}/private/base:1\nRUN echo built on it > /said\n")
    any_cli.succeed("build", "--pull", "-t", "built", ".", DOCKER_BUILDKIT="1" if builder == "BuildKit" else "0")
    record(any_cli.succeed("run", "--rm", "built", "cat", "/said"))


def test_buildx_pushes_what_it_has_built_and_inspects_it_in_the_registry(cli, record, place):
    log_in(cli, place)
    cli.write("Dockerfile", f"FROM {BASE}\nLABEL pushed=yes\n")
    cli.succeed("buildx", "build", "--push", "-t", f"{place}/pushed:1", ".")
    inspected = cli.succeed("buildx", "imagetools", "inspect", "--format", "{{json .Image.Config.Labels}}", f"{place}/pushed:1")
    record(inspected)
