"""Programs in running containers."""

import socket
import threading

import docker
import pytest
from kit import joined, raw, read_all, read_until, wait_for


@pytest.fixture
def container(kit, api):
    container = kit.sleeper()
    return container


def run(api, container, command, **options):
    start = {key: options.pop(key) for key in list(options) if key in ("demux", "stream", "detach", "tty", "socket")}
    if "tty" in start:
        options["tty"] = start["tty"]
    if not start.get("socket") and command != ["no-such-program"]:
        # docker-py loses output that comes in one piece with the answer's head, whatever the engine.
        command = ["sh", "-c", 'sleep 0.3; exec "$@"', "sh", *command]
    identifier = api.exec_create(container, command, **options)["Id"]
    return identifier, api.exec_start(identifier, **start)


def test_output_is_returned(api, container, record):
    record(run(api, container, ["echo", "hello"])[1])


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_is_told(api, container, record, code):
    identifier, _ = run(api, container, ["sh", "-c", f"exit {code}"])
    record(api.exec_inspect(identifier)["ExitCode"])


def test_a_program_that_is_not_there_tells_127_or_126(api, container, record):
    identifier, output = run(api, container, ["no-such-program"])
    record(api.exec_inspect(identifier)["ExitCode"])


def test_both_streams_are_told_apart(api, container, record):
    record(run(api, container, ["sh", "-c", "echo a; echo b >&2"], demux=True)[1])


@pytest.mark.parametrize("stdout, stderr", [(True, False), (False, True)])
def test_only_one_stream(api, container, record, stdout, stderr):
    record(run(api, container, ["sh", "-c", "echo a; echo b >&2"], stdout=stdout, stderr=stderr)[1])


def test_output_as_a_stream(api, container, record):
    record(b"".join(run(api, container, ["seq", "1000"], stream=True)[1]))


def test_a_stream_of_both_told_apart(api, container, record):
    parts = {0: b"", 1: b""}
    for out, err in run(api, container, ["sh", "-c", "seq 500; seq 500 >&2"], stream=True, demux=True)[1]:
        parts[0] += out or b""
        parts[1] += err or b""
    record(parts)


def test_detached_returns_at_once(api, container, record):
    identifier, output = run(api, container, ["sh", "-c", "sleep 0.3; echo done > /tmp/mark; exit 6"], detach=True)
    record(output)
    wait_for(lambda: not api.exec_inspect(identifier)["Running"])
    record(api.exec_inspect(identifier)["ExitCode"])


def test_with_a_terminal_output_is_raw(api, container, record):
    record(run(api, container, ["sh", "-c", "tty; echo a; echo b >&2"], tty=True)[1])


def test_input_through_a_socket_until_half_closed(api, container, record):
    identifier, sock = run(api, container, ["cat"], stdin=True, socket=True)
    sock = raw(sock)
    sock.sendall(b"line\n" * 1000)
    sock.shutdown(socket.SHUT_WR)
    record(joined(read_all(sock)))
    record(api.exec_inspect(identifier)["ExitCode"])


def test_a_megabyte_in_and_out(api, container, record):
    identifier, sock = run(api, container, ["sha256sum"], stdin=True, socket=True)
    sock = raw(sock)
    sock.sendall(bytes(range(256)) * 4096)
    sock.shutdown(socket.SHUT_WR)
    out = joined(read_all(sock))[1]
    import hashlib

    assert out.split()[0].decode() == hashlib.sha256(bytes(range(256)) * 4096).hexdigest()
    record(len(out))


def test_both_directions_at_once(api, container, record):
    identifier, sock = run(api, container, ["cat"], stdin=True, socket=True)
    sock = raw(sock)
    data = bytes(range(256)) * 8192
    thread = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
    thread.start()
    out = joined(read_all(sock))[1]
    thread.join()
    assert out == data
    record(len(out))


def test_a_dialogue_in_a_terminal(api, container, record):
    identifier, sock = run(api, container, ["sh"], stdin=True, socket=True, tty=True)
    sock = raw(sock)
    sock.sendall(b"echo $((6*7))\n")
    read_until(sock, b"42\r\n")
    sock.sendall(b"exit 3\n")
    read_all(sock)
    record(api.exec_inspect(identifier)["ExitCode"])


def test_a_terminal_is_resized(api, container, record):
    identifier, sock = run(api, container, ["sh"], stdin=True, socket=True, tty=True)
    sock = raw(sock)
    sock.sendall(b"echo ready-$((1+1))\n")
    read_until(sock, b"ready-2")
    api.exec_resize(identifier, height=21, width=99)
    sock.sendall(b"stty size\n")
    record(b"21 99" in read_until(sock, b"21 99"))
    sock.close()


def test_detach_keys_leave_the_program_running(api, container, record):
    identifier = api.exec_create(container, ["sh"], stdin=True, tty=True, detach_keys="ctrl-p,ctrl-q")["Id"]
    sock = raw(api.exec_start(identifier, tty=True, socket=True))
    sock.sendall(b"echo ready-$((1+1))\n")
    read_until(sock, b"ready-2")
    sock.sendall(b"\x10\x11")
    read_all(sock)
    record(api.exec_inspect(identifier)["Running"])


def test_environment_directory_and_user(api, container, record):
    record(
        run(
            api, container, ["sh", "-c", "id -u; pwd; echo $A"], user="1000", workdir="/tmp", environment={"A": "b c"}
        )[1]
    )


def test_inspection_tells_everything(api, container, record):
    identifier, _ = run(api, container, ["sh", "-c", "exit 1"], tty=True, user="1000", privileged=False)
    told = api.exec_inspect(identifier)
    record(told)


def test_a_container_lists_its_execs(api, container, record):
    identifier = api.exec_create(container, ["true"])["Id"]
    record(api.inspect_container(container)["ExecIDs"] == [identifier])


def test_an_unknown_exec_is_not_found(kit, api, container):
    assert kit.refused(api.exec_start, "f" * 64)[0] == 404
    assert kit.refused(api.exec_inspect, "f" * 64)[0] == 404
    assert kit.refused(api.exec_resize, "f" * 64, height=1, width=1)[0] == 404


def test_started_twice(kit, api, container):
    identifier, _ = run(api, container, ["echo", "once"])
    try:
        api.exec_start(identifier)
    except docker.errors.APIError as error:
        assert error.status_code == 409
    # The engine says it in the stream, which docker-py may miss.
    kit.record(api.exec_inspect(identifier)["ExitCode"])


def test_in_a_stopped_container_is_a_conflict(kit, api):
    assert kit.refused(api.exec_create, kit.finished("true"), ["true"])[0] == 409


def test_in_a_paused_container_is_a_conflict(kit, api, container):
    api.pause(container)
    assert kit.refused(api.exec_create, container, ["true"])[0] == 409
    api.unpause(container)


def test_without_a_command_is_refused(kit, api, container):
    assert kit.refused(api.exec_create, container, [])[0] == 400


def test_a_container_that_ends_ends_its_execs(kit, api, container, record):
    identifier = api.exec_create(container, ["sh", "-c", "sleep 0.3; echo runs; sleep 100"])["Id"]
    sock = raw(api.exec_start(identifier, socket=True))
    read_until(sock, b"runs\n")
    api.kill(container)
    record(read_all(sock))
    record(api.exec_inspect(identifier)["Running"])


def test_thirty_at_once(api, container, record):
    outputs = [None] * 30

    def one(number):
        outputs[number] = run(api, container, ["echo", str(number)])[1]

    threads = [threading.Thread(target=one, args=[number]) for number in range(30)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    record(outputs)
