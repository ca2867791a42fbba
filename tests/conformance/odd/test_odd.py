"""Clients that no library would be, in bare sockets: what a proxy must bear, and that nothing stays open after them."""

import concurrent.futures
import hashlib
import http.client
import json
import os
import socket
import time

import pytest
from kit import BASE, archive, joined, read_all, read_until, wait_for

HIJACK = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def lines(data):
    """An answer's head as a list: the status line, then the headers in the alphabet's order, without what changes."""
    first, *headers = data.split(b"\r\n\r\n")[0].decode().split("\r\n")
    return [first] + sorted(each for each in headers if not each.startswith(("Date:", "Content-Length:")))


def answer(sock, method="GET"):
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    return response.status, response.read()


def post(path, body, more=""):
    body = json.dumps(body) if not isinstance(body, str) else body
    return (
        f"POST {path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n{body}"
    ).encode()


def catting(kit, **options):
    """A container that gives back its input and then says that it ends."""
    return kit.create(["sh", "-c", "cat; echo end"], stdin_open=True, **options)


def attach(kit, container, upgrade=HIJACK, query="stdin=1&stdout=1&stderr=1&stream=1", more=b""):
    sock = kit.connect()
    sock.sendall(f"POST /containers/{container}/attach?{query} HTTP/1.1\r\nHost: d\r\n{upgrade}\r\n".encode() + more)
    return sock


def split(data):
    top, _, rest = data.partition(b"\r\n\r\n")
    return top + b"\r\n\r\n", rest


# Taking a connection over


@pytest.mark.parametrize("upgrade", [HIJACK, ""], ids=["with upgrade", "the old way"])
def test_the_head_of_a_taken_over_attach_is_the_engines(kit, api, record, upgrade):
    container = catting(kit)
    sock = attach(kit, container, upgrade)
    top, rest = split(read_until(sock, b"\r\n\r\n"))
    record(lines(top))
    api.start(container)
    sock.sendall(b"hello\n")
    sock.shutdown(socket.SHUT_WR)
    record(joined(rest + read_all(sock)))


@pytest.mark.parametrize("upgrade", [HIJACK, ""], ids=["with upgrade", "the old way"])
@pytest.mark.parametrize("tty", [False, True])
def test_the_head_of_a_taken_over_exec_is_the_engines(kit, api, record, upgrade, tty):
    identifier = api.exec_create(kit.sleeper(), ["sh", "-c", "cat; echo end"], stdin=not tty, tty=tty)["Id"]
    sock = kit.connect()
    sock.sendall(post(f"/v1.41/exec/{identifier}/start", {"Detach": False, "Tty": tty}, upgrade))
    top, rest = split(read_until(sock, b"\r\n\r\n"))
    record(lines(top))
    if not tty:
        sock.sendall(b"hello\n")
        sock.shutdown(socket.SHUT_WR)
        record(joined(rest + read_all(sock)))
    sock.close()


@pytest.mark.parametrize("upgrade", [HIJACK, ""], ids=["with upgrade", "the old way"])
def test_input_in_the_same_piece_as_the_request_disturbs_nothing(kit, api, record, upgrade):
    """The engine itself may lose such input (it drops what it had read ahead); Overside does not."""
    identifier = api.exec_create(kit.sleeper(), ["cat"], stdin=True)["Id"]
    sock = kit.connect()
    sock.sendall(post(f"/exec/{identifier}/start", {"Detach": False}, upgrade) + b"early\n")
    time.sleep(0.2)
    sock.sendall(b"late\n")
    sock.shutdown(socket.SHUT_WR)
    told = joined(split(read_all(sock))[1])[1]
    assert told in (b"late\n", b"early\nlate\n")
    if os.environ["CONFORMANCE_SIDE"] == "overside":
        assert told.startswith(b"early")
    record(told[-5:])


def test_a_refused_attach_keeps_the_connection_or_ends_it_as_the_engine_does(kit, record):
    sock = attach(kit, "nobody")
    record(answer(sock))


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "nonsense"])
def test_another_protocol_is_answered_as_the_engine_does(kit, api, record, protocol):
    container = kit.create()
    sock = attach(kit, container, f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n", query="stdout=1&stream=1")
    record(lines(split(read_until(sock, b"\r\n\r\n"))[0]))
    sock.close()


def test_an_upgrade_of_a_call_that_has_none_is_ignored(kit, record):
    sock = kit.connect()
    sock.sendall(f"GET /_ping HTTP/1.1\r\nHost: d\r\n{HIJACK}\r\n".encode())
    record(answer(sock))


def test_connection_options_in_any_case_and_order(kit, api, record):
    container = catting(kit)
    sock = attach(kit, container, "connection: keep-alive, UPGRADE\r\nupgrade: TCP\r\n")
    record(lines(split(read_until(sock, b"\r\n\r\n"))[0])[0])
    sock.close()


# Half-closed sockets


def test_half_closed_with_the_request_of_an_attach(kit, api, record):
    container = catting(kit)
    sock = attach(kit, container)
    sock.shutdown(socket.SHUT_WR)
    top, rest = split(read_until(sock, b"\r\n\r\n"))
    api.start(container)
    record([top.split(b"\r\n")[0], joined(rest + read_all(sock))])


def test_half_closed_after_the_head_of_an_attach(kit, api, record):
    container = catting(kit)
    sock = attach(kit, container)
    _, rest = split(read_until(sock, b"\r\n\r\n"))
    sock.shutdown(socket.SHUT_WR)
    api.start(container)
    record(joined(rest + read_all(sock)))


def test_half_closed_in_the_middle_of_a_stream(kit, api, record):
    container = catting(kit)
    sock = attach(kit, container)
    _, rest = split(read_until(sock, b"\r\n\r\n"))
    api.start(container)
    sock.sendall(b"x" * 100_000)
    sock.shutdown(socket.SHUT_WR)
    record(joined(rest + read_all(sock))[1][-10:])
    record(api.wait(container))


def test_half_closed_after_the_containers_end(kit, api, record):
    container = kit.create(["echo", "short"], stdin_open=True)
    sock = attach(kit, container)
    _, rest = split(read_until(sock, b"\r\n\r\n"))
    api.start(container)
    api.wait(container)
    data = read_all(sock)
    sock.shutdown(socket.SHUT_WR)
    record(joined(rest + data))


def test_half_closed_without_waiting_for_input_to_be_read(kit, api, record):
    """The container never reads: its output must come all the same."""
    container = kit.create(["sh", "-c", "sleep 0.5; echo never read"], stdin_open=True)
    sock = attach(kit, container)
    _, rest = split(read_until(sock, b"\r\n\r\n"))
    api.start(container)
    sock.sendall(b"y" * 10_000)
    sock.shutdown(socket.SHUT_WR)
    record(joined(rest + read_all(sock)))


def test_the_reading_half_closed_does_not_stop_the_input(kit, api, record):
    container = kit.create(["sh", "-c", "cat > /tmp/in; sleep 1"], stdin_open=True)
    sock = attach(kit, container, query="stdin=1&stream=1")
    read_until(sock, b"\r\n\r\n")
    api.start(container)
    sock.shutdown(socket.SHUT_RD)
    sock.sendall(b"one way")
    sock.shutdown(socket.SHUT_WR)
    record(api.wait(container))
    files = b"".join(api.get_archive(container, "/tmp/in")[0])
    record(b"one way" in files)


@pytest.mark.parametrize("path", ["/_ping", "/version", "/containers/json", "/images/json"])
def test_half_closed_after_an_ordinary_request(kit, record, path):
    sock = kit.connect()
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
    time.sleep(0.3)
    sock.shutdown(socket.SHUT_WR)
    data = read_all(sock)
    record(data.split(b"\r\n")[0])


def test_half_closed_in_the_middle_of_a_body(kit, record):
    sock = kit.connect()
    sock.sendall(b"POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    sock.shutdown(socket.SHUT_WR)
    data = read_all(sock)
    # The engine answers that the body is not whole; nobody promises an answer to a request that never ended.
    record(data[:9] in (b"HTTP/1.1 ", b""))


# Messages in odd forms


@pytest.mark.parametrize("size", [8_000, 64 << 10, 500 << 10])
def test_a_header_of_this_many_bytes(kit, record, size):
    sock = kit.connect()
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nX-Registry-Config: " + b"a" * size + b"\r\n\r\n")
    record(answer(sock))


def test_two_hundred_headers(kit, record):
    sock = kit.connect()
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n")
    record(answer(sock))


def test_a_head_that_is_too_large_is_refused(kit, record):
    sock = kit.connect()
    try:
        sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"a" * (3 << 20) + b"\r\n\r\n")
        status = read_until(sock, b"\r\n").split(b"\r\n")[0].split(b" ")[1]
    except (BrokenPipeError, ConnectionResetError, EOFError):
        status = b"431"
    record(status)


def test_a_long_query_is_kept(kit, record):
    filters = json.dumps({"label": ["k=" + "v" * 60_000]})
    sock = kit.connect()
    from urllib.parse import quote

    sock.sendall(f"GET /containers/json?filters={quote(filters)} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
    record(answer(sock))


def chunked(data, size, extension=b"", trailers=b""):
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    return body + b"0" + extension + b"\r\n" + trailers + b"\r\n"


@pytest.mark.parametrize("extension", [b"", b";name=value"], ids=["plain", "with extensions"])
@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\nX-More: 2\r\n"], ids=["without trailers", "with trailers"])
def test_a_chunked_body(kit, api, record, extension, trailers):
    body = json.dumps({"Image": BASE, "Cmd": ["echo", "x"]}).encode()
    sock = kit.connect()
    sock.sendall(
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: X-Sum, X-More\r\n\r\n" + chunked(body, 7, extension, trailers)
    )
    status, text = answer(sock)
    record([status, sorted(json.loads(text))])
    # The connection goes on behind the trailers.
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    record(answer(sock))


def test_a_chunked_archive_with_trailers(kit, api, record):
    container = kit.create()
    sock = kit.connect()
    sock.sendall(
        f"PUT /containers/{container}/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + chunked(archive({"c": b"content" * 10_000}), 1000, trailers=b"X-Sum: 1\r\n")
    )
    record(answer(sock))
    record(len(b"".join(api.get_archive(container, "/tmp/c")[0])) > 70_000)


def test_pipelined_requests_are_answered_in_their_order(kit, record):
    sock = kit.connect()
    paths = ["/_ping", "/containers/nobody/json", "/images/json?filters={", "/_ping"] * 5
    sock.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode() for path in paths))
    stream = sock.makefile("rb")
    record([next_answer(stream) for _ in paths])


def next_answer(stream):
    """Reads one answer of several on a connection. http.client reads ahead, so that it would lose the next ones."""
    status = int(stream.readline().split()[1])
    headers = {}
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return [status, body]
    return [status, stream.read(int(headers.get("content-length", 0)))]


def test_pipelined_bodies(kit, record):
    sock = kit.connect()
    body = {"Image": BASE, "Cmd": ["true"]}
    sock.sendall(b"".join(post(f"/containers/create?name=piped{n}", body) for n in range(5)))
    stream = sock.makefile("rb")
    record([next_answer(stream)[0] for _ in range(5)])


def test_a_hijack_behind_another_request_on_the_same_connection(kit, api, record):
    identifier = api.exec_create(kit.sleeper(), ["cat"], stdin=True)["Id"]
    sock = kit.connect()
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    first = answer(sock)
    sock.sendall(post(f"/exec/{identifier}/start", {"Detach": False}, HIJACK))
    top, rest = split(read_until(sock, b"\r\n\r\n"))
    sock.sendall(b"second\n")
    sock.shutdown(socket.SHUT_WR)
    record([first, top.split(b"\r\n")[0], joined(rest + read_all(sock))])


@pytest.mark.parametrize("more", ["", "Connection: keep-alive\r\n", "Host: d\r\n"], ids=["bare", "keep-alive", "with host"])
@pytest.mark.parametrize("path", ["/_ping", "/containers/json", "/version"])
def test_http_1_0(kit, record, path, more):
    sock = kit.connect()
    sock.sendall(f"GET {path} HTTP/1.0\r\n{more}\r\n".encode())
    if "keep-alive" in more:
        data = read_until(sock, b"\r\n\r\n")
        sock.close()
    else:
        data = read_all(sock)
    record(data.split(b"\r\n")[0].split(b" ", 1)[1])
    assert b"chunked" not in data.split(b"\r\n\r\n")[0]


def test_http_1_0_streams_logs_until_the_end(kit, api, record):
    container = kit.shell("for i in 1 2 3; do echo $i; sleep 0.2; done")
    sock = kit.connect()
    sock.sendall(f"GET /containers/{container}/logs?stdout=1&follow=1 HTTP/1.0\r\n\r\n".encode())
    record(joined(split(read_all(sock))[1])[1])


def test_one_byte_at_a_time(kit, record):
    sock = kit.connect()
    for byte in b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n":
        sock.sendall(bytes([byte]))
        time.sleep(0.002)
    record(answer(sock))


def test_expect_continue_is_answered_before_the_body(kit, api, record):
    container, data = kit.create(), archive({"e": b"expected"})
    sock = kit.connect()
    sock.sendall(
        f"PUT /containers/{container}/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\n"
        f"Content-Type: application/x-tar\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    )
    record(read_until(sock, b"\r\n\r\n"))
    sock.sendall(data)
    record(answer(sock))


@pytest.mark.parametrize(
    "request_line, headers",
    [
        ("GET http://docker/_ping HTTP/1.1", "Host: docker"),
        ("GET /_ping HTTP/1.1", "host: D\r\nUSER-AGENT: x\r\nconnection: close"),
        ("GET /_ping HTTP/1.1", "Host: d\r\nConnection: close"),
        ("GET /_ping HTTP/1.1", "Host: "),
        ("GET /containers/json?all=1&all=0 HTTP/1.1", "Host: d"),
        ("GET /%5fping HTTP/1.1", "Host: d"),
        ("GET /_ping HTTP/1.1", "Host: d\r\nContent-Length: 0"),
        ("get /_ping HTTP/1.1", "Host: d"),
    ],
)
def test_an_odd_head_is_answered_as_the_engine_does(kit, record, request_line, headers):
    sock = kit.connect()
    sock.sendall(f"{request_line}\r\n{headers}{chr(13) + chr(10) if headers else ''}\r\n".encode())
    record(answer(sock))


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\nHost: d\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nbroken header\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["words", "version", "header", "two lengths", "negative length", "no chunk", "TLS"],
)
def test_something_that_is_no_request_is_not_taken_for_one(kit, record, data):
    sock = kit.connect()
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    told = read_all(sock)
    # The engine says 400 or, in places, 500 or 505; a proxy may also just close.
    record(told == b"" or told.split(b" ")[1][:1] in (b"4", b"5"))


def test_a_connection_serves_a_hundred_requests(kit, record):
    sock = kit.connect()
    record({str(ask_again(sock)) for _ in range(100)})


def ask_again(sock):
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    return answer(sock)


def test_an_idle_connection_stays_open(kit, record):
    sock = kit.connect()
    sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
    answer(sock)
    time.sleep(5)
    record(ask_again(sock))


# Much of it, and slowly


@pytest.mark.timeout(120)
def test_a_slow_reader_of_a_million_lines_holds_nobody_up(kit, api, record):
    # Ended before: the engine itself loses lines when it follows a container that ends before its reader has come along.
    container = kit.finished("seq 1000000")
    sock = kit.connect()
    sock.sendall(f"GET /containers/{container}/logs?stdout=1 HTTP/1.0\r\n\r\n".encode())
    data = bytearray(sock.recv(1000))
    slowest = 0
    for _ in range(30):
        begun = time.monotonic()
        api.ping()
        api.inspect_container(container)
        slowest = max(slowest, time.monotonic() - begun)
        data += sock.recv(100)
        time.sleep(0.05)
    assert slowest < 5, f"a call took {slowest:.1f} s meanwhile"
    sock.settimeout(60)
    data += read_all(sock)
    text = joined(split(bytes(data))[1])[1]
    assert text.count(b"\n") == 1_000_000 and text.endswith(b"999999\n1000000\n")
    record(hashlib.sha256(text).hexdigest()[:10])


def test_a_slow_writer_is_waited_for(kit, api, record):
    container, data = kit.create(), archive({"slow": b"s" * 2000})
    sock = kit.connect()
    sock.sendall(
        f"PUT /containers/{container}/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    )
    for at in range(0, len(data), 1024):
        sock.sendall(data[at : at + 1024])
        time.sleep(0.1)
    record(answer(sock))


def test_two_hundred_execs_at_once(kit, api, record):
    container = kit.sleeper()
    identifiers = [api.exec_create(container, ["sh", "-c", f"read x; echo {n} $x"], stdin=True)["Id"] for n in range(200)]
    socks = []
    for identifier in identifiers:
        sock = kit.connect()
        sock.settimeout(60)
        socks.append(sock)

    def begin(pair):
        sock, identifier = pair
        sock.sendall(post(f"/exec/{identifier}/start", {"Detach": False}, HIJACK))
        return split(read_until(sock, b"\r\n\r\n"))[1]

    with concurrent.futures.ThreadPoolExecutor(200) as threads:
        rests = list(threads.map(begin, zip(socks, identifiers)))
    # All of them are open now.
    for sock in socks:
        sock.sendall(b"word\n")
        sock.shutdown(socket.SHUT_WR)
    record([joined(rest + read_all(sock))[1] for rest, sock in zip(rests, socks)])
    [sock.close() for sock in socks]


def test_four_hundred_connections_that_say_nothing(kit, record):
    socks = [kit.connect() for _ in range(400)]
    record(ask_again(kit.connect()))
    record(ask_again(socks[-1]))
    [sock.close() for sock in socks]


# Clients that vanish


def test_clients_that_vanish_in_the_middle_of_streams(kit, api, record):
    container = kit.shell("while :; do echo $((n = n + 1)); done", name="noisy", stdin_open=True)
    for path in (f"/containers/{container}/logs?stdout=1&follow=1", "/events", f"/containers/{container}/stats",
                 f"/containers/{container}/export"):
        for _ in range(10):
            sock = kit.connect()
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
            read_until(sock, b"\r\n\r\n") if path != "/events" else time.sleep(0.01)
            sock.close()
    for _ in range(10):
        sock = attach(kit, container)
        read_until(sock, b"\r\n\r\n")
        sock.sendall(b"input")
        sock.close()
    record(api.inspect_container(container)["State"]["Running"])


def test_clients_that_vanish_before_the_answer(kit, api, record):
    container = kit.sleeper()
    for _ in range(20):
        sock = kit.connect()
        sock.sendall(f"POST /containers/{container}/wait HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n".encode())
        sock.close()
    record(api.ping())


def test_clients_that_vanish_in_the_middle_of_a_request(kit, api, record):
    container = kit.create()
    for data in (
        b"GET /_pi",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\n{",
        f"PUT /containers/{container}/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Length: 1000000\r\n\r\nxxxx".encode(),
        b"POST /build HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"POST /images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    ):
        for _ in range(5):
            sock = kit.connect()
            sock.sendall(data)
            sock.close()
    record(api.ping())


def test_execs_whose_clients_vanish(kit, api, record):
    container = kit.sleeper()
    for _ in range(20):
        identifier = api.exec_create(container, ["cat"], stdin=True)["Id"]
        sock = kit.connect()
        sock.sendall(post(f"/exec/{identifier}/start", {"Detach": False}, HIJACK))
        read_until(sock, b"\r\n\r\n")
        sock.sendall(b"some input\n")
        sock.close()
    # The end of their input ends them.
    wait_for(lambda: not [each for each in api.inspect_container(container)["ExecIDs"] or [] if api.exec_inspect(each)["Running"]])
    record("all ended")
