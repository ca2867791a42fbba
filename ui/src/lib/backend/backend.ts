import type { Answer, Diagnosis, Hop, MountDecision, Problem, Question, RunnerStatus, SessionQuery, Status, UsageDays, UsageSessions, Work } from '../generated/model';

/**
 * The way to the daemon: not tried yet, answering, or gone.
 * The same words as `Link` in src-tauri/src/link.rs.
 */
export type Link =
  | { kind: 'connecting' }
  | { kind: 'here'; status: Status }
  | { kind: 'away'; problem: Problem };

/** One setting as the daemon tells it: the value and, in words, which values it accepts. */
export interface Setting {
  value: unknown;
  /** Where the value comes from. What is locked is the policy's, and final. */
  source: 'default' | 'user' | 'policy' | 'locked';
  /** What the organisation's policy says of it, in words. */
  rule: string | null;
  expected: string;
  purpose: string;
}

export type Settings = Record<string, Setting>;

/** What the page needs to know of the program that shows it. */
export interface Shell {
  /** The desktop's language as a BCP 47 tag, such as `zh-CN`. */
  language: string;
  /** The setting `language`, for the time until the daemon tells it. */
  chosen: string;
  /** The window is there for one question, and goes by itself once that is answered. */
  asks: boolean;
  /** The app's version, which the daemon's is compared with. */
  version: string;
}

/**
 * Everything that the page can ask for. The page holds no rules: the daemon decides, and what it refuses comes back as a
 * rejected promise that carries a {@link Problem}.
 */
export interface Backend {
  shell(): Promise<Shell>;
  /** Tells every change of the link, the present one first, until the page ends. */
  follow(listener: (link: Link) => void): Promise<void>;
  /** Starts the daemon. Resolves when it answers. */
  startDaemon(): Promise<void>;
  enable(): Promise<void>;
  /** @param force also when that deletes what still runs. */
  disable(force: boolean): Promise<void>;
  retry(): Promise<void>;
  settings(): Promise<Settings>;
  setSetting(name: string, value: unknown): Promise<void>;
  /** Has a mount go on that halts because one side is gone or empty. */
  decideMount(decision: MountDecision): Promise<void>;
  /** Suspends the environment. */
  idle(): Promise<void>;
  /** Resumes the suspended environment. */
  resume(): Promise<void>;
  /** Answers a prompt: ask me again later. */
  later(): Promise<void>;
  /** Saves everything that exists nowhere else to a new file among the user's documents; resolves to what it saved. */
  keep(): Promise<Work[]>;
  runners(): Promise<RunnerStatus[]>;
  /** Tries every hop on the way to a runner. */
  testRunner(name: string): Promise<Hop[]>;
  /** Tells which page the window is asked to show: null where that is the page's choice. Again whenever it is asked anew. */
  pages(listener: (page: string | null) => void): Promise<void>;
  /** What each of the last days came to, today included. */
  usageDays(days: number): Promise<UsageDays>;
  usageSessions(query: SessionQuery): Promise<UsageSessions>;
  /** Writes every session as CSV to a new file among the user's downloads; resolves to its path. */
  saveUsage(): Promise<string>;
  /**
   * Looks at every hop from docker to the engine, also without a daemon.
   * @param bundle also write a bundle among the user's downloads.
   */
  diagnose(bundle: boolean): Promise<Diagnosis>;
  /** Addresses that could be added, such as the hosts of the user's SSH configuration. */
  addresses(): Promise<string[]>;
  /** Adds a runner, without reaching out to it. */
  addRunner(name: string, address: string): Promise<void>;
  /** Resolves to why something of Overside's is left on it, if it is. */
  removeRunner(name: string): Promise<Problem | null>;
  /** What only a person can decide or know before a runner can be used. */
  runnerQuestion(name: string): Promise<Question | null>;
  answerRunner(name: string, answer: Answer): Promise<Problem | null>;
}

/** What a rejected promise of the backend's carries, whatever it was. */
export function problemOf(error: unknown): Problem {
  if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error) {
    return { hint: '', ...error } as Problem;
  }
  return { code: 'internal', message: String(error), hint: '' };
}
