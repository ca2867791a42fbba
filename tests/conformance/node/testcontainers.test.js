// Testcontainers for Node. Published ports of the direct engine are carried by the suite; ryuk.test.js has Ryuk.

const fs = require("node:fs");
const path = require("node:path");
const { PassThrough } = require("node:stream");
const { IMAGE, archive, collected, docker, group, said, socketPath, withDirectory, withImage, withPorts } = require("./kit");

const check = group("testcontainers_node/testcontainers");
const place = withDirectory("testcontainers");
const address = withPorts();
withImage();

// Read when the library is loaded, or at its first call. Its lock lies in the temporary directory: one for each side.
Object.assign(process.env, { DOCKER_HOST: `unix://${socketPath}`, TMPDIR: place, TESTCONTAINERS_RYUK_DISABLED: "true" });
const { DockerComposeEnvironment, GenericContainer, Network, PullPolicy, Wait } = require("testcontainers");

const STAYS = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
const PAGE = `mkdir -p /www; echo a page > /www/page; httpd -p 8080 -h /www; ${STAYS}`;

const shell = (script) => new GenericContainer(IMAGE).withCommand(["sh", "-c", script]);

/** Starts it, and sees to its end. */
async function started(container, later) {
  const running = await container.start();
  later(() => running.stop());
  return running;
}

/** What a start failed with. */
const refused = (starting) =>
  starting.then(
    () => Promise.reject(new Error("it started")),
    (error) => error.message,
  );

check("a container is awaited by a line of its log", async ({ record, later }) => {
  const script = `sleep 0.3; echo one; echo it is ready; ${STAYS}`;
  const container = await started(shell(script).withWaitStrategy(Wait.forLogMessage("it is ready")), later);
  record(await said(await container.logs(), /ready\n/));
});

check("a container is awaited by the third match in its log", async ({ record, later }) => {
  const script = `for i in 1 2 3; do sleep 0.1; echo try $i; done; ${STAYS}`;
  const container = await started(shell(script).withWaitStrategy(Wait.forLogMessage(/try \d/, 3)), later);
  record(await said(await container.logs({ tail: 1 }), /\n/));
});

check("a container is awaited by its health", async ({ record, later }) => {
  const healthy = { test: ["CMD-SHELL", "test -e /healthy"], interval: 200, timeout: 2000, retries: 50 };
  const container = shell(`sleep 0.5; touch /healthy; ${STAYS}`).withHealthCheck(healthy);
  const running = await started(container.withWaitStrategy(Wait.forHealthCheck()), later);
  record((await docker.getContainer(running.getId()).inspect()).State.Health.Status);
});

check("an unhealthy container fails the start", async ({ record }) => {
  const sick = { test: ["CMD", "false"], interval: 100, timeout: 1000, retries: 2 };
  const container = shell(STAYS).withHealthCheck(sick).withWaitStrategy(Wait.forHealthCheck());
  record(await refused(container.start()));
});

check("a container is awaited by a command in it", async ({ record, later }) => {
  const container = shell(`sleep 0.5; touch /there; ${STAYS}`).withWaitStrategy(Wait.forSuccessfulCommand("test -e /there"));
  const running = await started(container, later);
  record((await running.exec(["ls", "/there"])).output);
});

check("a container that runs once is awaited by its end", async ({ record, later }) => {
  const container = await started(shell("echo done").withWaitStrategy(Wait.forOneShotStartup()), later);
  record((await collected(await container.logs())).toString());
});

check("a container that fails is told when it should have run once", async ({ record }) => {
  const container = shell("exit 3").withWaitStrategy(Wait.forOneShotStartup());
  record(await refused(container.start()));
});

check("a start that takes too long is told", async ({ record }) => {
  const container = shell(STAYS).withWaitStrategy(Wait.forLogMessage("never")).withStartupTimeout(500);
  record(await refused(container.start()));
  // Logs of a container that never speaks were followed until here; it is gone with its streams.
  record((await docker.listContainers({ all: true })).length);
});

check("a random port is awaited and reached", async ({ record, later }) => {
  const container = shell(PAGE).withExposedPorts(8080).withWaitStrategy(Wait.forListeningPorts());
  const running = await started(container, later);
  const port = running.getMappedPort(8080);
  const page = await fetch(`http://${running.getHost()}:${port}/page`, { headers: { connection: "close" } });
  record([running.getHost() === address, port > 1024, running.getFirstMappedPort() === port, page.status, await page.text()]);
});

check("two containers publish the same port at random ones", async ({ record, later }) => {
  const make = () => shell(PAGE).withExposedPorts(8080, 8081).withWaitStrategy(Wait.forHttp("/page", 8080)).start();
  const both = await Promise.all([make(), make()]);
  both.forEach((each) => later(() => each.stop()));
  const ports = both.flatMap((each) => [each.getMappedPort(8080), each.getMappedPort(8081)]);
  record(new Set(ports).size);
  // The other one answers at its own port.
  for (const each of both) await each.exec(["sh", "-c", `echo ${each === both[0] ? "first" : "second"} > /www/page`]);
  for (const each of both) {
    const page = await fetch(`http://${each.getHost()}:${each.getMappedPort(8080)}/page`, { headers: { connection: "close" } });
    record(await page.text());
  }
});

check("HTTP is awaited: status and body", async ({ record, later }) => {
  const states = "sleep 0.5; echo not yet > /www/state; sleep 0.5; echo up > /www/state";
  const script = `mkdir /www; httpd -p 8080 -h /www; ${states}; ${STAYS}`;
  const strategy = Wait.forHttp("/state", 8080).forStatusCode(200).forResponsePredicate((body) => body === "up\n");
  const container = await started(shell(script).withExposedPorts(8080).withWaitStrategy(strategy), later);
  record((await container.exec(["cat", "/www/state"])).output);
});

check("containers meet in a network by alias", async ({ record, later }) => {
  const network = await new Network().start();
  later(() => network.stop());
  const server = shell(PAGE).withNetwork(network).withNetworkAliases("far", "other");
  await started(server.withWaitStrategy(Wait.forSuccessfulCommand("test -e /www/page")), later);
  const client = await started(shell(STAYS).withNetwork(network), later);
  for (const alias of ["far", "other"]) {
    // The static busybox resolves no names in wget, but in nc.
    const request = `printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | nc ${alias} 8080 | tail -n 1`;
    record(await client.exec(["sh", "-c", `for i in 1 2 3 4 5 6 7 8 9; do ${request} | grep page && break; sleep 0.2; done`]));
  }
  const name = network.getName();
  record([client.getNetworkNames().length, client.getIpAddress(name), client.getNetworkId(name) === network.getId()]);
});

check("a log consumer hears both streams until the end", async ({ record, later }) => {
  let whole;
  const container = shell("echo out; echo err >&2; seq 3").withLogConsumer((stream) => (whole = collected(stream)));
  await started(container.withWaitStrategy(Wait.forOneShotStartup()), later);
  // Between the two streams there is no order.
  record((await whole).toString().split("\n").sort());
});

check("exec tells code, both streams apart, and takes a user, a directory and variables", async ({ record, later }) => {
  const container = await started(shell(STAYS), later);
  // In `output` both streams come as they may.
  const { exitCode, stdout, stderr } = await container.exec(["sh", "-c", "echo inside; echo aside >&2; exit 3"]);
  record([exitCode, stdout, stderr]);
  const options = { user: "guest", workingDir: "/etc", env: { WORD: "given" } };
  record(await container.exec(["sh", "-c", "id -un; pwd; echo $WORD"], options));
  record(await container.exec("no-such-program"));
});

check("twenty commands at once in one container", async ({ record, later }) => {
  const container = await started(shell(STAYS), later);
  const numbers = Array.from({ length: 20 }, (_, index) => index);
  record((await Promise.all(numbers.map((each) => container.exec(["echo", `${each}`])))).map((each) => each.output));
});

check("files, directories and contents are copied before the start", async ({ record, later }) => {
  fs.mkdirSync(path.join(place, "tree", "below"), { recursive: true });
  fs.writeFileSync(path.join(place, "tree", "below", "leaf"), "a leaf\n");
  fs.writeFileSync(path.join(place, "file"), "a file\n");
  const container = shell(`cat /put/content /put/file /put/tree/below/leaf /put/archived; stat -c %a /put/content; ${STAYS}`)
    .withCopyContentToContainer([{ content: "a content\n", target: "/put/content", mode: 0o640 }])
    .withCopyFilesToContainer([{ source: path.join(place, "file"), target: "/put/file" }])
    .withCopyDirectoriesToContainer([{ source: path.join(place, "tree"), target: "/put/tree" }])
    .withCopyArchivesToContainer([{ tar: PassThrough.from([archive([["archived", "archived\n"]])]), target: "/put" }])
    .withWaitStrategy(Wait.forLogMessage(/^640/m));
  record(await said(await (await started(container, later)).logs(), /640\n/));
});

check("contents go into a running container, and an archive comes out", async ({ record, later }) => {
  const container = await started(shell(STAYS), later);
  await container.copyContentToContainer([{ content: "live\n", target: "/tmp/live" }]);
  await container.copyArchiveToContainer(PassThrough.from([archive([["in-archive", "second\n"]])]), "/tmp");
  record((await container.exec(["cat", "/tmp/live", "/tmp/in-archive"])).output);
  const data = await collected(await container.copyArchiveFromContainer("/tmp/live"));
  record([data.subarray(0, 4).toString(), data.subarray(512, 517).toString()]);
});

check("eight megabytes go in and come out the same", async ({ record, later }) => {
  const container = await started(shell(STAYS), later);
  const content = Buffer.alloc(8 << 20, "0123456789abcdef");
  await container.copyContentToContainer([{ content, target: "/tmp/large" }]);
  record((await container.exec(["sha256sum", "/tmp/large"])).output);
  const data = await collected(await container.copyArchiveFromContainer("/tmp/large"));
  record(data.subarray(512, 512 + content.length).equals(content));
});

for (const kind of ["classic", "BuildKit"]) {
  check(`an image is built from a Dockerfile and run: ${kind}`, async ({ record, later }) => {
    const context = path.join(place, kind);
    fs.mkdirSync(context);
    fs.writeFileSync(path.join(context, ".dockerignore"), "left-out\n");
    fs.writeFileSync(path.join(context, "left-out"), "");
    fs.writeFileSync(path.join(context, "file"), "in the context\n");
    const steps = [`FROM ${IMAGE}`, "ARG COLOUR", "COPY . /context/", "RUN echo $COLOUR > /colour"];
    const last = "CMD ls /context; cat /context/file /colour; echo end; sleep 100";
    fs.writeFileSync(path.join(context, "Dockerfile"), [...steps, last].join("\n"));
    const build = GenericContainer.fromDockerfile(context).withBuildArgs({ COLOUR: "green" });
    const name = `testcontainers-${kind.toLowerCase()}:1`;
    const image = await (kind === "BuildKit" ? build.withBuildkit() : build).build(name, { deleteOnExit: false });
    later(() => docker.getImage(name).remove({ force: true }));
    const container = await started(image.withWaitStrategy(Wait.forLogMessage(/^end/m)), later);
    record(await said(await container.logs(), /end\n/));
  });
}

check("an image is committed from a container", async ({ record, later }) => {
  const container = await started(shell(STAYS), later);
  await container.exec(["sh", "-c", "echo changed > /changed"]);
  const name = "testcontainers-committed:1";
  record(await container.commit({ repo: "testcontainers-committed", tag: "1", deleteOnExit: false }));
  later(() => docker.getImage(name).remove({ force: true }));
  const again = new GenericContainer(name).withPullPolicy(PullPolicy.neverPull()).withCommand(["cat", "/changed"]);
  const read = await started(again.withWaitStrategy(Wait.forOneShotStartup()), later);
  record((await collected(await read.logs())).toString());
});

check("options reach the container", async ({ record, later }) => {
  const container = shell(`echo $WORD; id -un; pwd; hostname; df /scratch | tail -n 1 | cut -d' ' -f1; ${STAYS}`)
    .withName("testcontainers-named").withEnvironment({ WORD: "given" }).withUser("guest").withWorkingDir("/etc")
    .withHostname("named-host").withTmpFs({ "/scratch": "rw,size=1m" }).withLabels({ "kept.label": "yes" })
    .withResourcesQuota({ memory: 0.125, cpu: 0.5 }).withExtraHosts([{ host: "elsewhere", ipAddress: "127.0.0.9" }])
    .withUlimits({ nofile: { hard: 200, soft: 100 } }).withDroppedCapabilities("CHOWN").withSharedMemorySize(1 << 20);
  const running = await started(container.withWaitStrategy(Wait.forLogMessage("tmpfs")), later);
  record([running.getName(), running.getLabels()["kept.label"], await said(await running.logs(), /tmpfs\n/)]);
  const { HostConfig } = await docker.getContainer(running.getId()).inspect();
  const { Memory, NanoCpus, ExtraHosts, Ulimits, CapDrop, ShmSize } = HostConfig;
  record({ Memory, NanoCpus, ExtraHosts, Ulimits, CapDrop, ShmSize });
});

check("a container is restarted, and stopped but kept", async ({ record, later }) => {
  // After a restart the library reads the log since the time that the engine gives for the start; it must not come before.
  const script = `sleep 0.5; echo started; ${STAYS}`;
  const container = await started(shell(script).withAutoRemove(false).withWaitStrategy(Wait.forLogMessage("started")), later);
  const inspected = () => docker.getContainer(container.getId()).inspect();
  await container.restart({ timeout: 5 });
  record((await docker.getContainer(container.getId()).logs({ stdout: true })).toString("latin1").match(/started/g));
  await container.stop({ timeout: 5000 });
  record([(await inspected()).State.Status, (await inspected()).State.ExitCode]);
  await docker.getContainer(container.getId()).remove({ v: true });
});

check("a container is reused", async ({ record, later }) => {
  const make = () => shell(STAYS).withName("testcontainers-reused").withReuse().start();
  const first = await make();
  later(() => first.stop());
  record((await make()).getId() === first.getId());
});

check("an image that is nowhere is told without asking a registry", async ({ record }) => {
  const container = new GenericContainer("nothing-of-this-name:1").withPullPolicy(PullPolicy.neverPull());
  record(await refused(container.start()));
});

const MODERN = process.env.OVERSIDE_TEST_MODERN_DOCKER;
const compose = "a Compose environment comes up, is awaited by service, and goes down";
if (!MODERN) check.skip(compose, "no newer Docker at hand");
else {
  check(compose, async ({ record }) => {
    // The library calls `docker compose` as it finds it.
    Object.assign(process.env, { PATH: `${MODERN}/bin:${process.env.PATH}`, DOCKER_CONFIG: path.join(MODERN, "config") });
    const stays = JSON.stringify(["sh", "-c", `echo served; ${STAYS.replaceAll("$", "$$$$")}`]);
    const service = `{ image: "${IMAGE}", command: ${stays}, environment: { WORD: "$WORD" } }`;
    fs.writeFileSync(path.join(place, "compose.yaml"), `services:\n  web: ${service}\n  db: ${service}\n`);
    const environment = await new DockerComposeEnvironment(place, "compose.yaml")
      .withProjectName("testcontainers-shop")
      .withEnvironment({ WORD: "given" })
      .withWaitStrategy("web-1", Wait.forLogMessage("served"))
      .up();
    try {
      record(await environment.getContainer("web-1").exec(["sh", "-c", "echo $WORD"]));
      record((await docker.listContainers()).map((each) => each.Names).sort());
    } finally {
      await environment.down();
    }
    record((await docker.listContainers({ all: true })).length);
  });
}

check("nothing is left behind", async ({ record }) => {
  record((await docker.listContainers({ all: true })).map((each) => each.Image));
  record((await docker.listNetworks()).map((each) => each.Name).sort());
  record((await docker.listVolumes()).Volumes.length);
});
