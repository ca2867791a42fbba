// Made from crates/model by tests/desktop/tests/types.rs: BLESS=1 cargo test -p overside-desktop-tests --test types

/**
 * The state of the session as users see it.
 */
export type State = "stopped" | "idle" | "starting" | "running" | "suspended" | "stopping" | "failed";

/**
 * Everything that `status --format json`, the window and the tray show.
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
error: Problem | null, };

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
 * A published port on the laptop.
 */
export type PortStatus = { 
/**
 * Address and port on the laptop.
 */
address: string, 
/**
 * The container that publishes it.
 */
container: string, };

/**
 * A bind mount.
 */
export type MountStatus = { 
/**
 * The directory on the laptop.
 */
path: string, };

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
hint: string, };

/**
 * Why something failed, for programs: shells match on this, never on text. A code is added when a consumer needs it.
 */
export type ErrorCode = "stopped" | "invalid-settings" | "socket-path" | "already-running" | "daemon-unreachable" | "agent-missing" | "agent-incompatible" | "engine-missing" | "runner-unsuitable" | "disk-full" | "runner-unreachable" | "engine-failed" | "host-key-mismatch" | "login-refused" | "tunnel-lost" | "environment-lost" | "start-timed-out" | "request-refused" | "cancelled" | "unknown-name" | "internal";
