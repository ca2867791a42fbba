"""Builds: BuildKit through the session that the client holds, and bake."""

import io
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest
from kit import BASE

SSH_ADD = shutil.which("ssh-add")


def test_an_image_is_built_and_run(any_cli, record):
    any_cli.write("Dockerfile", f"FROM {BASE}\nARG COLOUR\nCOPY page /page\nRUN echo $COLOUR > /colour\n")
    any_cli.write("page", "hello page\n")
    any_cli.succeed("build", "-t", "built", "--build-arg", "COLOUR=red", ".")
    record(any_cli.succeed("run", "--rm", "built", "cat", "/colour", "/page"))


def test_the_legacy_builder_builds_the_same(any_cli, record):
    any_cli.write("Dockerfile", f"FROM {BASE}\nCOPY page /page\nRUN cat /page > /copy\n")
    any_cli.write("page", "hello page\n")
    any_cli.succeed("build", "-t", "built", ".", DOCKER_BUILDKIT="0")
    record(any_cli.succeed("run", "--rm", "built", "cat", "/copy"))


def test_a_step_that_fails_fails_the_build_with_its_words(any_cli, record):
    any_cli.write("Dockerfile", f"FROM {BASE}\nRUN echo these words >&2; exit 7\n")
    for builder in ("0", "1"):
        result = any_cli("build", ".", DOCKER_BUILDKIT=builder)
        record([result.returncode != 0, b"these words" in result.stdout + result.stderr, b"code: 7" in result.stderr or b"code 7" in result.stderr])


def test_a_secret_is_seen_by_its_step_and_is_in_no_layer(any_cli, record):
    any_cli.write("token", "sesame-7f3a\n")
    any_cli.write(
        "Dockerfile",
        f"FROM {BASE}\nRUN --mount=type=secret,id=token sha256sum /run/secrets/token > /sum\n",
    )
    any_cli.succeed("build", "-t", "built", "--secret", "id=token,src=token", ".")
    record(any_cli.succeed("run", "--rm", "built", "cat", "/sum"))
    saved = any_cli("save", "built").stdout
    assert saved
    record(b"sesame-7f3a" in saved)


def test_a_secret_that_is_missing_is_told(any_cli, record):
    any_cli.write("Dockerfile", f"FROM {BASE}\nRUN --mount=type=secret,id=none,required cat /run/secrets/none\n")
    result = any_cli("build", ".")
    record([result.returncode != 0, b"none" in result.stderr])


@pytest.fixture
def agent(tmp_path):
    """An SSH agent of the test's own, with one key. Yields its socket and the key's fingerprint."""
    if not SSH_ADD:
        pytest.skip("no OpenSSH client")
    place = tmp_path / "ssh"
    place.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "key"], check=True)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", place / "agent"], stdout=subprocess.DEVNULL)
    variables = os.environ | {"SSH_AUTH_SOCK": str(place / "agent")}
    try:
        while not (place / "agent").exists():
            assert process.poll() is None
        subprocess.run([SSH_ADD, "-q", place / "key"], env=variables, check=True)
        listed = subprocess.run(["ssh-keygen", "-l", "-f", place / "key"], check=True, capture_output=True, text=True)
        yield str(place / "agent"), listed.stdout.split()[1]
    finally:
        process.terminate()
        process.wait()


def with_libraries(program):
    """A dynamic program and what it is linked with, as paths."""
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [program, *(word for word in listed.split() if word.startswith("/"))]


def test_the_laptops_ssh_agent_answers_in_a_step(any_cli, record, agent):
    socket, fingerprint = agent
    root = any_cli.place / "root"
    for path in with_libraries(SSH_ADD):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pathlib.Path(path).resolve(), target)
    any_cli.write("Dockerfile", f"FROM {BASE}\nCOPY root /\nRUN --mount=type=ssh {SSH_ADD} -l > /keys\n")
    any_cli.succeed("build", "-t", "built", "--ssh", "default", ".", SSH_AUTH_SOCK=socket)
    record(fingerprint in any_cli.succeed("run", "--rm", "built", "cat", "/keys"))


def test_a_cache_mount_lasts_from_build_to_build(any_cli, record):
    name = any_cli.place.name
    any_cli.write(
        "Dockerfile",
        f"FROM {BASE}\nARG TURN\n"
        f"RUN --mount=type=cache,id={name},target=/cache echo $TURN >> /cache/turns; cat /cache/turns > /turns\n",
    )
    for turn in ("first", "second"):
        any_cli.succeed("build", "-t", "built", "--build-arg", f"TURN={turn}", ".")
        record(any_cli.succeed("run", "--rm", "built", "cat", "/turns"))


def test_results_come_to_the_laptop_as_files(any_cli, record):
    any_cli.write(
        "Dockerfile",
        f"FROM {BASE} AS make\nRUN mkdir -p /out/deep; seq 100000 > /out/deep/numbers; echo x > /out/x\n"
        "FROM scratch\nCOPY --from=make /out /\n",
    )
    any_cli.succeed("build", "--output", "type=local,dest=result", ".")
    files = sorted(path for path in (any_cli.place / "result").rglob("*") if path.is_file())
    record([[str(path.relative_to(any_cli.place)), path.stat().st_size] for path in files])
    piped = any_cli("build", "--output", "type=tar,dest=-", ".")
    with tarfile.open(fileobj=io.BytesIO(piped.stdout)) as tar:
        record(sorted([member.name, member.size] for member in tar if member.isfile()))


def test_a_large_context_goes_over_once_and_what_is_ignored_does_not(any_cli, record):
    (any_cli.place / "large").write_bytes(bytes(range(256)) * (20 << 12))
    any_cli.write("secret/hidden", "no")
    any_cli.write(".dockerignore", "secret\n")
    any_cli.write("Dockerfile", f"FROM {BASE}\nCOPY . /all\nRUN sha256sum /all/large > /sum; ls -A /all > /names\n")
    any_cli.succeed("build", "-t", "built", ".")
    names = any_cli.succeed("run", "--rm", "built", "cat", "/sum", "/names").split()
    record([names[0], "secret" in names, "large" in names])
    again = any_cli("build", "-t", "built", ".")
    record([again.returncode, b"CACHED" in again.stderr])


def test_a_context_from_standard_input(any_cli, record):
    dockerfile = f"FROM {BASE}\nRUN echo from a pipe > /said\n".encode()
    result = any_cli("build", "-t", "built", "-", data=dockerfile)
    assert result.returncode == 0, result.stderr
    record(any_cli.succeed("run", "--rm", "built", "cat", "/said"))


def test_bake_builds_its_targets_with_variables_and_inheritance(cli, record):
    cli.write("Dockerfile", f"FROM {BASE} AS base\nARG WORD\nRUN echo $WORD > /word\nFROM base AS both\nRUN echo of both > /other\n")
    cli.write(
        "docker-bake.hcl",
        """
        variable "WORD" { default = "unset" }
        group "default" { targets = ["one", "two"] }
        target "one" {
          target = "base"
          args = { WORD = "${WORD}-one" }
          tags = ["bake:one"]
        }
        target "two" {
          inherits = ["one"]
          target = "both"
          tags = ["bake:two"]
        }
        """,
    )
    cli.succeed("buildx", "bake", "--set", "two.args.WORD=set", WORD="given")
    record(cli.succeed("run", "--rm", "bake:one", "cat", "/word"))
    record(cli.succeed("run", "--rm", "bake:two", "cat", "/word", "/other"))


def test_buildx_tells_what_its_builder_is_and_keeps(cli, record):
    record(cli.succeed("buildx", "inspect").count("docker"))
    cli.write("Dockerfile", f"FROM {BASE}\nRUN echo $$ > /kept\n")
    cli.succeed("buildx", "build", ".")
    record("Total:" in cli.succeed("buildx", "du"))
    record("Total:" in cli.succeed("buildx", "prune", "-af"))


def test_metadata_and_the_images_id_are_written(cli, record):
    cli.write("Dockerfile", f"FROM {BASE}\nLABEL a=b\n")
    cli.succeed("buildx", "build", "-t", "built", "--iidfile", "id", "--metadata-file", "metadata.json", ".")
    identifier = cli.succeed("inspect", "-f", "{{.Id}}", "built").strip()
    record((cli.place / "id").read_text() == identifier)
    record("containerimage" in (cli.place / "metadata.json").read_text())
