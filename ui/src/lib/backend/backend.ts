import type { Problem, Status } from '../generated/model';

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
  expected: string;
  purpose: string;
}

export type Settings = Record<string, Setting>;

/** What the page needs to know of the program that shows it. */
export interface Shell {
  /** A BCP 47 tag of the user's, such as `zh-CN`. */
  language: string;
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
}

/** What a rejected promise of the backend's carries, whatever it was. */
export function problemOf(error: unknown): Problem {
  if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error) {
    return { hint: '', ...error } as Problem;
  }
  return { code: 'internal', message: String(error), hint: '' };
}
