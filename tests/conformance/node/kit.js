// What all clients in Node share: a test that is compared, an image made without a registry, and short words.

const fs = require("node:fs");
const path = require("node:path");
const { spawn } = require("node:child_process");
const { PassThrough } = require("node:stream");
const { test, before, after } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");
const Docker = require("dockerode");

const socketPath = process.env.CONFORMANCE_SOCKET;
const side = process.env.CONFORMANCE_SIDE;
const docker = new Docker({ socketPath });
const IMAGE = "conformance:node";

const APPLETS = `awk cat chmod chown cp cut date dirname echo env expr false find free getent grep head hostname httpd id kill
ln ls mkdir mktemp mv nc netstat ps printf pwd readlink realpath rm sed seq sh sha256sum sleep sort stat stty tail tar test
touch tr true uname wc wget which whoami xargs`.split(/\s+/);

/** A ustar archive of [name, content, mode, link, owner]. */
function archive(entries) {
  const blocks = [];
  for (const [name, content = Buffer.alloc(0), mode = 0o644, link, owner = 0] of entries) {
    const data = Buffer.from(content);
    const header = Buffer.alloc(512);
    header.write(name, 0);
    header.write(mode.toString(8).padStart(7, "0") + "\0", 100);
    for (const at of [108, 116]) header.write(owner.toString(8).padStart(7, "0") + "\0", at);
    header.write(data.length.toString(8).padStart(11, "0") + "\0", 124);
    header.write("00000000000\0", 136);
    header.write("        ", 148);
    header.write(link ? "2" : name.endsWith("/") ? "5" : "0", 156);
    if (link) header.write(link, 157);
    header.write("ustar\0" + "00", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(sum.toString(8).padStart(6, "0") + "\0 ", 148);
    blocks.push(header, data, Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/** A root directory with busybox and its usual names. */
function root(...more) {
  const busybox = ["/bin/busybox", "/usr/bin/busybox"].find((each) => fs.existsSync(each));
  return archive([
    ["bin/", "", 0o755],
    ["bin/busybox", fs.readFileSync(busybox), 0o755],
    ...APPLETS.map((name) => [`bin/${name}`, "", 0o777, "busybox"]),
    ["etc/", "", 0o755],
    ["etc/passwd", "root:x:0:0::/root:/bin/sh\nguest:x:1000:1000::/home/guest:/bin/sh\n"],
    ["etc/group", "root:x:0:\nguest:x:1000:\n"],
    ["root/", "", 0o700],
    ["home/", "", 0o755],
    ["home/guest/", "", 0o755, undefined, 1000],
    ["tmp/", "", 0o1777],
    ...more,
  ]);
}

async function imported(reference, data, changes = []) {
  const [repo, tag] = reference.split(":");
  await followed(await docker.importImage(PassThrough.from([data]), { repo, tag, changes }));
}

const PATTERNS = [
  [/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?/g, "<time>"],
  [/sha256:[0-9a-f]{64}/g, "<digest>"],
  [/\b[0-9a-f]{64}\b/g, "<id>"],
  [/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, "<uuid>"],
  [/\b[0-9a-f]{12}\b/g, "<short-id>"],
  [/\b(?!0\.)(\d{1,3}\.){3}\d{1,3}\b/g, "<address>"],
  [/\/proc\/\d+\/root/g, ""],
];

/** The same for both engines if they did the same. */
function normal(value) {
  const text = JSON.stringify(value ?? null);
  return JSON.parse(PATTERNS.reduce((changed, [pattern, word]) => changed.replace(pattern, word), text));
}

/** Tests of one group, as functions of a title and the work. */
function group(name) {
  const written = (title, begun, row) => {
    if (!process.env.CONFORMANCE_NODE_RECORD) return;
    const seconds = (Date.now() - begun) / 1000;
    const whole = { group: name, title, why: "", values: [], calls: [], seconds, ...row };
    fs.appendFileSync(process.env.CONFORMANCE_NODE_RECORD, JSON.stringify(whole) + "\n");
  };

  /** A test whose records are compared. `limit` in seconds. */
  const check = (title, work, limit = 50) => {
    test(title, { timeout: (limit + 10) * 1000 }, async () => {
      const values = [];
      const begun = Date.now();
      const undoing = [];
      const kit = {
        record: (value) => values.push(normal(value)),
        /** Work for the end of the test, the last first, whether it passes or fails. */
        later: (work) => undoing.unshift(work),
        create: async (command, options = {}) => {
          const container = await docker.createContainer({ Image: IMAGE, Cmd: ["sh", "-c", command], ...options });
          kit.later(() => container.remove({ force: true, v: true }));
          return container;
        },
      };
      let failure = null;
      // It also keeps Node alive: Testcontainers lets go of the socket of a container's log, so that a test that waits for
      // nothing else would be over before the log has come.
      const limited = new AbortController();
      try {
        await Promise.race([
          work(kit),
          sleep(limit * 1000, null, limited).then(() => Promise.reject(new Error("it took too long"))),
        ]);
      } catch (error) {
        failure = error;
      }
      limited.abort();
      for (const undo of undoing) await Promise.resolve().then(undo).catch(() => {});
      const why = failure ? normal(String(failure.message).split("\n")[0]) : "";
      written(title, begun, { outcome: failure ? "failed" : "passed", why, values });
      if (failure) throw failure;
    });
  };

  /** A test that cannot be made here, with the reason. */
  check.skip = (title, why) =>
    test(title, (context) => {
      written(title, Date.now(), { outcome: "skipped", why });
      context.skip(why);
    });
  return check;
}

const collected = (stream) =>
  new Promise((resolve, reject) => {
    const parts = [];
    stream.on("data", (part) => parts.push(Buffer.from(part)));
    stream.on("end", () => resolve(Buffer.concat(parts)));
    stream.on("error", reject);
  });

/** Resolves with all that came when a stream has said something that matches. */
const said = (stream, pattern) =>
  new Promise((resolve, reject) => {
    let text = "";
    stream.on("data", (part) => pattern.test((text += part)) && resolve(text));
    stream.on("end", () => reject(new Error(`ended without ${pattern}: ${text}`)));
    stream.on("error", reject);
  });

const followed = (stream) =>
  new Promise((resolve, reject) =>
    docker.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines))),
  );

/** Looks again and again, for what no event tells. */
async function until(look, what, limit = 20) {
  for (const end = Date.now() + limit * 1000; Date.now() < end; await sleep(50)) {
    const found = await look();
    if (found) return found;
  }
  throw new Error(`${what}: not within ${limit} s`);
}

/** With a filter that no test of a file passes, its hooks before are not called, but those after. */
const removed = (reference) => docker.getImage(reference).remove({ force: true }).catch((error) => {
  if (error.statusCode !== 404) throw error;
});

/** The image for all tests of a file, gone behind them. */
function withImage() {
  before(() => imported(IMAGE, root()));
  after(() => removed(IMAGE));
}

/** Published ports at the address that this returns: Overside brings them here itself, for the other side see ports.py. */
function withPorts() {
  if (side !== "direct") {
    return "localhost";
  }
  const address = "127.0.0.1";
  process.env.TESTCONTAINERS_HOST_OVERRIDE = address;
  let carrier;
  before(async () => {
    const program = path.join(__dirname, "..", "ports.py");
    const stdio = ["pipe", "pipe", "inherit"];
    carrier = spawn(process.env.CONFORMANCE_PYTHON, [program, socketPath], { stdio });
    await said(carrier.stdout, /watching/);
  });
  after(() => carrier?.kill());
  return address;
}

/** A directory for one file's tests, gone behind them. */
function withDirectory(name) {
  const place = fs.mkdtempSync(path.join(process.env.TMPDIR, `${name}-${side}-`));
  after(() => fs.rmSync(place, { recursive: true, force: true }));
  return place;
}

module.exports = {
  IMAGE, archive, collected, docker, followed, group, imported, normal, removed, root, said, side, socketPath, until, withDirectory,
  withImage, withPorts,
};
