"""Replaces what differs between two engines by nature: ids, times, sizes, addresses, names of machines."""

import re

# Members whose value is a number or text of its own each time. Zero and empty stay: whether there is a value is compared.
VOLATILE = {
    "Created", "CreatedAt", "FinishedAt", "StartedAt", "LastUpdated", "time", "timeNano", "LastTagTime",
    "Size", "SizeRootFs", "SizeRw", "VirtualSize", "SharedSize", "LayersSize", "Pid", "aux",
    "SystemTime", "NFd", "NGoroutines", "NEventsListener", "MemTotal", "NCPU", "KernelVersion",
    "ID", "Name@info", "EngineID", "Labels@info", "BuildTime", "GitCommit", "KernelMemory",
}

PATTERNS = [
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d\d:?\d\d( [A-Z]+)?|Z)?"), "<time>"),
    (re.compile(r"sha256(:|%3A)[0-9a-f]{64}"), "<digest>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<short-id>"),
    (re.compile(r"\b(?=[a-z]*\d)[a-z0-9]{25}\b"), "<swarm-id>"),
    (re.compile(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "<mac>"),
    (re.compile(r"\b(?!127\.|0\.)(\d{1,3}\.){3}\d{1,3}\b"), "<address>"),
    (re.compile(r"\be-[a-z0-9]{10}\b"), "<engine>"),
    (re.compile(r"/proc/\d+/root"), ""),
    (re.compile(r"\b(since|until)=\d+(\.\d+)?"), r"\1=<time>"),
]


def text(value):
    for pattern, word in PATTERNS:
        value = pattern.sub(word, value)
    return value


def normal(value):
    """The same for both engines if they did the same."""
    if isinstance(value, bytes):
        return text(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {
            text(str(key)): ("<own>" if key in VOLATILE and item else normal(item)) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [normal(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(normal(item) for item in value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return text(repr(value))


def shape(value):
    """Members and types, without the values: for answers that tell of the moment, such as statistics."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
