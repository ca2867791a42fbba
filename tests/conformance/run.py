"""Runs each client twice, once directly against an engine and once through Overside, and compares.

    python3 tests/conformance/run.py [--prepare] [--only docker_py,dockerode,…] [-k NAME] [--keep]

Both engines are environments of Overside's agent, so that they have the same version and the same isolation. The direct one
is reached by its own socket, which the kernel shows to root as /proc/PID/root/run/docker.sock of dockerd: no proxy, no
tunnel, and no daemon once it runs. Its clients have a network of their own, with a loopback interface only: both engines
choose the same ports for containers, and on one loopback the two sides would meet. It needs `overside` and `overside-agent` in OVERSIDE_BIN_DIR, and root.

Variables: OVERSIDE_BIN_DIR; OVERSIDE_CONFORMANCE_CACHE, where the Python environment and npm's packages are made;
OVERSIDE_TEST_MODERN_DOCKER, a directory with a newer docker and its plugins; OVERSIDE_CONFORMANCE_BOLLARD, the program of
tests/conformance/bollard (`cargo xtask test` has them).
"""

import argparse
import collections
import ctypes
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

from normal import normal

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "docs" / "conformance.md"

CLIENTS = {
    "docker_py": "docker-py",
    "odd": "raw sockets, odd on purpose",
    "cli": "docker CLI and Compose",
    "testcontainers_py": "Testcontainers for Python",
    "dockerode": "dockerode (Node)",
    "testcontainers_node": "Testcontainers for Node",
    "devcontainers": "Dev Containers CLI",
    "bollard": "bollard (Rust)",
}

# Clients in Node with their files; the others are directories of pytest.
NODE = {
    "dockerode": ["dockerode.test.js"],
    "testcontainers_node": ["testcontainers.test.js", "ryuk.test.js"],
    "devcontainers": ["devcontainers.test.js"],
}


def cache():
    place = os.environ.get("OVERSIDE_CONFORMANCE_CACHE")
    if place:
        return pathlib.Path(place)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base) / "overside"


def fresh(directory, source, make):
    """Makes a directory anew when what it is made of has changed."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    stamp = directory / ".made-of"
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(directory, ignore_errors=True)
    make()
    stamp.write_text(digest)


def prepare(clients):
    """Installs the clients below the cache directory. Returns the Python to use."""
    venv = cache() / "conformance-venv"
    python = venv / "bin" / "python"

    def make_venv():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
        subprocess.run([*install, HERE / "requirements.txt"], check=True)

    fresh(venv, HERE / "requirements.txt", make_venv)
    if set(clients) & set(NODE) and shutil.which("npm"):
        modules = cache() / "conformance-node"

        def make_modules():
            modules.mkdir(parents=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / "node" / name, modules)
            subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=modules, check=True)

        fresh(modules, HERE / "node" / "package-lock.json", make_modules)
    if shutil.which("gcc"):
        ryuk, source = cache() / "conformance-ryuk", HERE / "ryuk" / "ryuk.c"

        def make_ryuk():
            ryuk.mkdir(parents=True)
            subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-static", "-o", ryuk / "ryuk", source], check=True)

        fresh(ryuk, source, make_ryuk)
    return python


def node():
    """The Node that npm installed with the clients: they want a newer one than the machine may have."""
    found = sorted((cache() / "conformance-node" / "node_modules").glob("node-linux-*/bin/node"))
    return str(found[0]) if found else shutil.which("node")


class Home:
    """An Overside of its own, with one environment that runs; left alone, only the environment."""

    def __init__(self, place, name, programs, left_alone=False):
        self.place = place / name
        (self.place / "docker").mkdir(parents=True)
        (self.place / "user").mkdir()
        (self.place / "overside").mkdir(mode=0o700)
        settings = {"idle-timeout": "1h", "grace-period": "1h", "size.memory": "4GiB"}
        (self.place / "overside" / "settings.json").write_text(json.dumps(settings))
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place / "user"),
            "LANG": "C.UTF-8",
            "OVERSIDE_HOME": str(self.place / "overside"),
            "DOCKER_CONFIG": str(self.place / "docker"),
        }
        self.socket = str(self.place / "overside" / "docker.sock")
        self.log = open(self.place / "daemon.log", "wb")
        self.agent = None
        overside = programs / "overside"
        self.daemon = subprocess.Popen(
            [overside, "daemon"], env=self.variables, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        try:
            wait_for(lambda: answers(self.place / "overside" / "control.sock"), "the daemon")
            subprocess.run(
                [overside, "start"], env=self.variables, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            # Lists of networks need an engine: this makes one.
            ask(self.socket, "/networks")
            self.agent = wait_for(lambda: descendant("overside-agent", home=str(self.place)), "the agent")
            self.engine = wait_for(lambda: descendant("dockerd", ancestor=self.agent), "dockerd")
            if left_alone:
                # Its daemon would bring published ports to the laptop, where they would be taken for the other side.
                self.daemon.kill()
                self.daemon.wait()
        except BaseException:
            self.end()
            print((self.place / "daemon.log").read_text(errors="replace"), file=sys.stderr)
            raise
        self.engine_socket = f"/proc/{self.engine}/root/run/docker.sock"

    def end(self):
        if self.daemon.poll() is not None and self.agent:
            os.kill(self.agent, signal.SIGTERM)
            wait_for(lambda: not os.path.exists(f"/proc/{self.agent}"), "the end of the agent")
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(30)
        except subprocess.TimeoutExpired:
            print("the daemon did not end when asked to", file=sys.stderr)
            self.daemon.kill()
            self.daemon.wait()
        self.log.close()


def answers(path):
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
        return True
    except OSError:
        return False


def wait_for(look, what, limit=60):
    deadline = time.monotonic() + limit
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not there after {limit} s")
        time.sleep(0.05)
    return found


def descendant(name, ancestor=None, home=None):
    """A process by its program's name, below another one or with a directory in its variables."""
    parents, found = {}, []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            comm, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
            parents[int(entry.name)] = int(rest.split()[1])
            if comm == name and (home is None or home.encode() in (entry / "environ").read_bytes()):
                found.append(int(entry.name))
        except OSError:
            continue
    for pid in found:
        above = pid
        while above > 1 and above != ancestor:
            above = parents.get(above, 0)
        if ancestor is None or above == ancestor:
            return pid
    return None


def ask(path, target):
    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", target)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{target}: {answer.status} {body!r}")
    return json.loads(body)


def suites(clients, python, options):
    """The commands of one run: Python's clients are one pytest, each file of Node's another program."""
    places = [name for name in clients if name not in NODE and name != "bollard"]
    if places:
        command = [str(python), "-m", "pytest", "--rootdir", str(HERE), "-c", str(HERE / "pytest.ini")]
        command += ["-k", options.filter] if options.filter else []
        yield "python", command + [str(HERE / name) for name in places]
    for file in [file for name in clients if name in NODE and node() for file in NODE[name]]:
        command = [node(), "--test", "--test-force-exit", "--test-reporter=spec"]
        # Titles are sentences here; pytest's filter knows them as names of functions.
        command += ["--test-name-pattern", re.escape(options.filter.replace("_", " "))] if options.filter else []
        yield "node", [*command, str(HERE / "node" / file)]
    if "bollard" in clients:
        yield "bollard", [os.environ["OVERSIDE_CONFORMANCE_BOLLARD"], (options.filter or "").replace("_", " ")]


def run_side(place, side, path, commands, home, python):
    """Starts all clients of one side, one after the other, in the background."""
    script = " ; ".join(" ".join(quoted(part) for part in command) for _, command in commands)
    shell = ["sh", "-c", script]
    if side == "direct":
        shell = ["unshare", "--net", "sh", "-c", f"ip link set lo up && {{ {script} ; }}"]
    variables = dict(os.environ)
    variables |= {
        "CONFORMANCE_SOCKET": path,
        "CONFORMANCE_SIDE": side,
        "CONFORMANCE_ENGINE_PID": str(home.engine),
        "CONFORMANCE_HOME": str(home.place),
        "CONFORMANCE_RECORD": str(place / f"{side}-python.json"),
        "CONFORMANCE_NODE_RECORD": str(place / f"{side}-node.jsonl"),
        "CONFORMANCE_BOLLARD_RECORD": str(place / f"{side}-bollard.jsonl"),
        "CONFORMANCE_PYTHON": str(python),
        "CONFORMANCE_RYUK": str(cache() / "conformance-ryuk" / "ryuk"),
        "NODE_PATH": str(cache() / "conformance-node" / "node_modules"),
        "TMPDIR": str(place),
        "HOME": str(place / "home"),
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    variables.pop("DOCKER_HOST", None)
    (place / "home").mkdir(exist_ok=True)
    output = open(place / f"{side}.log", "wb")
    process = subprocess.Popen(
        shell, env=variables, cwd=HERE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    output.close()
    process.started = time.monotonic()
    return process


# What the agent has in stock at most: 16 sockets are made when there are fewer than 16.
STOCK = 31
PIDFD_GETFD = 438


def is_in_stock(pidfd, number):
    """Whether a process's descriptor is a TCP socket that was never used: neither bound nor connected."""
    copy = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, number, 0)
    if copy < 0:
        return False
    try:
        its = socket.socket(fileno=copy)
    except OSError:
        # No socket.
        os.close(copy)
        return False
    with its:
        is_tcp = (its.family, its.type & 0xF) == (socket.AF_INET, socket.SOCK_STREAM)
        return is_tcp and its.getsockname() == ("0.0.0.0", 0)


def descriptors(pid):
    """How many a process has open, without the agent's stock of sockets, which is no larger than it is to be."""
    pidfd = os.pidfd_open(pid)
    try:
        numbers = [int(number) for number in os.listdir(f"/proc/{pid}/fd")]
        stock = sum(is_in_stock(pidfd, number) for number in numbers)
    finally:
        os.close(pidfd)
    return len(numbers) - min(stock, STOCK)


def held(home):
    """What the daemon and the agent hold: open file descriptors of both, and the daemon's tasks, one for each channel."""
    counts = {f"{name}'s descriptors": descriptors(pid) for name, pid in (("daemon", home.daemon.pid), ("agent", home.agent))}
    counts["daemon's tasks"] = ask(str(home.place / "overside" / "control.sock"), "/v1/runtime")["tasks"]
    return counts


def leak_row(before, home):
    """All clients are gone: nothing of them may be left. Channels are opened ahead and may come and go: a few are allowed for."""
    back = lambda: all(count <= before[name] + 4 for name, count in held(home).items())
    deadline = time.monotonic() + 20
    while not back() and time.monotonic() < deadline:
        time.sleep(0.2)
    fault = "" if back() else f"before the clients came {before}, after they went {held(home)}"
    passed = ABSENT | {"outcome": "passed", "why": ""}
    ended = passed | {"outcome": "failed", "why": fault} if fault else passed
    return ("odd/odd", "descriptors, tasks and channels are back where they were when all clients are gone"), passed, ended, fault


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def call(text):
    """A call with its query in one order: bollard takes names and filters out of tables without any."""
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    words = []
    for name, value in urllib.parse.parse_qsl(query):
        words.append(f"{name}={json.dumps(json.loads(value), sort_keys=True)}" if value[:1] == "{" else f"{name}={value}")
    return normal(f"{method} {urllib.parse.unquote(path)} {' '.join(sorted(words))}".rstrip())


def results(place, side):
    found = []
    python = place / f"{side}-python.json"
    if python.exists():
        found += json.loads(python.read_text())
    node = place / f"{side}-node.jsonl"
    if node.exists():
        found += [json.loads(line) for line in node.read_text().splitlines()]
    bollard = place / f"{side}-bollard.jsonl"
    if bollard.exists():
        # It records what it saw; what differs by nature is made equal here, as the Python clients do it.
        seen = [json.loads(line) for line in bollard.read_text().splitlines()]
        alike = lambda row: {"values": normal(row["values"]), "calls": sorted({call(text) for text in row["calls"]})}
        found += [row | alike(row) for row in seen]
    return {(result["group"], result["title"]): result for result in found}


ABSENT = {"outcome": "absent", "values": [], "calls": [], "why": "did not run", "seconds": 0}


def differences(direct, through):
    """In words; empty if both are the same, or differ as they are meant to."""
    if direct.get("by_design") and direct["outcome"] == through["outcome"]:
        return ""
    if direct["outcome"] != through["outcome"]:
        return f"directly {direct['outcome']} {direct['why']}, through Overside {through['outcome']} {through['why']}"
    if direct["values"] != through["values"]:
        pairs = [pair for pair in zip(direct["values"], through["values"]) if pair[0] != pair[1]]
        pairs = pairs or [(direct["values"], through["values"])]
        return f"directly {shown(pairs[0][0])}, through Overside {shown(pairs[0][1])}"
    if direct["calls"] != through["calls"]:
        only = sorted(set(direct["calls"]) - set(through["calls"]))
        other = sorted(set(through["calls"]) - set(direct["calls"]))
        return f"directly {shown(only)}, through Overside {shown(other)}"
    return ""


def shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 1500 else text[:1500] + "…"


def compare(direct, through):
    rows = []
    for key in list(direct) + [key for key in through if key not in direct]:
        left, right = direct.get(key, ABSENT), through.get(key, ABSENT)
        rows.append((key, left, right, differences(left, right)))
    return rows


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]


def client_of(key):
    return key[0].split("/")[0]


def summary(rows):
    counts = collections.OrderedDict()
    for key, left, right, difference in rows:
        count = counts.setdefault(client_of(key), collections.Counter())
        count["tests"] += 1
        count["same"] += verdict(left, difference) == "yes"
        count["direct"] += left["outcome"] == "passed"
        count["through"] += right["outcome"] == "passed"
        count["calls"] += len(left["calls"])
        count["left"] += left["seconds"]
        count["right"] += right["seconds"]
    return counts


def verdict(direct, difference):
    if difference:
        return "no"
    return f"by design: {direct['by_design']}" if direct.get("by_design") else "yes"


def document(rows, engine):
    counts = summary(rows)
    lines = [
        "# Conformance",
        "",
        "Each client ran twice, once directly against an engine and once through Overside, with engines of the same version",
        "in the same isolation. Compared are the outcome, what the test saw (ids, times, sizes, addresses made equal), and,",
        "for docker-py, method, path, status and headers of every call. Rows that are not the same say why, and the run fails if",
        "they differ in another way than they are meant to. Made by `cargo xtask test conformance`.",
        "",
        f"Engine: {engine['Version']}, API {engine['ApiVersion']}.",
        "",
    ]
    lines += table(
        ["client", "tests", "the same", "passed directly", "passed through Overside"],
        [
            [CLIENTS[name], count["tests"], count["same"], count["direct"], count["through"]]
            for name, count in counts.items()
        ],
    )
    groups = collections.OrderedDict()
    for row in rows:
        groups.setdefault(row[0][0], []).append(row)
    for group, members in groups.items():
        lines += ["", f"## {group.replace('_', ' ').replace('/', ': ')}", ""]
        lines += table(
            ["test", "directly", "through Overside", "the same"],
            [
                [key[1], left["outcome"], right["outcome"], verdict(left, difference)]
                for key, left, right, difference in members
            ],
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepare", action="store_true", help="only install the clients")
    parser.add_argument("--only", default=",".join(CLIENTS), help="clients, separated by commas")
    parser.add_argument("-k", dest="filter", help="only tests with this in their names; writes no document")
    parser.add_argument("--keep", action="store_true", help="keep the directory with logs and records")
    options = parser.parse_args()
    clients = [name for name in options.only.split(",") if name]
    unknown = set(clients) - set(CLIENTS)
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    python = prepare(clients)
    if options.prepare:
        return 0
    if "bollard" in clients and not os.environ.get("OVERSIDE_CONFORMANCE_BOLLARD"):
        print("bollard is left out: OVERSIDE_CONFORMANCE_BOLLARD names no program (`cargo xtask test` builds it)")
        clients.remove("bollard")
    programs = pathlib.Path(os.environ["OVERSIDE_BIN_DIR"])
    # A run that is ended from outside tidies up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = pathlib.Path(tempfile.mkdtemp(prefix="c"))
    homes, sides = [], {}
    try:
        for name in ("d", "o"):
            homes.append(Home(place, name, programs, left_alone=name == "d"))
        ours, far = homes[1], homes[0]
        engine = ask(ours.socket, "/version")
        commands = list(suites(clients, python, options))
        before = held(ours)
        sides["direct"] = run_side(place, "direct", far.engine_socket, commands, far, python)
        sides["overside"] = run_side(place, "overside", ours.socket, commands, ours, python)
        durations = {}
        for side, process in sides.items():
            process.wait(1500)
            durations[side] = time.monotonic() - process.started
        rows = compare(results(place, "direct"), results(place, "overside"))
        if rows:
            rows.append(leak_row(before, ours))
    finally:
        for process in sides.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for home in homes:
            home.end()
        if not options.keep:
            logs = [(side, (place / f"{side}.log").read_text(errors="replace")) for side in sides]
            shutil.rmtree(place, ignore_errors=True)
    faults = [row for row in rows if row[3]]
    failing = [row for row in rows if not row[3] and row[1]["outcome"] == "failed"]
    for key, left, _, _ in failing:
        print(f"fails on both sides: {key[0]}: {key[1]}: {left['why']}")
    for key, _, _, difference in faults:
        print(f"DIFFERENT: {key[0]}: {key[1]}\n    {difference}")
    counts = summary(rows)
    print()
    header = ["client", "tests", "the same", "passed directly", "passed through Overside", "calls recorded", "seconds"]
    for line in table(
        header,
        [
            [CLIENTS[name], c["tests"], c["same"], c["direct"], c["through"], c["calls"], f"{c['left']:.1f} / {c['right']:.1f}"]
            for name, c in counts.items()
        ],
    ):
        print(line)
    if options.keep:
        print(f"logs and records: {place}")
    elif not rows:
        for side, log in logs:
            print(f"{side}:\n{log}")
    whole = not options.filter and set(clients) == set(CLIENTS)
    if whole and rows:
        DOCUMENT.write_text(document(rows, engine), encoding="utf-8")
    skipped = sum(row[1]["outcome"] == "skipped" and not row[3] for row in rows)
    print(f"{durations['direct']:.1f} s directly, {durations['overside']:.1f} s through Overside, side by side")
    failed = len(faults) + len(failing) + (not rows)
    print(f"{len(rows) - len(faults) - len(failing) - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
