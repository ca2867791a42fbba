// dockerode: its hijack sends the upgrade headers itself and reads the answer with Node's own parser.

const assert = require("node:assert");
const { PassThrough } = require("node:stream");
const { IMAGE, archive, collected, docker, followed, group, withImage } = require("./kit");

const check = group("dockerode/dockerode");
withImage();

/** Both streams of a multiplexed one. */
async function split(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on("end", () => [out, err].forEach((each) => each.end()));
  stream.on("close", () => [out, err].forEach((each) => each.end()));
  const [a, b] = await Promise.all([collected(out), collected(err)]);
  return [a.toString(), b.toString()];
}

check("ping, version and info", async ({ record }) => {
  record((await docker.ping()).toString());
  const { Version, ApiVersion, Os, Arch } = await docker.version();
  record([Version, ApiVersion, Os, Arch, Object.keys(await docker.info()).sort()]);
});

check("a container runs to its end and tells its code", async ({ create, record }) => {
  const container = await create("exit 7");
  await container.start();
  record(await container.wait());
});

check("docker.run streams the output", async ({ record }) => {
  const out = new PassThrough();
  const text = collected(out);
  const [result, container] = await docker.run(IMAGE, ["sh", "-c", "echo ran"], out);
  out.end();
  record([result, (await text).toString()]);
  await container.remove();
});

for (const hijack of [true, false]) {
  const way = hijack ? "with hijack" : "without hijack";
  check(`attach ${way}: output told apart`, async ({ create, record }) => {
    const container = await create("echo out; echo err >&2");
    const stream = await container.attach({ stream: true, stdout: true, stderr: true, hijack });
    const both = split(stream);
    await container.start();
    record(await both);
  });

  check(`exec ${way}: output told apart`, async ({ create, record }) => {
    const container = await create("sleep 100");
    await container.start();
    const exec = await container.exec({ Cmd: ["sh", "-c", "echo out; echo err >&2; exit 3"], AttachStdout: true, AttachStderr: true });
    record(await split(await exec.start({ hijack })));
    record((await exec.inspect()).ExitCode);
  });
}

check("attach with hijack: input ends with a half-close, output still comes", async ({ create, record }) => {
  const container = await create("cat; sleep 0.3; echo after", { OpenStdin: true, StdinOnce: true });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const both = split(stream);
  await container.start();
  stream.write("one\n");
  stream.end("two\n");
  record(await both);
});

check("exec with hijack: a megabyte in and out", async ({ create, record }) => {
  const container = await create("sleep 100");
  await container.start();
  const exec = await container.exec({ Cmd: ["cat"], AttachStdin: true, AttachStdout: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const both = split(stream);
  const data = "0123456789abcdef".repeat(65536);
  stream.end(data);
  const [out] = await both;
  assert.strictEqual(out, data);
  record((await exec.inspect()).ExitCode);
});

check("exec with a terminal is a dialogue", async ({ create, record }) => {
  const container = await create("sleep 100");
  await container.start();
  const exec = await container.exec({ Cmd: ["sh"], AttachStdin: true, AttachStdout: true, Tty: true });
  const stream = await exec.start({ hijack: true, stdin: true, Tty: true });
  const text = collected(stream);
  stream.write("echo ready-$((1+1))\n");
  await new Promise((resolve) => stream.on("data", (part) => part.includes("ready-2") && resolve()));
  await exec.resize({ h: 22, w: 88 });
  stream.write("stty size; exit 4\n");
  assert.match((await text).toString(), /22 88/);
  record((await exec.inspect()).ExitCode);
});

check("exec of a program that is not there", async ({ create, record }) => {
  const container = await create("sleep 100");
  await container.start();
  const exec = await container.exec({ Cmd: ["no-such-program"], AttachStdout: true, AttachStderr: true });
  record(await split(await exec.start({ hijack: true })));
  record((await exec.inspect()).ExitCode);
});

check("a detached exec", async ({ create, record }) => {
  const container = await create("sleep 100");
  await container.start();
  const exec = await container.exec({ Cmd: ["true"] });
  record((await collected(await exec.start({ Detach: true }))).toString());
});

check("logs, whole and followed", async ({ create, record }) => {
  const container = await create("seq 5; sleep 0.3; seq 6 10");
  await container.start();
  record(await split(await container.logs({ follow: true, stdout: true, stderr: true })));
  record((await container.logs({ stdout: true, tail: 2 })).toString("latin1"));
});

check("stats as a stream that is left", async ({ create, record }) => {
  const container = await create("sleep 100");
  await container.start();
  const stream = await container.stats({ stream: true });
  const first = await new Promise((resolve) => stream.once("data", resolve));
  stream.destroy();
  record(Object.keys(JSON.parse(first)).sort());
});

check("events", async ({ create, record }) => {
  const stream = await docker.getEvents({ filters: { type: ["container"], event: ["create"] } });
  const container = await create("true", { name: "node-told" });
  const event = JSON.parse(await new Promise((resolve) => stream.once("data", resolve)));
  stream.destroy();
  record([event.Action, event.Actor.Attributes.name, event.id === container.id]);
});

check("archives both ways", async ({ create, record }) => {
  const container = await create("cat /put");
  await container.putArchive(archive([["put", "content\n"]]), { path: "/" });
  const data = await collected(await container.getArchive({ path: "/put" }));
  record([data.subarray(0, 3).toString(), data.subarray(512, 519).toString()]);
  const stat = await container.infoArchive({ path: "/put" });
  record(stat.statusCode ?? "no status");
});

check("a build from a stream", async ({ record }) => {
  const context = archive([["Dockerfile", `FROM ${IMAGE}\nCOPY file /\nRUN cat /file\n`], ["file", "in the context\n"]]);
  const stream = await docker.buildImage(PassThrough.from([context.subarray(0, 100), context.subarray(100)]), { t: "node-built" });
  record((await followed(stream)).map((line) => line.stream).filter((line) => line && !line.includes("Running in") && !line.includes("Removing")));
  await docker.getImage("node-built").remove({ force: true });
});

check("a failing build tells why", async ({ record }) => {
  const context = archive([["Dockerfile", `FROM ${IMAGE}\nRUN exit 5\n`]]);
  const stream = await docker.buildImage(PassThrough.from([context]), { t: "node-failed", forcerm: true });
  await followed(stream).then(
    () => record("built"),
    (error) => record(String(error.message ?? error)),
  );
});

check("images: save, load, tag, history", async ({ record }) => {
  const image = docker.getImage(IMAGE);
  const data = await collected(await image.get());
  record(data.length > 100_000);
  record((await followed(await docker.loadImage(PassThrough.from([data])))).map((line) => line.stream));
  await image.tag({ repo: "node-tagged", tag: "1" });
  record((await docker.getImage("node-tagged:1").history()).length);
  record(await docker.getImage("node-tagged:1").remove());
});

check("networks and volumes", async ({ create, record }) => {
  const network = await docker.createNetwork({ Name: "node-net" });
  const container = await create("sleep 100");
  await container.start();
  await network.connect({ Container: container.id });
  record(Object.values((await network.inspect()).Containers).length);
  await network.disconnect({ Container: container.id });
  await network.remove();
  const volume = await docker.createVolume({ Name: "node-volume" });
  record((await docker.listVolumes()).Volumes.map((each) => each.Name));
  await volume.remove();
});

for (const [title, call] of [
  ["an unknown container", () => docker.getContainer("nobody").inspect()],
  ["an unknown image", () => docker.getImage("nothing").inspect()],
  ["an unknown network", () => docker.getNetwork("nowhere").inspect()],
  ["an unknown volume", () => docker.getVolume("nothing").inspect()],
  ["an attach to an unknown container", () => docker.getContainer("nobody").attach({ stream: true, hijack: true })],
  ["an exec in an unknown container", () => docker.getContainer("nobody").exec({ Cmd: ["true"] })],
]) {
  check(`${title} is told in the engine's words`, async ({ record }) => {
    await assert.rejects(call, (error) => {
      record([error.statusCode, error.reason, error.json]);
      return error.statusCode === 404;
    });
  });
}

check("forty calls at once", async ({ record }) => {
  record((await Promise.all(Array.from({ length: 40 }, () => docker.ping()))).map(String));
});
