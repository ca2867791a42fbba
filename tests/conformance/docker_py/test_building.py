"""Builds with the classic builder: contexts from memory."""

import io
import re

import docker
import pytest
from kit import BASE, archive

DIGESTS = re.compile(r"\b[0-9a-f]{12}\b")


def build(api, text, files=None, **options):
    context = archive({"Dockerfile": text} | (files or {}))
    lines = list(api.build(fileobj=io.BytesIO(context), custom_context=True, decode=True, rm=True, **options))
    return lines


def words(lines):
    """The builder's words; a hash of a build's input differs with times."""
    return [{key: value for key, value in line.items() if key != "aux"} for line in lines]


def test_a_build_tells_its_steps(api, record):
    record(words(build(api, f"FROM {BASE}\nRUN echo built > /built\nCMD [\"cat\", \"/built\"]\n", tag="made:1")))
    record(api.inspect_image("made:1")["Config"]["Cmd"])


def test_a_build_from_a_dockerfile_alone(api, record):
    lines = list(api.build(fileobj=io.BytesIO(f"FROM {BASE}\nENV A=1\n".encode()), decode=True, rm=True, tag="alone"))
    record(words(lines))


def test_files_of_the_context_are_copied(kit, api, record):
    build(api, f"FROM {BASE}\nCOPY a b/ /in/\nADD inner.tar /in/\n", {"a": b"A", "b/c": b"C", "inner.tar": archive({"x": b"X"})}, tag="copied")
    record(api.logs(kit.finished("cd /in && for f in *; do echo $f $(cat $f); done", image="copied")))


def test_arguments(kit, api, record):
    record(words(build(api, f"FROM {BASE}\nARG WHO=nobody\nRUN echo $WHO > /who\n", buildargs={"WHO": "me"}, tag="args")))
    record(api.logs(kit.finished("cat /who", image="args")))


def test_an_argument_that_nobody_uses_is_warned_of(api, record):
    record(words(build(api, f"FROM {BASE}\n", buildargs={"UNUSED": "1"})))


def test_labels(api, record):
    build(api, f"FROM {BASE}\nLABEL own=1\n", labels={"given": "2"}, tag="labels")
    record(api.inspect_image("labels:latest")["Config"]["Labels"])


def test_a_stage_as_target(kit, api, record):
    build(api, f"FROM {BASE} AS one\nRUN echo 1 > /n\nFROM one AS two\nRUN echo 2 > /n\n", target="one", tag="staged")
    record(api.logs(kit.finished("cat /n", image="staged")))


def test_copying_between_stages(kit, api, record):
    build(api, f"FROM {BASE} AS one\nRUN echo deep > /n\nFROM {BASE}\nCOPY --from=one /n /m\n", tag="between")
    record(api.logs(kit.finished("cat /m", image="between")))


def test_an_unknown_target_is_refused(kit, api):
    kit.refused(build, api, f"FROM {BASE}\n", target="three")


def test_the_second_time_comes_from_the_cache(api, record):
    text = f"FROM {BASE}\nRUN echo cached > /c\n"
    build(api, text)
    record(words(build(api, text)))


def test_without_the_cache(api, record):
    text = f"FROM {BASE}\nRUN echo not cached > /c\n"
    build(api, text)
    record(words(build(api, text, nocache=True)))


def test_a_failing_step_tells_its_code(api, record):
    record(words(build(api, f"FROM {BASE}\nRUN echo before; exit 7\n")))


def test_a_syntax_error_is_refused(kit, api):
    kit.refused(build, api, "FROM\n")


def test_an_unknown_instruction_is_refused(kit, api):
    kit.refused(build, api, f"FROM {BASE}\nNONSENSE x\n")


def test_an_empty_dockerfile_is_refused(kit, api):
    kit.refused(build, api, "")


def test_a_missing_dockerfile_is_refused(kit, api):
    kit.refused(build, api, f"FROM {BASE}\n", dockerfile="Other")


def test_a_dockerfile_of_another_name(api, record):
    record(words(build(api, "FROM nothing", {"sub/Other": f"FROM {BASE}\nENV X=1\n"}, dockerfile="sub/Other")))


def test_a_missing_file_fails_the_copy(api, record):
    try:
        record(words(build(api, f"FROM {BASE}\nCOPY missing /\n")))
    except docker.errors.APIError as error:
        record([error.status_code, error.explanation])


def test_dockerignore_is_respected(kit, api, record):
    files = {".dockerignore": "*.log\nskip\n!keep.log\n", "a.log": b"", "keep.log": b"", "skip/x": b"", "b": b""}
    build(api, f"FROM {BASE}\nCOPY . /all/\n", files, tag="ignored")
    record(api.logs(kit.finished("find /all | sort", image="ignored")))


def test_dockerignore_of_a_directory(kit, api, record, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nCOPY . /all/\n")
    (tmp_path / ".dockerignore").write_text("secret\n")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "open").write_text("y")
    list(api.build(path=str(tmp_path), tag="directory", rm=True))
    record(api.logs(kit.finished("find /all | sort", image="directory")))


def test_a_compressed_context(api, record):
    import gzip

    context = gzip.compress(archive({"Dockerfile": f"FROM {BASE}\n"}))
    record(words(list(api.build(fileobj=io.BytesIO(context), custom_context=True, encoding="gzip", decode=True))))


def test_quietly(api, record):
    record(build(api, f"FROM {BASE}\nENV Q=1\n", quiet=True))


def test_a_large_context(kit, api, record):
    build(api, f"FROM {BASE}\nCOPY big /\n", {"big": b"z" * (16 << 20)}, tag="large")
    record(api.logs(kit.finished("wc -c /big", image="large")))


def test_limits_of_the_build(api, record):
    record(words(build(api, f"FROM {BASE}\nRUN true\n", container_limits={"memory": 64 << 20, "cpushares": 10})))


def test_no_network_in_the_build(api, record):
    record(words(build(api, f"FROM {BASE}\nRUN ls /sys/class/net\n", network_mode="none")))


def test_extra_hosts_in_the_build(api, record):
    record(words(build(api, f"FROM {BASE}\nRUN grep far /etc/hosts\n", extra_hosts={"far": "10.9.8.7"})))


def test_an_unknown_base_is_not_found(kit, api):
    try:
        kit.record(words(build(api, "FROM 127.0.0.1:1/nothing:1\n")))
    except docker.errors.APIError as error:
        kit.record(error.status_code)


def test_output_of_a_step_comes_while_it_runs(api, record):
    import time

    context = archive({"Dockerfile": f"FROM {BASE}\nRUN echo first; sleep 3; echo second\n"})
    moments = {}
    for line in api.build(fileobj=io.BytesIO(context), custom_context=True, decode=True, rm=True, nocache=True):
        moments[line.get("stream", "").strip()] = time.monotonic()
    record([word in moments for word in ("first", "second")])
    assert moments["second"] - moments["first"] > 1.5


def test_a_client_that_leaves_cancels_the_build(api, plain, record):
    from kit import wait_for

    context = archive({"Dockerfile": f"FROM {BASE}\nRUN sleep 60\n"})
    stream = api.build(fileobj=io.BytesIO(context), custom_context=True, decode=True, rm=True, forcerm=True, nocache=True)
    for line in stream:
        if "Running in" in line.get("stream", ""):
            break
    wait_for(lambda: plain.containers())
    stream.close()
    api.close()
    wait_for(lambda: not plain.containers(), limit=15)
    record("cancelled")


def test_the_build_cache_is_pruned(api, record):
    record(sorted(api.prune_builds()))
