import { problemOf, type Backend } from './backend/backend';
import type { Problem, SessionQuery, UsageDays, UsageSessions } from './generated/model';

/** Ranges that the chart shows, in days that end with today. */
export const RANGES = { week: 7, month: 30, year: 365 } as const;

export type Range = keyof typeof RANGES;

/** Sessions that the table shows at first, and how many more each time. */
const STEP = 50;

/** What the usage page shows: days for the chart, sessions for the table, and what the user chose of both. */
export class Usage {
  range = $state<Range>('week');
  days = $state<UsageDays | null>(null);
  sessions = $state<UsageSessions | null>(null);
  /** What the fields above the table say. */
  filter = $state<SessionQuery>({});
  daysProblem = $state<Problem | null>(null);
  sessionsProblem = $state<Problem | null>(null);
  private limit = $state(STEP);
  /** Numbers of the last questions: an answer to an earlier one comes too late. */
  private asked = { days: 0, sessions: 0 };

  constructor(private readonly backend: Backend) {}

  readonly filtered = $derived(Object.values(this.filter).some((value) => value));

  /** Asks for everything anew. */
  async read(): Promise<void> {
    await Promise.all([this.readDays(), this.readSessions()]);
  }

  async choose(range: Range): Promise<void> {
    this.range = range;
    await this.readDays();
  }

  /** Changes some of the filter; what is empty restricts nothing. */
  async narrow(part: SessionQuery): Promise<void> {
    this.filter = { ...this.filter, ...part };
    this.limit = STEP;
    await this.readSessions();
  }

  async clear(): Promise<void> {
    this.filter = {};
    this.limit = STEP;
    await this.readSessions();
  }

  async more(): Promise<void> {
    this.limit += STEP;
    await this.readSessions();
  }

  private async readDays(): Promise<void> {
    const number = ++this.asked.days;
    try {
      const days = await this.backend.usageDays(RANGES[this.range]);
      if (number !== this.asked.days) return;
      this.days = days;
      this.daysProblem = null;
    } catch (error) {
      if (number === this.asked.days) this.daysProblem = problemOf(error);
    }
  }

  private async readSessions(): Promise<void> {
    const number = ++this.asked.sessions;
    const said = Object.fromEntries(Object.entries(this.filter).filter(([, value]) => value)) as SessionQuery;
    try {
      const sessions = await this.backend.usageSessions({ ...said, limit: this.limit });
      if (number !== this.asked.sessions) return;
      this.sessions = sessions;
      this.sessionsProblem = null;
    } catch (error) {
      if (number === this.asked.sessions) this.sessionsProblem = problemOf(error);
    }
  }
}
