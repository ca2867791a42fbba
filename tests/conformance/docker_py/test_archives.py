"""Files into containers and out of them."""

import hashlib
import json
import os

import base64
import pytest
from kit import archive, unpack


def get(api, container, path, **options):
    stream, stat = api.get_archive(container, path, **options)
    return unpack(b"".join(stream)), stat


def test_a_file_comes_back_as_it_went(kit, api, record):
    container = kit.create()
    record(api.put_archive(container, "/tmp", archive({"a/b": b"content", "a/c": ("link", "b")})))
    files, stat = get(api, container, "/tmp/a")
    stat.pop("mtime")
    record([files, stat])


def test_a_single_file(kit, api, record):
    files, stat = get(api, kit.create(), "/etc/passwd")
    record([files, stat["name"], stat["size"], stat["mode"]])


def test_twenty_megabytes_both_ways(kit, api, record):
    container = kit.create()
    data = os.urandom(20 << 20)
    assert api.put_archive(container, "/", archive({"big": data}))
    files, _ = get(api, container, "/big")
    assert hashlib.sha256(files["big"]).digest() == hashlib.sha256(data).digest()
    record(len(files["big"]))


def test_in_small_chunks(kit, api, record):
    stream, _ = api.get_archive(kit.create(), "/bin/busybox", chunk_size=4096)
    record(sorted(unpack(b"".join(stream))))


def test_from_a_stream_without_a_length(kit, api, record):
    container = kit.create()
    data = archive({"streamed": b"x" * 300_000})
    record(api.put_archive(container, "/tmp", iter([data[:1000], data[1000:]])))
    record(len(get(api, container, "/tmp/streamed")[0]["streamed"]))


@pytest.mark.parametrize("content_type", [None, "application/x-tar", "application/octet-stream"])
def test_the_requests_content_type(kit, api, record, content_type):
    """Without one, docker-py sends none; the engine takes it all the same."""
    container = kit.create()
    headers = {"Content-Type": content_type} if content_type else {}
    answer = api.put(
        api._url("/containers/{0}/archive", container), params={"path": "/tmp"}, data=archive({"f": b"1"}), headers=headers
    )
    record([answer.status_code, get(api, container, "/tmp/f")[0]])


def test_compressed_archives_are_unpacked(kit, api, record):
    import gzip

    container = kit.create()
    record(api.put_archive(container, "/tmp", gzip.compress(archive({"z": b"packed"}))))
    record(get(api, container, "/tmp/z")[0])


def test_head_tells_the_files_state(kit, api, record):
    answer = api.head(api._url("/containers/{0}/archive", kit.create()), params={"path": "/etc/passwd"})
    stat = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    stat.pop("mtime")
    record([answer.status_code, stat, answer.content])


def test_head_of_a_missing_path(kit, api, record):
    answer = api.head(api._url("/containers/{0}/archive", kit.create()), params={"path": "/nowhere"})
    record([answer.status_code, answer.content])


def test_a_missing_path_is_not_found(kit, api):
    assert kit.refused(api.get_archive, kit.create(name="bare"), "/nowhere")[0] == 404
    assert kit.refused(api.put_archive, "bare", "/nowhere", archive({"a": b""}))[0] == 404


def test_into_a_file_instead_of_a_directory_is_refused(kit, api):
    kit.refused(api.put_archive, kit.create(), "/etc/passwd", archive({"a": b""}))


def test_something_that_is_no_archive_is_refused(kit, api):
    kit.refused(api.put_archive, kit.create(), "/tmp", b"not a tar archive at all" * 100)


def test_into_a_read_only_container_is_refused(kit, api):
    kit.refused(api.put_archive, kit.create(read_only=True), "/", archive({"a": b""}))


def test_a_directory_is_not_replaced_by_a_file(kit, api):
    container = kit.create()
    url = api._url("/containers/{0}/archive", container)

    def put():
        answer = api.put(url, params={"path": "/", "noOverwriteDirNonDir": "true"}, data=archive({"tmp": b"file"}))
        api._raise_for_status(answer)

    kit.refused(put)


def test_owner_and_mode_are_kept(kit, api, record):
    container = kit.create(["stat", "-c", "%a %u %s", "/tmp/program"])
    api.put_archive(container, "/tmp", archive({"program": (b"#!", 0o751)}))
    api.start(container)
    api.wait(container)
    record(api.logs(container))


def test_of_a_running_container(kit, api, record):
    container = kit.sleeper()
    record(api.put_archive(container, "/tmp", archive({"live": b"yes"})))
    identifier = api.exec_create(container, ["cat", "/tmp/live"])["Id"]
    record(api.exec_start(identifier))


def test_of_a_volume(kit, api, record):
    api.create_volume("store")
    container = kit.create(volumes=["/store"], binds=["store:/store"])
    record(api.put_archive(container, "/store", archive({"kept": b"in the volume"})))
    other = kit.finished("cat /s/kept", volumes=["/s"], binds=["store:/s"])
    record(api.logs(other))


def test_names_that_are_not_ascii(kit, api, record):
    container = kit.create()
    record(api.put_archive(container, "/tmp", archive({"grüße ☃": b"hi"})))
    record(get(api, container, "/tmp/grüße ☃")[0])
