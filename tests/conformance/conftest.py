"""What all Python clients share: one engine's socket, an image made without a registry, and a record of what was seen.

A test passes or fails by itself, as everywhere. Beyond that it calls `record(value)` with what it saw; `run.py` runs every
test against two engines and compares outcome and record. Calls of docker-py are recorded by themselves: method, path,
status and headers.
"""

import json
import os
import threading
import time
import urllib.parse

import docker
import pytest

from kit import BASE, Kit, base_archive
from normal import normal

SOCKET = os.environ.get("CONFORMANCE_SOCKET", "")
RECORD = os.environ.get("CONFORMANCE_RECORD")

# Headers that differ from one answer to the next by nature. How an answer is framed belongs to the connection.
VOLATILE_HEADERS = {"date", "content-length", "transfer-encoding", "x-docker-container-path-stat"}

results = {}


class Record:
    """What one test saw. Calls may come from several threads, and in any order and number: they are kept as a set."""

    def __init__(self):
        self.values = []
        self.calls = set()
        self.reason = ""
        self.lock = threading.Lock()

    def by_design(self, reason):
        """Both sides may differ here; the reason is told with the result."""
        self.reason = reason

    def __call__(self, value):
        with self.lock:
            self.values.append(normal(value))

    def heard(self, response, *_args, **_kwargs):
        headers = {
            name.lower(): value for name, value in response.headers.items() if name.lower() not in VOLATILE_HEADERS
        }
        request = response.request
        call = {
            "call": f"{request.method} {urllib.parse.unquote(request.path_url)}",
            "status": response.status_code,
            "headers": headers,
        }
        with self.lock:
            self.calls.add(json.dumps(normal(call), sort_keys=True))


@pytest.fixture(scope="session")
def plain():
    """A client whose calls are not recorded, for preparing and tidying."""
    client = docker.APIClient(base_url=f"unix://{SOCKET}", version="auto", timeout=60)
    client.import_image_from_data(base_archive(), repository=BASE.split(":")[0], tag=BASE.split(":")[1])
    yield client
    client.close()


@pytest.fixture
def record(request):
    record = Record()
    request.node.stash[KEY] = record
    return record


KEY = pytest.StashKey()


@pytest.fixture
def api(record, plain):
    client = docker.APIClient(base_url=f"unix://{SOCKET}", version="auto", timeout=60)
    client.hooks["response"].append(record.heard)
    yield client
    client.close()


@pytest.fixture
def kit(api, record):
    kit = Kit(api, record, SOCKET)
    yield kit
    kit.close()


@pytest.fixture
def socket_path():
    return SOCKET


@pytest.fixture(autouse=True)
def tidy(plain):
    yield
    for container in plain.containers(all=True):
        try:
            plain.remove_container(container["Id"], force=True, v=True)
        except docker.errors.APIError:
            # It is going away by itself: `--rm`.
            wait_until_gone(plain, container["Id"])
    for network in plain.networks():
        if network["Name"] not in ("bridge", "host", "none"):
            plain.remove_network(network["Id"])
    for volume in plain.volumes()["Volumes"] or []:
        plain.remove_volume(volume["Name"], force=True)
    for image in plain.images():
        if BASE in (image["RepoTags"] or []):
            for tag in image["RepoTags"]:
                if tag != BASE:
                    plain.remove_image(tag, force=True)
            continue
        try:
            plain.remove_image(image["Id"], force=True)
        except docker.errors.APIError as error:
            if error.status_code not in (404, 409):
                raise


def wait_until_gone(plain, identifier):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if all(container["Id"] != identifier for container in plain.containers(all=True)):
            return
        time.sleep(0.05)
    raise TimeoutError(f"container {identifier} does not go away")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or report.outcome != "passed":
        record = item.stash.get(KEY, None)
        previous = results.get(item.nodeid)
        if previous and previous["outcome"] != "passed":
            return report
        results[item.nodeid] = {
            "group": item.path.parent.name + "/" + item.path.stem.removeprefix("test_"),
            "title": title(item),
            "outcome": report.outcome,
            "why": normal(report.longrepr.reprcrash.message.splitlines()[0])
            if report.failed and getattr(report.longrepr, "reprcrash", None)
            else (str(report.longrepr)[:300] if report.failed else ""),
            "values": record.values if record else [],
            "calls": sorted(record.calls) if record else [],
            "by_design": record.reason if record else "",
            "seconds": round(report.duration, 3),
        }
    return report


def title(item):
    name, bracket, case = item.name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({case[:-1]})" if bracket else "")


def pytest_sessionfinish(session, exitstatus):
    if RECORD:
        with open(RECORD, "w", encoding="utf-8") as file:
            json.dump(list(results.values()), file)
