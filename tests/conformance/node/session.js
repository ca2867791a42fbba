// A session of Testcontainers in a process of its own, for tests of what is left when it ends. It makes a network with a
// container and a volume, says so, and ends without tidying up when something comes on its standard input.

const Docker = require("dockerode");
const { GenericContainer, Network, getContainerRuntimeClient, getReaper } = require("testcontainers");
const { LABEL_TESTCONTAINERS_SESSION_ID } = require("testcontainers");

const image = process.argv[2];

async function main() {
  const command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"];
  const network = await new Network().start();
  const container = await new GenericContainer(image).withCommand(command).withNetwork(network).start();
  const reaper = await getReaper(await getContainerRuntimeClient());
  const labels = { [LABEL_TESTCONTAINERS_SESSION_ID]: reaper.sessionId };
  const docker = new Docker({ socketPath: process.env.CONFORMANCE_SOCKET });
  const volume = await docker.createVolume({ Name: `of-${reaper.sessionId}`, Labels: labels });
  const told = { session: reaper.sessionId, reaper: reaper.containerId, container: container.getId(), network: network.getId() };
  console.log(JSON.stringify({ ...told, volume: volume.name }));
  process.stdin.once("data", () => process.exit(0));
}

main();
