// Made from crates/model by tests/desktop/tests/types.rs: BLESS=1 cargo test -p overside-desktop-tests --test types

/**
 * The state of the session as users see it.
 */
export type State = "stopped" | "idle" | "starting" | "running" | "suspended" | "stopping" | "failed";

/**
 * Everything that `status --format json`, the window and the tray show. A member that is added has a default: a shell
 * understands a daemon that is older than itself.
 */
export type Status = { 
/**
 * The state.
 */
state: State, 
/**
 * The runner's name.
 */
runner: string, 
/**
 * The Docker socket's path.
 */
socket: string, 
/**
 * The session under way.
 */
session: SessionStatus | null, 
/**
 * The start's progress while Starting.
 */
progress: Progress | null, 
/**
 * What keeps the session awake.
 */
awake_because: Array<AwakeReason>, 
/**
 * Programs whose calls do not count.
 */
ignored_pollers: Array<IgnoredPoller>, 
/**
 * Seconds until Running becomes Suspended, while nothing keeps it awake.
 */
idle_in_seconds: number | null, 
/**
 * Seconds until Suspended becomes Stopping.
 */
grace_remaining_seconds: number | null, 
/**
 * The prompt that waits.
 */
prompt: Prompt | null, 
/**
 * Usage of the day.
 */
usage: Usage, 
/**
 * What is deleted with the environment when the grace period ends; known while Suspended.
 */
at_risk: Array<Work>, 
/**
 * Published ports.
 */
ports: Array<PortStatus>, 
/**
 * Bind mounts.
 */
mounts: Array<MountStatus>, 
/**
 * The last failure, until something succeeds.
 */
error: Problem | null, 
/**
 * No environment has ever run in this home: shells show how to begin.
 */
first_use: boolean, 
/**
 * What the settings say of the desktop app.
 */
desktop: DesktopSettings, 
/**
 * The daemon's version; empty where there is no daemon, and from one that is older than this member.
 */
version: string, };

/**
 * What the settings say of the desktop app, so that it follows them without asking.
 */
export type DesktopSettings = { 
/**
 * The language of tray and window.
 */
language: Language, 
/**
 * Show the desktop's notifications.
 */
notifications: boolean, 
/**
 * Start when the user logs in.
 */
start_at_login: boolean, };

/**
 * The language of the desktop app.
 */
export type Language = "en" | "zh-CN" | "system";

/**
 * The session that is under way.
 */
export type SessionStatus = { 
/**
 * The session's identifier.
 */
id: SessionId, 
/**
 * When provisioning began, RFC 3339 in UTC.
 */
started_at: string, 
/**
 * The environment, once it is there.
 */
environment: EnvironmentId | null, 
/**
 * Facts about the environment that a person may ask for: limits that were lowered, how the engine is isolated.
 */
notes: Array<string>, };

/**
 * One session: `s-` and ten characters.
 */
export type SessionId = string;

/**
 * One environment: `e-` and ten characters.
 */
export type EnvironmentId = string;

/**
 * How far a start has come.
 */
export type Progress = { 
/**
 * The step under way, as a stable word: `agent`, `namespaces`, `network`, `engine`, `connect`.
 */
step: string, 
/**
 * The step in words.
 */
detail: string, };

/**
 * Something that keeps the session awake.
 */
export type AwakeReason = { 
/**
 * `call`, `stream`, `container`, `build` or `connection`.
 */
kind: string, 
/**
 * What it is: a container's name, a call's method and path.
 */
detail: string, };

/**
 * A program whose calls do not count.
 */
export type IgnoredPoller = { 
/**
 * The program's name.
 */
program: string, 
/**
 * Ignored calls in this session.
 */
calls: number, };

/**
 * A prompt that waits for its answer.
 */
export type Prompt = { 
/**
 * Why it is shown.
 */
reason: PromptReason, 
/**
 * Seconds until the session goes idle without an answer.
 */
answer_within_seconds: number, };

/**
 * Why a prompt is shown.
 */
export type PromptReason = "inactivity" | "long-session";

/**
 * What kind of work is in an environment.
 */
export type WorkKind = "running-container" | "container" | "volume" | "image";

/**
 * Something in the environment that is deleted with it.
 */
export type Work = { 
/**
 * What it is.
 */
kind: WorkKind, 
/**
 * Its name; an image's with its tag.
 */
name: string, 
/**
 * The archive on the laptop that has it as well.
 */
kept_in: string | null, };

/**
 * Usage of the day.
 */
export type Usage = { 
/**
 * Seconds used since local midnight.
 */
today_seconds: number, 
/**
 * The day's limit in seconds.
 */
limit_seconds: number, };

/**
 * Usage of today, this week and this month, by local days.
 */
export type UsageReport = { 
/**
 * The zone whose midnights divide the days: an IANA name, or an offset.
 */
zone: string, 
/**
 * When it was made, RFC 3339 in UTC.
 */
made_at: string, 
/**
 * The day's limit in seconds.
 */
limit_seconds: number, 
/**
 * Today.
 */
today: UsageSpan, 
/**
 * The ISO week of today.
 */
week: UsagePeriod, 
/**
 * The month of today.
 */
month: UsagePeriod, 
/**
 * What is wrong with the ledger: it was set aside, or cannot be written.
 */
problem: Problem | null, };

/**
 * A week or a month, in parts. Days to come are there, with nothing in them.
 */
export type UsagePeriod = { 
/**
 * All of it.
 */
total: UsageSpan, 
/**
 * Its days.
 */
days: Array<UsageSpan>, 
/**
 * Its ISO weeks, as far as they belong to it.
 */
weeks: Array<UsageSpan>, };

/**
 * Compute time of one day or several.
 */
export type UsageSpan = { 
/**
 * What it is called: a day as `2026-11-21`, a week as `2026-W47`, a month as `2026-11`.
 */
name: string, 
/**
 * Its first local day, `2026-11-21`.
 */
first: string, 
/**
 * Its last local day.
 */
last: string, 
/**
 * Whole seconds used.
 */
seconds: number, 
/**
 * What the part of it with a known price cost, in the price's currency; null where no price is known.
 */
cost: number | null, };

/**
 * Days in a row, for a chart. Days without use are there, with nothing in them.
 */
export type UsageDays = { 
/**
 * As in [`UsageReport`].
 */
zone: string, 
/**
 * The day's limit in seconds.
 */
limit_seconds: number, 
/**
 * The days, in order.
 */
days: Array<UsageDay>, 
/**
 * What is wrong with the ledger.
 */
problem: Problem | null, };

/**
 * What one local day came to.
 */
export type UsageDay = { 
/**
 * The day, `2026-11-21`.
 */
day: string, 
/**
 * Whole seconds used.
 */
seconds: number, 
/**
 * As in [`UsageSpan`].
 */
cost: number | null, };

/**
 * Which sessions are asked for; what is not said restricts nothing.
 */
export type SessionQuery = { 
/**
 * Those that went on at some time of this local day, `2026-11-21`, or later.
 */
from?: string, 
/**
 * Those that began on this local day or before.
 */
to?: string, 
/**
 * Those of one runner.
 */
runner?: string, 
/**
 * Those of one status.
 */
status?: string, 
/**
 * Those whose identifier, user, runner or images have this in them, in capitals or not.
 */
text?: string, 
/**
 * As many as this at most, the newest ones.
 */
limit?: number, };

/**
 * The sessions that were asked for.
 */
export type UsageSessions = { 
/**
 * The newest first; no more than the limit.
 */
sessions: Array<UsageSession>, 
/**
 * How many there are without the limit.
 */
matching: number, 
/**
 * Seconds in which all of those were active.
 */
seconds: number, 
/**
 * What they cost.
 */
cost: number | null, 
/**
 * Runners that any session had, to choose from.
 */
runners: Array<string>, 
/**
 * Statuses that any session has, to choose from.
 */
statuses: Array<string>, };

/**
 * One session, with what the CSV has.
 */
export type UsageSession = { 
/**
 * Its identifier.
 */
id: string, 
/**
 * Whose it was.
 */
user: string, 
/**
 * The runner's name.
 */
runner: string, 
/**
 * Images that its containers ran, in alphabetical order.
 */
images: Array<string>, 
/**
 * When provisioning began, RFC 3339 in UTC.
 */
started: string, 
/**
 * When it ended; null while it goes on.
 */
ended: string | null, 
/**
 * Whole seconds in which it was active.
 */
seconds: number, 
/**
 * `active` while it goes on, then why it ended: `idle`, `stopped`, `lost`, `start-timed-out` or `interrupted`.
 */
status: string, 
/**
 * Containers that it had.
 */
containers: number, 
/**
 * What it cost, in the price's currency; null without a price.
 */
cost: number | null, };

/**
 * A published port on the laptop.
 */
export type PortStatus = { 
/**
 * TCP or UDP.
 */
protocol: Protocol, 
/**
 * Address and port on the laptop.
 */
address: string, 
/**
 * The container that publishes it.
 */
container: string, 
/**
 * The container's own port.
 */
container_port: number, 
/**
 * Connections, or UDP flows, that are open.
 */
connections: number, 
/**
 * Bytes that went into the container since the port is there.
 */
bytes_in: number, 
/**
 * Bytes that came out of it.
 */
bytes_out: number, 
/**
 * Why nothing listens there, if nothing does.
 */
problem: string | null, };

/**
 * A transport protocol of published ports. SCTP, the engine's third, has no sockets on most laptops.
 */
export type Protocol = "tcp" | "udp";

/**
 * A file or directory of the laptop that containers have mounted.
 */
export type MountStatus = { 
/**
 * Its path on the laptop.
 */
path: string, 
/**
 * What it is at.
 */
state: MountState, 
/**
 * Changes go one way: containers may only read it, or the settings say so.
 */
read_only: boolean, 
/**
 * Files, directories and links on the laptop.
 */
files: number, 
/**
 * Bytes of files there.
 */
bytes: number, 
/**
 * Files that are on their way.
 */
left_files: number, 
/**
 * Bytes that are on their way.
 */
left_bytes: number, 
/**
 * Versions that were kept beside others, and are still there; paths in it.
 */
conflicts: Array<string>, 
/**
 * Files that cannot be brought, and why.
 */
problems: Array<string>, 
/**
 * Why it halts or failed.
 */
problem: Problem | null, };

/**
 * What a bind mount is at.
 */
export type MountState = "waiting" | "scanning" | "syncing" | "halted" | "failed" | "synced";

/**
 * What is to be done with a mount that halts because one side is gone or empty, or because it is larger than allowed.
 */
export type MountDecision = { 
/**
 * Its path on the laptop.
 */
path: string, 
/**
 * What is missing is brought back from the other side, and what is larger than allowed is brought all the same; otherwise
 * what is missing is deleted on the other side, too.
 */
restore: boolean, };

/**
 * A runner that settings can name.
 */
export type RunnerStatus = { 
/**
 * Its name in the settings.
 */
name: string, 
/**
 * Where its environments come from: `local`, `ssh`.
 */
provider: string, 
/**
 * Where it is, as it was given: `ssh://me@office`. None for this machine.
 */
address: string | null, 
/**
 * It is the one in use.
 */
selected: boolean, 
/**
 * It was added, and can be removed.
 */
removable: boolean, };

/**
 * What only a person can decide or knows on the way to a runner. Nothing is trusted and no secret is stored unasked.
 */
export type Question = { "question": "host-key" } & HostKey | { "question": "passphrase", 
/**
 * The key's file.
 */
key: string, };

/**
 * The key by which a host is known.
 */
export type HostKey = { 
/**
 * The host as known_hosts names it: `office`, `[office]:2222`.
 */
host: string, 
/**
 * Kind of key: `ssh-ed25519`.
 */
algorithm: string, 
/**
 * `SHA256:…`, as OpenSSH shows it.
 */
fingerprint: string, };

/**
 * A person's answer to a [`Question`].
 */
export type Answer = { "answer": "host-key" } & HostKey | { "answer": "passphrase", 
/**
 * The key's file, as the question named it.
 */
key: string, 
/**
 * The passphrase.
 */
passphrase: string, 
/**
 * Keep it in the system's keyring; else the daemon's memory holds it as long as it runs.
 */
remember: boolean, };

/**
 * One hop on the way from a Docker client to an engine.
 */
export type Hop = { 
/**
 * A stable word: `daemon`, `socket`, `context`, `settings`, `dns`, `tcp`, `jump`, `host-key`, `login`, `shell`,
 * `agent`, `runner`, `tunnel`, `engine`.
 */
name: string, 
/**
 * How it fared.
 */
status: HopStatus, 
/**
 * What was found, in words.
 */
detail: string, 
/**
 * What to do next, one sentence. Empty where there is nothing to do.
 */
hint: string, 
/**
 * Why it does not work, for shells that speak another language than `detail` and `hint`. Each failed hop has one; of the noted
 * ones those that have a problem.
 */
code: ErrorCode | null, 
/**
 * Milliseconds that it took; none where nothing was tried.
 */
took_ms: number | null, };

/**
 * How a hop fared.
 */
export type HopStatus = "passed" | "noted" | "failed" | "skipped";

/**
 * The way from a Docker client to an engine, hop by hop, and what the daemon said last.
 */
export type Diagnosis = { 
/**
 * The hops, in the order of the way.
 */
hops: Array<Hop>, 
/**
 * The last lines of the daemon's log, the oldest first.
 */
log: Array<LogLine>, 
/**
 * The file that the bundle was written to, where one was asked for.
 */
bundle: string | null, };

/**
 * One line of the daemon's log.
 */
export type LogLine = { 
/**
 * When, RFC 3339 in UTC.
 */
at: string, 
/**
 * `error`, `warn`, `info`, `debug` or `trace`.
 */
level: string, 
/**
 * What happened, with its details.
 */
message: string, };

/**
 * An error as a person meets it: what failed and where (`message`), and what to do next (`hint`).
 */
export type Problem = { 
/**
 * For programs.
 */
code: ErrorCode, 
/**
 * One sentence without a full stop: what failed, where.
 */
message: string, 
/**
 * One sentence: what to do next. Empty where there is nothing to do.
 */
hint: string, 
/**
 * The work that it is about, which `message` names as well: shells that speak another language than it say it anew.
 */
work?: Array<Work>, };

/**
 * Why something failed, for programs: shells match on this, never on text. A code is added when a consumer needs it.
 */
export type ErrorCode = "stopped" | "invalid-settings" | "socket-path" | "already-running" | "daemon-unreachable" | "agent-missing" | "agent-incompatible" | "engine-missing" | "runner-unsuitable" | "disk-full" | "runner-unreachable" | "host-key-unknown" | "host-key-changed" | "key-locked" | "keyring-unavailable" | "runner-refused" | "engine-failed" | "host-key-mismatch" | "login-refused" | "tunnel-lost" | "session-elsewhere" | "context-elsewhere" | "environment-lost" | "start-timed-out" | "port-unavailable" | "mount-failed" | "mount-too-large" | "files-left" | "request-refused" | "cancelled" | "suspended" | "fair-use" | "work-would-be-lost" | "keep-failed" | "policy" | "unknown-name" | "daemon-incompatible" | "internal" | "unknown";
