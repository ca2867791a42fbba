"""Logs in all their forms."""

import threading
import time

import pytest
from kit import wait_for

BOTH = "for i in 1 2 3; do echo out $i; sleep 0.2; echo err $i >&2; sleep 0.2; done"


@pytest.mark.parametrize("stdout, stderr", [(True, True), (True, False), (False, True)])
def test_each_stream_alone_or_both(kit, api, record, stdout, stderr):
    record(api.logs(kit.finished(BOTH), stdout=stdout, stderr=stderr))


def test_neither_stream_is_refused(kit, api):
    kit.refused(api.logs, kit.finished(BOTH), stdout=False, stderr=False)


@pytest.mark.parametrize("tail", ["all", 0, 1, 2, 100])
def test_tail(kit, api, record, tail):
    record(api.logs(kit.finished("seq 10"), tail=tail))


def test_timestamps(kit, api, record):
    record(api.logs(kit.finished("seq 3"), timestamps=True))


def test_since_and_until(kit, api, record):
    container = kit.finished("echo early; sleep 2.1; echo late")
    moments = [line.split()[0].decode() for line in api.logs(container, timestamps=True).splitlines()]
    middle = time.time() - 1
    record(api.logs(container, since=middle))
    record(api.logs(container, until=middle))
    assert len(moments) == 2


def test_follow_ends_with_the_container(kit, api, record):
    container = kit.shell("for i in 1 2 3; do echo $i; sleep 0.2; done")
    record(b"".join(api.logs(container, stream=True, follow=True)))


def test_followed_lines_come_when_they_are_written(kit, api, record):
    container = kit.shell("echo first; sleep 3; echo second")
    stream = api.logs(container, stream=True, follow=True)
    begun = time.monotonic()
    record(next(stream))
    assert time.monotonic() - begun < 2.5
    record(next(stream))


def test_follow_of_a_stopped_container_ends_at_once(kit, api, record):
    record(b"".join(api.logs(kit.finished("seq 5"), stream=True, follow=True)))


def test_follow_with_tail_zero_shows_new_lines_only(kit, api, record):
    container = kit.shell("echo old; trap 'echo new; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    wait_for(lambda: b"ready" in api.logs(container))
    stream = api.logs(container, stream=True, follow=True, tail=0)
    threading.Timer(0.5, api.kill, [container, "TERM"]).start()
    record(b"".join(stream))


def test_a_stream_that_is_closed_early_leaves_the_container_alone(kit, api, record):
    container = kit.shell("while :; do echo x; done")
    stream = api.logs(container, stream=True, follow=True)
    next(stream)
    stream.close()
    record(api.inspect_container(container)["State"]["Running"])


def test_a_terminals_logs_are_raw(kit, api, record):
    record(api.logs(kit.finished("echo a; echo b >&2", tty=True)))


def test_many_lines_arrive_complete(kit, api, record):
    container = kit.finished("seq 200000")
    lines = api.logs(container)
    assert lines == b"".join(b"%d\n" % number for number in range(1, 200001))
    record(len(lines))


def test_bytes_that_are_no_text_arrive_unchanged(kit, api, record):
    record(api.logs(kit.finished("printf '\\000\\001\\377\\n'")).hex())


def test_a_line_longer_than_the_engines_buffer(kit, api, record):
    data = api.logs(kit.finished("head -c 100000 /dev/zero | tr '\\0' x; echo"))
    record(len(data))


def test_logs_of_the_json_file_with_a_limit(kit, api, record):
    container = kit.finished("seq 1000", log_config={"Type": "json-file", "Config": {"max-size": "2k", "max-file": "2"}})
    record(api.logs(container, tail=3))


def test_logs_with_the_driver_none_are_refused(kit, api):
    container = kit.finished("seq 3", log_config={"Type": "none", "Config": {}})
    kit.refused(api.logs, container)


def test_logs_with_the_local_driver(kit, api, record):
    record(api.logs(kit.finished("seq 3", log_config={"Type": "local", "Config": {}})))


def test_two_followers_see_the_same(kit, api, record):
    container = kit.shell("sleep 0.5; seq 100")
    streams = [api.logs(container, stream=True, follow=True) for _ in range(2)]
    record([b"".join(stream) for stream in streams])
