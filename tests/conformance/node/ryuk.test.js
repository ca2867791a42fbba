// Testcontainers' Ryuk, which removes what a session left behind: a container with the Docker socket, and one connection to
// its port from each session. The image is a stand-in, see ryuk/ryuk.c; the direct engine's port is carried by the suite, see ports.py.

const fs = require("node:fs");
const path = require("node:path");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { before, after } = require("node:test");
const { IMAGE, docker, group, imported, removed, root, said, side, socketPath, until, withDirectory, withImage, withPorts } = require("./kit");

const check = group("testcontainers_node/ryuk");
const place = withDirectory("ryuk");
const program = process.env.CONFORMANCE_RYUK;
const present = fs.existsSync(program);
// As the library names it: only so it pulls nothing.
const RYUK = "testcontainers/ryuk:0.14.0";
withPorts();
withImage();

// The library finds a Ryuk that runs by the label, which is the image's.
const changes = ['CMD ["/ryuk"]', "LABEL org.testcontainers.ryuk=true"];

before(async () => {
  const entry = ["ryuk", present ? fs.readFileSync(program) : "", 0o755];
  await imported(RYUK, root(entry), changes);
});
after(() => removed(RYUK));

const variables = {
  ...process.env,
  DOCKER_HOST: `unix://${socketPath}`,
  TMPDIR: place,
  TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT: "500ms",
};
// The library mounts the socket that it uses itself into Ryuk. Overside makes the engine's of it; for the direct side that
// path is one of this machine, which the engine does not see.
if (side === "direct") variables.TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE = "/run/docker.sock";

/** Starts a session and resolves when it has made everything. */
async function session(later, more = {}) {
  const process = spawn(globalThis.process.execPath, [path.join(__dirname, "session.js"), IMAGE], {
    env: { ...variables, ...more },
    stdio: ["pipe", "pipe", "inherit"],
  });
  later(() => process.kill("SIGKILL"));
  const made = JSON.parse(await said(process.stdout, /\n/));
  // What is left when a test fails.
  later(() => docker.getContainer(made.reaper).remove({ force: true }));
  later(() => docker.getVolume(made.volume).remove({ force: true }));
  later(() => docker.getNetwork(made.network).remove({ force: true }));
  later(() => docker.getContainer(made.container).remove({ force: true, v: true }));
  return { process, made };
}

const found = (inspecting) =>
  inspecting.then(
    () => true,
    (error) => (error.statusCode === 404 ? false : Promise.reject(error)),
  );

/** Which of a session's things are there. */
async function there({ container, network, volume, reaper }) {
  const things = [docker.getContainer(container), docker.getNetwork(network), docker.getVolume(volume), docker.getContainer(reaper)];
  return Promise.all(things.map((each) => found(each.inspect())));
}

const gone = (made) =>
  until(async () => (await there(made)).every((each) => !each), "what the session made is gone").then(() => there(made));

if (!present) check.skip("Ryuk", "no gcc at hand to compile the stand-in");
else {
  check("Ryuk starts with the Docker socket and is told of the session", async ({ record, later }) => {
    const { process, made } = await session(later);
    const reaper = docker.getContainer(made.reaper);
    const { HostConfig, Config, Mounts, Name } = await reaper.inspect();
    record([HostConfig.AutoRemove, Config.Image, Mounts, Name, Object.keys(HostConfig.PortBindings)]);
    record(HostConfig.Binds);
    record(await said(await reaper.logs({ follow: true, stdout: true }), /filter .*\n/).then((text) => text.includes(made.session)));
    process.kill("SIGKILL");
    await gone(made);
  });

  for (const [title, end] of [
    ["a session that ends without tidying up", (process) => process.stdin.write("end\n")],
    ["a session that is killed", (process) => process.kill("SIGKILL")],
  ]) {
    check(`Ryuk removes what is left of ${title}: container, network, volume, itself, and nothing else`, async ({ record, create, later }) => {
      const other = await create("sleep 100", { Labels: { "org.testcontainers.session-id": "another" } });
      await other.start();
      const { process, made } = await session(later);
      record(await there(made));
      end(process);
      await once(process, "exit");
      record([await gone(made), (await other.inspect()).State.Status]);
    });
  }

  check("a second session joins, and both end before anything is removed", async ({ record, later }) => {
    const first = await session(later);
    const second = await session(later);
    record([first.made.reaper === second.made.reaper, first.made.session === second.made.session]);
    const reaper = docker.getContainer(first.made.reaper);
    first.process.kill("SIGKILL");
    await once(first.process, "exit");
    // Longer than the time in which a session may come back.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    record([await there(first.made), (await reaper.inspect()).State.Running]);
    second.process.kill("SIGKILL");
    record([await gone(first.made), await gone(second.made)]);
  });

  check("a privileged Ryuk", async ({ record, later }) => {
    const { process, made } = await session(later, { TESTCONTAINERS_RYUK_PRIVILEGED: "true" });
    record((await docker.getContainer(made.reaper).inspect()).HostConfig.Privileged);
    process.kill("SIGKILL");
    record(await gone(made));
  });
}
