"""Docker's command lines: Debian's old one and the newer one that `cargo xtask test` fetches."""

import os
import pathlib
import shutil

import pytest
from kit import command, machine_free_environment

MODERN = os.environ.get("OVERSIDE_TEST_MODERN_DOCKER")
OLD = "/usr/bin/docker"


class Cli:
    """One client with a home and a configuration of its own, in a directory with a project."""

    def __init__(self, place, socket_path, program, plugins=None):
        self.place, self.program = place, program
        (place / "config").mkdir()
        (place / "programs").mkdir()
        if plugins:
            (place / "config" / "cli-plugins").symlink_to(plugins)
        self.environment = machine_free_environment(
            HOME=str(place), DOCKER_CONFIG=str(place / "config"), DOCKER_HOST=f"unix://{socket_path}", TOKEN="a secret word",
            COMPOSE_ANSI="never", COMPOSE_PROGRESS="plain", BUILDKIT_PROGRESS="plain", DOCKER_BUILDKIT="1",
            BUILDX_NO_DEFAULT_ATTESTATIONS="1",
        )
        self.environment["PATH"] = f"{place / 'programs'}:{self.environment['PATH']}"

    def __call__(self, *arguments, data=None, **variables):
        options = {"input": data} if data is not None else {}
        return command([self.program, *arguments], self.environment | variables, cwd=self.place, **options)

    def succeed(self, *arguments, **options):
        result = self(*arguments, **options)
        assert result.returncode == 0, result.stderr.decode(errors="replace")
        return result.stdout.decode(errors="replace")

    def write(self, name, text):
        (self.place / name).parent.mkdir(parents=True, exist_ok=True)
        (self.place / name).write_text(text)


def modern(place, socket_path):
    if not MODERN:
        pytest.skip("no newer Docker at hand")
    return Cli(place, socket_path, f"{MODERN}/bin/docker", pathlib.Path(MODERN) / "config" / "cli-plugins")


@pytest.fixture
def cli(plain, tmp_path, socket_path):
    """The newer client, with buildx and Compose."""
    return modern(tmp_path, socket_path)


@pytest.fixture(params=["old client", "new client"])
def any_cli(request, plain, tmp_path, socket_path):
    """Each of the clients."""
    if request.param == "new client":
        return modern(tmp_path, socket_path)
    if not shutil.which(OLD):
        pytest.skip(f"no {OLD}")
    return Cli(tmp_path, socket_path, OLD)
