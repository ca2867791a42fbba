import type { Problem, SessionQuery, UsageDay, UsageDays, UsageSession, UsageSessions } from '../generated/model';

const DAY = 86_400_000;
const IMAGES = [['node:22-alpine', 'postgres:17'], ['redis:7'], ['shop:latest'], []];
const REASONS = ['idle', 'idle', 'stopped', 'lost'];

/** A ledger with a year of believable days: none on Sundays, long ones now and then. The same on every day that it is asked. */
export class MockUsage {
  limit = 28_800;
  price: number | null = 0.12;
  problem: Problem | null = null;

  /** @param used how long each of the days before today was used, the oldest first. Without it, a year. */
  constructor(
    private readonly today = new Date(),
    private readonly used: number[] = Array.from({ length: 365 }, (_, index) => believable(index)),
  ) {}

  days(count: number): UsageDays {
    const days = Array.from({ length: count }, (_, index): UsageDay => {
      const ago = count - 1 - index;
      const seconds = this.used.at(-1 - ago) ?? 0;
      return { day: this.day(ago), seconds, cost: this.cost(seconds) };
    });
    return { zone: 'Europe/Berlin', limit_seconds: this.limit, days, problem: this.problem };
  }

  sessions(query: SessionQuery): UsageSessions {
    const all = this.used.map((seconds, index) => this.session(seconds, this.used.length - 1 - index));
    const wanted = all
      .filter((session) => session.seconds > 0)
      .filter(
        (session) =>
          (!query.from || session.started.slice(0, 10) >= query.from) &&
          (!query.to || session.started.slice(0, 10) <= query.to) &&
          (!query.runner || session.runner === query.runner) &&
          (!query.status || session.status === query.status) &&
          [session.id, session.runner, ...session.images].some((text) => text.includes(query.text ?? '')),
      )
      .reverse();
    const seconds = wanted.reduce((sum, session) => sum + session.seconds, 0);
    return {
      sessions: wanted.slice(0, query.limit ?? 200),
      matching: wanted.length,
      seconds,
      cost: this.cost(seconds),
      runners: [...new Set(all.map((session) => session.runner))].sort(),
      statuses: [...new Set(all.map((session) => session.status))].sort(),
    };
  }

  private session(seconds: number, ago: number): UsageSession {
    const started = new Date(`${this.day(ago)}T08:12:00Z`);
    const ended = new Date(started.getTime() + (seconds + 600) * 1000);
    return {
      id: `s-${String(ago).padStart(10, 'c')}`,
      user: 'ada',
      runner: ago % 3 === 0 ? 'office' : 'local',
      images: IMAGES[ago % IMAGES.length] ?? [],
      started: started.toISOString(),
      ended: ago === 0 ? null : ended.toISOString(),
      seconds,
      status: ago === 0 ? 'active' : (REASONS[ago % REASONS.length] ?? 'idle'),
      containers: (ago % 7) + 1,
      cost: this.cost(seconds),
    };
  }

  private day(ago: number): string {
    return new Date(this.today.getTime() - ago * DAY).toISOString().slice(0, 10);
  }

  private cost(seconds: number): number | null {
    return this.price === null || seconds === 0 ? null : (seconds / 3600) * this.price;
  }
}

function believable(index: number): number {
  if (index % 7 === 3) return 0;
  return (index % 7 === 2 ? 3000 : 13_000) + ((index * 7919) % 11_000) + (index % 23 === 0 ? 11_000 : 0);
}
