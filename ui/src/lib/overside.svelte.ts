import { problemOf, type Backend, type Link, type Setting, type Settings } from './backend/backend';
import type { Problem, RunnerStatus, Status } from './generated/model';
import type { PageName } from './pages/pages';

/** What the page shows: the link to the daemon, the settings, and a clock that goes only while something counts. */
export class Overside {
  link = $state<Link>({ kind: 'connecting' });
  settings = $state<Settings>({});
  runners = $state<RunnerStatus[]>([]);
  /** Why a daemon that answers does not tell its runners: it is an older one. */
  runnersProblem = $state<Problem | null>(null);
  /** The page that is shown. */
  page = $state<PageName>('session');
  /** The wall clock in milliseconds. */
  now = $state(Date.now());
  /** What went wrong with turning on or off, beside the switch. */
  switchProblem = $state<Problem | null>(null);
  /** A switch or a start of the daemon is under way. */
  busy = $state(false);
  daemonProblem = $state<Problem | null>(null);

  /** When the status that `link` holds arrived. */
  private arrived = $state(Date.now());

  readonly status = $derived(this.link.kind === 'here' ? this.link.status : null);
  /** The state's name in the message files and of its icon. */
  readonly face = $derived(this.link.kind === 'here' ? this.link.status.state : this.link.kind);
  /** On, as far as the user is concerned: a session that ends because it was turned off counts as off. */
  readonly on = $derived(
    this.status !== null &&
      this.status.state !== 'stopped' &&
      !(this.status.state === 'stopping' && this.settings.enabled?.value === false),
  );
  private readonly counts = $derived(this.status?.session !== null && this.status !== null);

  constructor(readonly backend: Backend) {}

  /** Follows the daemon. To be called while a component is set up, whose end stops the clock. */
  start(): void {
    $effect(() => {
      if (!this.counts) return;
      const timer = setInterval(() => {
        if (!document.hidden) this.now = Date.now();
      }, 1000);
      return () => clearInterval(timer);
    });
    $effect(() => {
      // Another program may have changed them meanwhile, and settings and runners come with no event of their own.
      const refresh = () => {
        this.now = Date.now();
        this.read();
      };
      window.addEventListener('focus', refresh);
      return () => window.removeEventListener('focus', refresh);
    });
    const following = this.backend.follow((link) => {
      const changed = this.face !== (link.kind === 'here' ? link.status.state : link.kind);
      this.link = link;
      this.arrived = this.now = Date.now();
      if (link.kind === 'here') this.daemonProblem = null;
      if (changed) {
        this.switchProblem = null;
        if (link.kind === 'here') this.read();
      }
    });
    following.catch((error: unknown) => (this.link = { kind: 'away', problem: problemOf(error) }));
  }

  /** What is left of a countdown that the status gave in seconds. */
  left(seconds: number): number {
    return Math.max(0, seconds - Math.floor((this.now - this.arrived) / 1000));
  }

  /** Seconds that were used today, with those that have passed since the daemon told it. */
  usedToday(status: Status): number {
    const since = status.state === 'running' ? Math.max(0, Math.floor((this.now - this.arrived) / 1000)) : 0;
    return status.usage.today_seconds + since;
  }

  /** Seconds since a moment. */
  since(moment: string): number {
    return Math.max(0, (this.now - Date.parse(moment)) / 1000);
  }

  async turn(on: boolean, force = false): Promise<void> {
    this.switchProblem = await this.attempt(() => (on ? this.backend.enable() : this.backend.disable(force)));
  }

  async retry(): Promise<void> {
    this.switchProblem = await this.attempt(() => this.backend.retry());
  }

  /** Has a mount go on; returns the refusal. */
  async decideMount(path: string, restore: boolean): Promise<Problem | null> {
    return this.attempt(() => this.backend.decideMount({ path, restore }));
  }

  async startDaemon(): Promise<void> {
    this.daemonProblem = await this.attempt(() => this.backend.startDaemon());
  }

  /** What the daemon tells of a setting; undefined before it does, and for a name that it does not know. */
  setting(name: string): Setting | undefined {
    return this.settings[name];
  }

  /** The organisation's policy has the last word on a setting. */
  locked(name: string): boolean {
    return this.settings[name]?.source === 'locked';
  }

  /** Changes a setting; returns the refusal, for the field that asked. */
  async set(name: string, value: unknown): Promise<Problem | null> {
    try {
      await this.backend.setSetting(name, value);
    } catch (error) {
      return problemOf(error);
    }
    await this.readSettings();
    if (name === 'runner') await this.readRunners();
    return null;
  }

  async readRunners(): Promise<void> {
    try {
      this.runners = await this.backend.runners();
      this.runnersProblem = null;
    } catch (error) {
      this.runnersProblem = problemOf(error);
    }
  }

  private read(): void {
    void this.readSettings();
    void this.readRunners();
  }

  private async readSettings(): Promise<void> {
    try {
      this.settings = await this.backend.settings();
    } catch {
      // The daemon went away: `follow` says so.
    }
  }

  private async attempt(action: () => Promise<void>): Promise<Problem | null> {
    this.busy = true;
    try {
      await action();
      return null;
    } catch (error) {
      return problemOf(error);
    } finally {
      this.busy = false;
    }
  }
}
