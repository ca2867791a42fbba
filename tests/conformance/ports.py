"""Carries published ports of the direct engine to its clients.

    python ports.py SOCKET

The direct engine has a network of its own, and its ports cannot be reached from here; Overside's are here. So each published
port of a container that starts there is listened on at 127.0.0.1, and a connection to it becomes an exec of `nc` in the
container. Writes a line when it has begun to watch.
"""

import contextlib
import json
import os
import socket
import sys
import threading

import docker


class Ports:
    def __init__(self, path):
        self.path = path
        self.api = docker.APIClient(base_url=f"unix://{path}", version="auto", timeout=None)
        self.listeners = {}

    def watch(self):
        events = self.api.events(decode=True, filters={"type": "container", "event": ["start", "die"]})
        print("watching", flush=True)
        for event in events:
            if event["Action"] == "start":
                self.opened(event["id"])
            else:
                for listener in self.listeners.pop(event["id"], []):
                    # Closing alone does not wake the thread that accepts.
                    listener.shutdown(socket.SHUT_RDWR)
                    listener.close()

    def opened(self, container):
        try:
            ports = self.api.inspect_container(container)["NetworkSettings"]["Ports"] or {}
        except docker.errors.NotFound:
            return
        for inner, bindings in ports.items():
            number, protocol = inner.split("/")
            for outer in {binding["HostPort"] for binding in bindings or []}:
                if protocol == "tcp":
                    listener = socket.create_server(("127.0.0.1", int(outer)))
                    self.listeners.setdefault(container, []).append(listener)
                    threading.Thread(target=self.accept, args=(listener, container, number), daemon=True).start()

    def accept(self, listener, container, number):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client, container, number), daemon=True).start()

    def carry(self, client, container, number):
        with client, socket.socket(socket.AF_UNIX) as engine:
            try:
                far = docker.APIClient(base_url=f"unix://{self.path}", version=self.api.api_version)
                exec_id = far.exec_create(container, ["nc", "127.0.0.1", number], stdin=True, stderr=False)["Id"]
                far.close()
                engine.connect(self.path)
                stream = begin(engine, exec_id)
                threading.Thread(target=inward, args=(client, engine), daemon=True).start()
                outward(stream, client)
            except (OSError, docker.errors.APIError):
                # The container or the client is gone; that is what the other one is told by the end of the connection.
                pass


def begin(engine, exec_id):
    """Starts the exec by hand: docker-py loses what comes in one piece with the headers."""
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    head = f"POST /exec/{exec_id}/start HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    engine.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    stream = engine.makefile("rb")
    status = stream.readline()
    if b" 101 " not in status:
        raise OSError(f"no exec: {status!r}")
    while stream.readline() != b"\r\n":
        pass
    return stream


def inward(client, engine):
    try:
        while data := client.recv(65536):
            engine.sendall(data)
    except OSError:
        # A client that goes without having read everything resets its connection. It has ended all the same.
        pass
    with contextlib.suppress(OSError):
        engine.shutdown(socket.SHUT_WR)


def outward(stream, client):
    """Unpacks the frames of the multiplexed stream."""
    while len(header := stream.read(8)) == 8:
        client.sendall(stream.read(int.from_bytes(header[4:], "big")))
    client.shutdown(socket.SHUT_RDWR)


def main():
    # It must not outlive who started it: its standard input is a pipe that ends with them.
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    Ports(sys.argv[1]).watch()


if __name__ == "__main__":
    main()
