"""Attaching to containers: the hijacked connection."""

import socket
import struct

import pytest
from kit import joined, raw, read_all, read_until, wait_for

ALL = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}


def attach(api, container, **params):
    return raw(api.attach_socket(container, params=params or ALL))


def test_input_ends_with_a_half_close_and_output_still_comes(kit, api, record):
    container = kit.create(["sh", "-c", "cat; sleep 0.5; echo after"], stdin_open=True)
    sock = attach(api, container)
    api.start(container)
    sock.sendall(b"one\ntwo\n")
    sock.shutdown(socket.SHUT_WR)
    record(joined(read_all(sock)))
    record(api.inspect_container(container)["Config"]["StdinOnce"])


def test_attached_before_the_start_nothing_is_missed(kit, api, record):
    container = kit.create(["sh", "-c", "seq 20000; echo end >&2"])
    sock = attach(api, container, stdout=1, stderr=1, stream=1)
    api.start(container)
    parts = joined(read_all(sock))
    record([len(parts[1]), parts[2]])


def test_a_megabyte_of_input_arrives(kit, api, record):
    container = kit.create(["sha256sum"], stdin_open=True)
    sock = attach(api, container)
    api.start(container)
    sock.sendall(b"0123456789abcdef" * 65536)
    sock.shutdown(socket.SHUT_WR)
    record(len(joined(read_all(sock))[1]))


def test_logs_first_and_then_the_stream(kit, api, record):
    container = kit.shell("echo before; sleep 3; echo after")
    wait_for(lambda: api.logs(container))
    sock = attach(api, container, stdout=1, stream=1, logs=1)
    # docker-py loses what comes in one piece with the answer's head, whatever the engine.
    record(joined(read_all(sock))[1][-6:])


def test_logs_only(kit, api, record):
    container = kit.finished("echo a; echo b >&2")
    parts = api.attach(container, stdout=True, stderr=True, logs=True)
    # What came in one piece with the answer's head is lost to docker-py.
    record(b"a\nb\n".endswith(parts or b"") or b"b\na\n".endswith(parts))


def test_both_streams_told_apart(kit, api, record):
    # Attached before the start: docker-py loses what comes in one piece with the answer's head, whatever the engine.
    container = kit.create(["sh", "-c", "echo a; echo b >&2"])
    parts = api.attach(container, stdout=True, stderr=True, stream=True, demux=True)
    api.start(container)
    seen = list(parts)
    record([b"".join(out for out, _ in seen if out), b"".join(err for _, err in seen if err)])


def test_as_a_generator(kit, api, record):
    container = kit.create(["sh", "-c", "seq 50"])
    parts = api.attach(container, stream=True, logs=True)
    api.start(container)
    record(b"".join(parts))


def test_a_terminal_is_one_raw_stream(kit, api, record):
    container = kit.create(["sh", "-c", "echo a; echo b >&2; read x; echo got $x"], tty=True, stdin_open=True)
    sock = attach(api, container)
    api.start(container)
    read_until(sock, b"b\r\n")
    sock.sendall(b"word\n")
    record(read_all(sock))


def test_detach_keys(kit, api, record):
    container = kit.create(["sh"], tty=True, stdin_open=True)
    sock = attach(api, container, stdin=1, stdout=1, stream=1, detachKeys="ctrl-x,x")
    api.start(container)
    sock.sendall(b"echo ready-$((1+1))\n")
    read_until(sock, b"ready-2")
    sock.sendall(b"\x18x")
    read_all(sock)
    record(api.inspect_container(container)["State"]["Running"])


def test_two_clients_see_the_same_output(kit, api, record):
    container = kit.create(["sh", "-c", "seq 1000"])
    first, second = attach(api, container), attach(api, container)
    api.start(container)
    record([joined(read_all(sock))[1] for sock in (first, second)])


def test_a_client_that_leaves_does_not_end_the_container(kit, api, record):
    container = kit.sleeper()
    attach(api, container).close()
    record(api.inspect_container(container)["State"]["Running"])


def test_frames_have_their_headers(kit, api, record):
    container = kit.create(["echo", "framed"])
    sock = attach(api, container, stdout=1, stderr=1, stream=1)
    api.start(container)
    data = read_all(sock)
    record([struct.unpack(">BxxxL", data[:8]), data[8:]])


def test_to_a_stopped_container_waits_for_its_next_start(kit, api, record):
    container = kit.finished("echo again")
    sock = attach(api, container, stdout=1, stream=1)
    api.start(container)
    record(joined(read_all(sock))[1])


def test_to_an_unknown_container_is_not_found(kit, api):
    assert kit.refused(api.attach_socket, "nobody", params=ALL)[0] == 404


def test_to_a_paused_container_is_a_conflict(kit, api):
    container = kit.sleeper()
    api.pause(container)
    kit.refused(api.attach_socket, container, params=ALL)
    api.unpause(container)


@pytest.mark.parametrize("path", ["stdin=1&stdout=1&stream=1", "stdout=1&stderr=1&stream=1"])
def test_by_websocket(kit, api, record, path):
    container = kit.create(["sh", "-c", "echo hello; sleep 0.3"], stdin_open=True)
    sock = kit.connect()
    sock.sendall(
        f"GET /containers/{container}/attach/ws?{path} HTTP/1.1\r\nHost: d\r\nOrigin: http://d\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = read_until(sock, b"\r\n\r\n")
    api.start(container)
    data = head.split(b"\r\n\r\n", 1)[1]
    while b"hello" not in data:
        data += sock.recv(1000)
    record([sorted(head.split(b"\r\n\r\n")[0].split(b"\r\n")), b"hello" in data])
    sock.close()
