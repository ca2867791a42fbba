import type { Problem, State, Status } from '../generated/model';
import type { Backend, Link, Settings, Shell } from './backend';

const quiet: Status = {
  state: 'stopped',
  runner: 'local',
  socket: '/run/user/1000/overside/docker.sock',
  session: null,
  progress: null,
  awake_because: [],
  ignored_pollers: [],
  idle_in_seconds: null,
  grace_remaining_seconds: null,
  prompt: null,
  usage: { today_seconds: 0, limit_seconds: 28800 },
  ports: [],
  mounts: [],
  error: null,
};

const session = (startedSecondsAgo: number): Status['session'] => ({
  id: 's-27hfv49mrc',
  started_at: new Date(Date.now() - startedSecondsAgo * 1000).toISOString(),
  environment: 'e-p3c8v2r9hj',
  notes: [],
});

/** A believable status in each state. */
export function example(state: State): Status {
  switch (state) {
    case 'stopped':
    case 'idle':
      return { ...quiet, state };
    case 'starting':
      return {
        ...quiet,
        state,
        session: { id: 's-27hfv49mrc', started_at: new Date().toISOString(), environment: null, notes: [] },
        progress: { step: 'network', detail: 'connecting the environment to the network' },
      };
    case 'running':
      return {
        ...quiet,
        state,
        session: session(754),
        idle_in_seconds: null,
        awake_because: [
          { kind: 'container', detail: 'web (nginx:alpine)' },
          { kind: 'stream', detail: 'GET /containers/web/logs' },
        ],
        ignored_pollers: [{ program: 'code', calls: 132 }],
      };
    case 'suspended':
      return { ...quiet, state, session: session(1800), grace_remaining_seconds: 284 };
    case 'stopping':
      return { ...quiet, state, session: session(2100) };
    case 'failed':
      return {
        ...quiet,
        state,
        error: {
          code: 'engine-missing',
          message: 'this machine has no dockerd',
          hint: 'Install it: apt-get install docker.io.',
        },
      };
  }
}

/** A daemon in a few lines: for working on the page without one, and for component tests. */
export class MockBackend implements Backend {
  /** What was asked for, in order. */
  readonly calls: string[] = [];
  /** The next request is refused with this. */
  refuse: Problem | null = null;
  language = 'en';
  private idleTimeout = '5m';
  private listeners: ((link: Link) => void)[] = [];

  constructor(private link: Link = { kind: 'here', status: example('stopped') }) {}

  /** Lets the link change, as the daemon or its end would. */
  become(link: Link): void {
    this.link = link;
    for (const listener of this.listeners) listener(link);
  }

  async shell(): Promise<Shell> {
    return { language: this.language };
  }

  async follow(listener: (link: Link) => void): Promise<void> {
    this.listeners.push(listener);
    listener(this.link);
  }

  async startDaemon(): Promise<void> {
    this.answer('startDaemon');
    this.become({ kind: 'here', status: example('stopped') });
  }

  async enable(): Promise<void> {
    this.answer('enable');
    this.become({ kind: 'here', status: example('idle') });
  }

  async disable(force: boolean): Promise<void> {
    this.answer(`disable ${force}`);
    this.become({ kind: 'here', status: example('stopped') });
  }

  async retry(): Promise<void> {
    this.answer('retry');
    this.become({ kind: 'here', status: example('starting') });
  }

  async settings(): Promise<Settings> {
    return {
      enabled: {
        value: this.link.kind === 'here' && this.link.status.state !== 'stopped',
        expected: 'true or false',
        purpose: 'Overside is turned on: its socket wakes an environment when a call needs one.',
      },
      'idle-timeout': {
        value: this.idleTimeout,
        expected: 'a duration from 10s to 1h, such as 5m',
        purpose: 'Inactivity before the environment is suspended.',
      },
    };
  }

  async setSetting(name: string, value: unknown): Promise<void> {
    this.answer(`set ${name} ${JSON.stringify(value)}`);
    if (name === 'idle-timeout') this.idleTimeout = String(value);
  }

  private answer(call: string): void {
    this.calls.push(call);
    const refused = this.refuse;
    this.refuse = null;
    if (refused) throw refused;
  }
}

/** The mock that an address like `?state=running&language=zh-CN` asks for. */
export function mockFromAddress(address: URLSearchParams): MockBackend {
  const state = address.get('state');
  const mock = new MockBackend(
    state === 'away'
      ? { kind: 'away', problem: { code: 'daemon-unreachable', message: 'no daemon answers', hint: '' } }
      : { kind: 'here', status: example((state ?? 'stopped') as State) },
  );
  mock.language = address.get('language') ?? navigator.language;
  return mock;
}
