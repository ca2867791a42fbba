"""Events."""

import threading
import time

import pytest
from kit import BASE


def between(api, begun, **options):
    return list(api.events(since=begun, until=time.time() + 0.01, decode=True, **options))


def words(events):
    return [[event["Type"], event["Action"], sorted(event["Actor"]["Attributes"])] for event in events]


@pytest.fixture
def begun():
    time.sleep(0.05)
    return time.time()


def test_a_containers_life_is_told(kit, api, record, begun):
    container = kit.finished("true", name="told")
    api.remove_container(container)
    record(words(between(api, begun, filters={"type": "container"})))


def test_an_event_has_all_members(kit, api, record, begun):
    kit.create(name="one")
    record([sorted(event) for event in between(api, begun)])


@pytest.mark.parametrize(
    "filters",
    [
        {"type": "network"}, {"type": "volume"}, {"event": "die"}, {"container": "first"}, {"image": BASE}, {"label": "l=1"},
        {"event": ["create", "start"]}, {"type": "image"}, {"scope": "local"}, {"type": "daemon"},
    ],
    ids=str,
)
def test_filters(kit, api, record, begun, filters):
    kit.finished("true", name="first", labels={"l": "1"}, binds=["vol:/v"])
    kit.finished("exit 1", name="second")
    api.create_network("net")
    api.remove_network("net")
    api.tag(BASE, "tagged")
    # Which of a network's and a container's events comes first is not promised.
    record(sorted(words(between(api, begun, filters=filters))))


def test_the_exit_code_is_told(kit, api, record, begun):
    kit.finished("exit 9")
    record([event["Actor"]["Attributes"]["exitCode"] for event in between(api, begun, filters={"event": "die"})])


def test_a_held_stream_tells_what_happens_next(kit, api, record):
    stream = api.events(decode=True, filters={"type": "container"})
    timer = threading.Timer(0.5, lambda: kit.finished("true", name="later"))
    timer.start()
    seen = []
    for event in stream:
        seen.append(event["Action"])
        if event["Action"] == "die":
            break
    stream.close()
    timer.join()
    record(seen)


def test_a_held_stream_ends_at_its_time(api, record):
    begun = time.monotonic()
    record(list(api.events(until=int(time.time()) + 2, decode=True, filters={"container": "nobody"})))
    assert 0.5 < time.monotonic() - begun < 10


def test_two_listeners_hear_the_same(kit, api, record):
    streams = [api.events(decode=True, filters={"event": "create", "type": "container"}) for _ in range(2)]
    kit.create(name="heard")
    record([next(stream)["Actor"]["Attributes"]["name"] for stream in streams])
    [stream.close() for stream in streams]


def test_an_unknown_filter(kit, api):
    kit.told(lambda: list(api.events(since=1, until=2, filters={"nonsense": "x"})))


def test_a_time_that_is_none_is_refused(kit, api):
    def ask():
        api._raise_for_status(api._get(api._url("/events"), params={"since": "yesterday", "until": "x"}))

    kit.refused(ask)


def test_an_exec_is_told(kit, api, record, begun):
    container = kit.sleeper()
    identifier = api.exec_create(container, ["true"])["Id"]
    api.exec_start(identifier)
    record(sorted(event["Action"].split(":")[0] for event in between(api, begun, filters={"container": container})))


def test_health_is_told(kit, api, record, begun):
    import docker
    from kit import wait_for

    check = docker.types.Healthcheck(test=["CMD", "true"], interval=200_000_000)
    container = kit.sleeper(healthcheck=check)
    wait_for(lambda: api.inspect_container(container)["State"]["Health"]["Status"] == "healthy")
    record([event["Action"] for event in between(api, begun, filters={"event": "health_status"})])


def test_pause_rename_kill_and_the_rest_are_told(kit, api, record, begun):
    container = kit.sleeper(name="old")
    api.pause(container)
    api.unpause(container)
    api.rename(container, "new")
    api.restart(container, timeout=5)
    api.kill(container)
    api.wait(container)
    record([event["Action"] for event in between(api, begun, filters={"type": "container", "container": container})])


def test_archives_are_told(kit, api, record, begun):
    from kit import archive

    container = kit.create()
    api.put_archive(container, "/tmp", archive({"a": b""}))
    list(api.get_archive(container, "/tmp/a")[0])
    list(api.export(container))
    record([event["Action"] for event in between(api, begun, filters={"container": container})])
