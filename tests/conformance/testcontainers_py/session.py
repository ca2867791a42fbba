"""A session of Testcontainers in a process of its own: makes a container and a network, says so, and stays."""

import json
import sys

from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.labels import SESSION_ID
from testcontainers.core.network import Network

network = Network().create()
container = DockerContainer(sys.argv[1]).with_command(["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"])
container.with_network(network).start()
made = {
    "session": SESSION_ID,
    "reaper": Reaper._container.get_wrapped_container().id,
    "container": container.get_wrapped_container().id,
    "network": network.id,
}
print(json.dumps(made), flush=True)
sys.stdin.read()
