// Dev Containers' command line, as editors call it. The workspace is a named volume: Overside refuses directories of the
// laptop for now. No features: they come from a registry.

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { execFile } = require("node:child_process");
const { IMAGE, docker, group, removed, socketPath, withDirectory, withImage } = require("./kit");

const check = group("devcontainers/devcontainers");
const place = withDirectory("devcontainers");
const MODERN = process.env.OVERSIDE_TEST_MODERN_DOCKER;
const cli = require.resolve("@devcontainers/cli/devcontainer.js");
withImage();

const variables = {
  PATH: `${MODERN}/bin:${process.env.PATH}`,
  HOME: place,
  TMPDIR: place,
  LANG: "C.UTF-8",
  DOCKER_HOST: `unix://${socketPath}`,
  DOCKER_CONFIG: path.join(place, "docker"),
  BUILDKIT_PROGRESS: "plain",
};

// What the command line would fetch from its makers at each call; it takes its copy as long as that is young.
const copies = path.join(place, `devcontainercli-${os.userInfo().username}`);
fs.mkdirSync(copies);
fs.writeFileSync(path.join(copies, "control-manifest.json"), "{}");
const tomorrow = new Date(Date.now() + 86_400_000);
fs.utimesSync(path.join(copies, "control-manifest.json"), tomorrow, tomorrow);

if (MODERN) {
  fs.mkdirSync(variables.DOCKER_CONFIG);
  fs.symlinkSync(path.join(MODERN, "config", "cli-plugins"), path.join(variables.DOCKER_CONFIG, "cli-plugins"));
}

/** Runs the command line. Its standard output is for programs, its standard error tells what it does. */
const run = (words, input = "") =>
  new Promise((resolve) => {
    const told = (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr });
    execFile(process.execPath, [cli, ...words], { env: variables, maxBuffer: 1 << 24 }, told).stdin.end(input);
  });

/** A project with its files, its workspace in a volume of its name, and the commands upon it. */
function project(name, configuration, later, files = {}) {
  const folder = path.join(place, name);
  const below = path.join(folder, ".devcontainer");
  fs.mkdirSync(below, { recursive: true });
  for (const [file, content] of Object.entries({ "devcontainer.json": JSON.stringify({ name, ...configuration }), ...files })) {
    fs.writeFileSync(path.join(below, file), content);
  }
  const where = ["--workspace-folder", folder, "--docker-path", path.join(MODERN, "bin", "docker")];
  later(() => docker.getVolume(name).remove());
  // Images that the command line made: of a Dockerfile, or with the remote user's number changed.
  later(async () => {
    const tags = (await docker.listImages()).flatMap((each) => each.RepoTags ?? []);
    for (const tag of tags.filter((each) => each.startsWith(`vsc-${name}-`))) await removed(tag);
  });
  const call = (word, ...more) => run([word, ...where, ...more]);
  /** What a command that makes something says at its end: one line of JSON. */
  const outcome = async (word, ...more) => {
    const told = await call(word, ...more);
    const last = told.stdout.trim().split("\n").at(-1);
    if (!last.startsWith("{")) throw new Error(`${word}: ${told.code}: ${JSON.stringify([told.stdout, told.stderr.slice(-1500)])}`);
    const made = JSON.parse(last);
    if (made.containerId) later(() => docker.getContainer(made.containerId).remove({ force: true, v: true }));
    return made;
  };
  return {
    call,
    outcome,
    /** Made and running, or the test fails. */
    up: async (...more) => {
      const made = await outcome("up", ...more);
      if (made.outcome !== "success") throw new Error(`up: ${JSON.stringify(made)}`);
      return made;
    },
    exec: async (command, input) => {
      const { code, stdout } = await run(["exec", ...where, ...command], input);
      return [code, stdout];
    },
  };
}

const volume = (name) => ({ workspaceMount: `type=volume,source=${name},target=/workspace`, workspaceFolder: "/workspace" });

if (!MODERN) check.skip("devcontainer up and exec", "no newer Docker at hand");
else {
  check("up makes a container of an image and runs its commands; exec is inside; up again finds it", async ({ record, later }) => {
    const configuration = {
      ...volume("dev-image"),
      image: IMAGE,
      containerEnv: { WORD: "given" },
      remoteEnv: { FURTHER: "${containerEnv:WORD} again" },
      onCreateCommand: { one: "touch /one", other: ["touch", "/other"] },
      postCreateCommand: "ls /one /other > made; id -un >> made",
      postStartCommand: ["sh", "-c", "echo started >> made"],
      postAttachCommand: "echo attached >> made",
      overrideCommand: true,
      customizations: { any: { thing: 1 } },
      runArgs: ["--hostname", "dev-host"],
    };
    const made = project("dev-image", configuration, later);
    const up = await made.up();
    record(up);
    record(await made.exec(["cat", "/workspace/made"]));
    record(await made.exec(["sh", "-c", "pwd; echo $WORD; echo $FURTHER; hostname; cat; exit 3"], "through\n"));
    record(await made.exec(["no-such-program"]));
    const again = await made.up();
    record([again.outcome, again.containerId === up.containerId]);
    record(await made.exec(["cat", "made"]));
    const read = await made.call("read-configuration", "--include-merged-configuration");
    const { configuration: own, mergedConfiguration: merged } = JSON.parse(read.stdout);
    record([read.code, own.workspaceFolder, merged.customizations, merged.containerEnv]);
  });

  check("up starts a container that was stopped, and makes another one when told to", async ({ record, later }) => {
    const commands = { postCreateCommand: "echo made >> log", postStartCommand: "echo started >> log" };
    const configuration = { ...volume("dev-stopped"), image: IMAGE, ...commands };
    const made = project("dev-stopped", configuration, later);
    const up = await made.up();
    await docker.getContainer(up.containerId).stop();
    const again = await made.up();
    record([again.containerId === up.containerId, await made.exec(["cat", "log"])]);
    const other = await made.up("--remove-existing-container");
    // The workspace is in the volume, so it outlives the container.
    record([other.containerId === up.containerId, await made.exec(["cat", "log"])]);
  });

  check("commands run as the remote user, in its own home", async ({ record, later }) => {
    const users = { remoteUser: "guest", containerUser: "root", postCreateCommand: "id -un > ~/who; echo $HOME >> ~/who" };
    const configuration = { ...volume("dev-user"), image: IMAGE, ...users };
    const made = project("dev-user", configuration, later);
    record((await made.up()).remoteUser);
    record(await made.exec(["sh", "-c", "cat ~/who; id -un; stat -c %U ~/who"]));
  });

  check("an image is built from a Dockerfile, with BuildKit", async ({ record, later }) => {
    const steps = [`FROM ${IMAGE} AS base`, "ARG COLOUR", "COPY file /file", "RUN echo $COLOUR > /colour", "FROM base AS other"];
    const build = { dockerfile: "Dockerfile", context: ".", args: { COLOUR: "green" }, target: "base" };
    const files = { Dockerfile: `${steps.join("\n")}\n`, file: "in the context\n" };
    const made = project("dev-built", { ...volume("dev-built"), build, postCreateCommand: "cat /file > made" }, later, files);
    await made.up();
    record(await made.exec(["cat", "/colour", "made"]));
    const image = await made.outcome("build", "--image-name", "dev-named:1");
    later(() => removed("dev-named:1"));
    record([image, Object.keys((await docker.getImage("dev-named:1").inspect()).Config.Labels ?? {})]);
  });

  check("a service of Compose is the container", async ({ record, later }) => {
    const stays = 'command: ["sh", "-c", "trap \'exit 0\' TERM; while :; do sleep 0.05; done"]';
    const services = [
      "name: dev-shop",
      "services:",
      `  work: { image: "${IMAGE}", volumes: ["code:/workspace"], depends_on: [db] }`,
      `  db: { image: "${IMAGE}", ${stays}, environment: { ROLE: database } }`,
      "volumes: { code: { name: dev-compose } }",
    ];
    const work = { service: "work", workspaceFolder: "/workspace", postCreateCommand: "echo made > made" };
    const configuration = { dockerComposeFile: "compose.yaml", ...work };
    const made = project("dev-compose", configuration, later, { "compose.yaml": services.join("\n") });
    later(async () => {
      for (const each of await docker.listContainers({ all: true })) await docker.getContainer(each.Id).remove({ force: true });
      await docker.getNetwork("dev-shop_default").remove();
    });
    const up = await made.up();
    record(up);
    record(await made.exec(["sh", "-c", "cat made; nc db 1 < /dev/null || echo nobody listens there"]));
    record((await docker.listContainers()).map((each) => each.Names).sort());
    record((await made.up()).containerId === up.containerId);
  });

  check("a command after creation that fails is told", async ({ record, later }) => {
    const made = project("dev-fails", { ...volume("dev-fails"), image: IMAGE, postCreateCommand: "exit 7" }, later);
    record(await made.outcome("up"));
  });

  check("nothing is left behind", async ({ record }) => {
    record((await docker.listContainers({ all: true })).map((each) => each.Image));
    record((await docker.listVolumes()).Volumes.map((each) => each.Name));
    record((await docker.listImages()).flatMap((each) => each.RepoTags).sort());
    record((await docker.listNetworks()).map((each) => each.Name).sort());
  });
}
