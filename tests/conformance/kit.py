"""Short words for what most tests do."""

import io
import os
import socket
import struct
import subprocess
import tarfile
import time

import docker

BASE = "conformance:base"

APPLETS = """cat cp cut date dd df du echo env expr false find free grep head hostname id ip kill ls mkdir mount mv nc nproc
od ping printf ps pwd rm rmdir sed seq sh sha256sum sleep sort stat stty tail tar tee test touch tr true tty umount uname wc
wget yes""".split()


def busybox():
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path):
            with open(path, "rb") as file:
                return file.read()
    raise FileNotFoundError("busybox-static is not installed")


def archive(entries):
    """A tar archive: path → bytes, or ("link", target), or ("directory",), or (bytes, mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in entries.items():
            info = tarfile.TarInfo(path)
            mode = 0o644
            if isinstance(content, tuple) and content[0] == "link":
                info.type, info.linkname = tarfile.SYMTYPE, content[1]
                tar.addfile(info)
                continue
            if isinstance(content, tuple) and content[0] == "directory":
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            if isinstance(content, tuple):
                content, mode = content
            if isinstance(content, str):
                content = content.encode()
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def base_archive(more=None):
    entries = {"bin": ("directory",), "bin/busybox": (busybox(), 0o755)}
    entries |= {f"bin/{name}": ("link", "busybox") for name in APPLETS}
    entries |= {"etc": ("directory",), "etc/passwd": "root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n"}
    entries |= {"etc/group": "root:x:0:\nguest:x:1000:\n", "tmp": ("directory",), "root": ("directory",)}
    return archive(entries | (more or {}))


def unpack(data):
    """path → content of each file of a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            member.name: tar.extractfile(member).read() if member.isfile() else member.type.decode("latin-1")
            for member in tar.getmembers()
        }


def frames(data):
    """The frames of a multiplexed stream: (stream, bytes)."""
    found, at = [], 0
    while at < len(data):
        stream, length = struct.unpack_from(">BxxxL", data, at)
        found.append((stream, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


def joined(data):
    """Standard output and standard error of a multiplexed stream, however it was cut."""
    parts = {1: [], 2: []}
    for stream, part in frames(data):
        parts.setdefault(stream, []).append(part)
    return {stream: b"".join(pieces) for stream, pieces in parts.items()}


def raw(sock):
    """The real socket below docker-py's wrappings."""
    while hasattr(sock, "_sock"):
        sock = sock._sock
    sock.settimeout(30)
    return sock


def read_all(sock):
    data = bytearray()
    while part := sock.recv(65536):
        data += part
    return bytes(data)


def read_until(sock, end):
    data = bytearray()
    while end not in data:
        part = sock.recv(65536)
        if not part:
            raise EOFError(f"ended before {end!r}: {bytes(data)[-500:]!r}")
        data += part
    return bytes(data)


def wait_for(what, limit=20):
    deadline = time.monotonic() + limit
    while not (value := what()):
        if time.monotonic() > deadline:
            raise TimeoutError("it did not become true")
        time.sleep(0.02)
    return value


class Kit:
    def __init__(self, api, record, socket_path):
        self.api, self.record, self.socket_path = api, record, socket_path
        self.sockets = []

    def create(self, command="true", image=BASE, **options):
        host = {key: options.pop(key) for key in list(options) if key in HOST_OPTIONS}
        if host:
            options["host_config"] = self.api.create_host_config(**host)
        return self.api.create_container(image, command, **options)["Id"]

    def run(self, command="true", **options):
        container = self.create(command, **options)
        self.api.start(container)
        return container

    def shell(self, script, **options):
        return self.run(["sh", "-c", script], **options)

    def finished(self, script, **options):
        container = self.shell(script, **options)
        self.api.wait(container)
        return container

    def sleeper(self, **options):
        """Runs until it is stopped, and ends at once then."""
        return self.shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done", **options)

    def told(self, call, *arguments, **options):
        """What came of it, whether it was accepted or refused."""
        try:
            self.record(["accepted", call(*arguments, **options)])
        except docker.errors.APIError as error:
            self.record([error.status_code, error.explanation])

    def refused(self, call, *arguments, **options):
        """The engine's own words of an error: status and message."""
        told = self.refusal(call, *arguments, **options)
        self.record(told)
        return told

    @staticmethod
    def refusal(call, *arguments, **options):
        try:
            call(*arguments, **options)
        except docker.errors.APIError as error:
            return (error.status_code, error.explanation)
        raise AssertionError("the engine accepted what it should refuse")

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(self.socket_path)
        self.sockets.append(sock)
        return sock

    def close(self):
        for sock in self.sockets:
            sock.close()


HOST_OPTIONS = {
    "auto_remove", "binds", "cap_add", "cap_drop", "cgroup_parent", "dns", "extra_hosts", "init", "ipc_mode", "links",
    "log_config", "mem_limit", "mounts", "nano_cpus", "network_mode", "oom_score_adj", "pid_mode", "pids_limit",
    "port_bindings", "privileged", "publish_all_ports", "read_only", "restart_policy", "security_opt", "shm_size",
    "sysctls", "tmpfs", "ulimits", "volumes_from", "cpu_shares", "memswap_limit", "userns_mode", "uts_mode",
}


def machine_free_environment(**more):
    """Variables of a command-line client that sees nothing of the developer's."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    return kept | more


def command(arguments, environment, **options):
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    return subprocess.run(arguments, env=environment, capture_output=True, timeout=90, **options)
