import type {
  Answer,
  Diagnosis,
  Hop,
  MountDecision,
  Problem,
  Question,
  RunnerStatus,
  SessionQuery,
  State,
  Status,
  UsageDays,
  UsageSessions,
  Work,
} from '../generated/model';
import type { Backend, Link, Setting, Settings, Shell } from './backend';
import { MockUsage } from './mock_usage';

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
  usage: { today_seconds: 7530, limit_seconds: 28800 },
  ports: [],
  at_risk: [],
  mounts: [],
  error: null,
  first_use: false,
  desktop: { language: 'system', notifications: true, start_at_login: false },
  version: '0.1.0',
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
      return {
        ...quiet,
        state,
        session: session(1800),
        grace_remaining_seconds: 284,
        at_risk: [
          { kind: 'running-container', name: 'web', kept_in: null },
          { kind: 'volume', name: 'data', kept_in: null },
          { kind: 'image', name: 'shop:latest', kept_in: '/home/ada/Documents/overside-20261125-101502.zip' },
        ],
      };
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

/** The settings that the page shows, as a daemon without a settings file has them. */
const DEFAULTS: Record<string, unknown> = {
  enabled: false,
  'idle-timeout': '5m',
  'grace-period': '5m',
  runner: 'local',
  'size.cpus': 4,
  'size.memory': '8GiB',
  'context.select': true,
  'default-socket': false,
  'ports.bind': 'as-published',
  'ports.host-network': true,
  'host-access': true,
  'mounts.max-files': 200000,
  'mounts.max-bytes': '20GiB',
  'mounts.one-way': [],
  'start-at-login': false,
  notifications: true,
  language: 'system',
  'pollers.always-count': [],
  'pollers.never-count': [],
  'price-per-hour': 'none',
};

const RUNNERS: RunnerStatus[] = [
  { name: 'local', provider: 'local', address: null, selected: true, removable: false },
  { name: 'office', provider: 'ssh', address: 'ssh://ada@office', selected: false, removable: true },
];

function hop(name: string, status: Hop['status'], detail: string, took_ms: number | null, hint = ''): Hop {
  return { name, status, detail, hint, code: status === 'failed' ? 'runner-unreachable' : null, took_ms };
}

/** The way to a runner; to one that is not this machine it ends half-way. */
function hops(runner: string): Hop[] {
  if (runner === 'local') {
    return [
      hop('agent', 'passed', 'overside-agent 0.1.0', 4),
      hop('engine', 'noted', 'Docker 20.10, older than what Docker supports', 31, 'Update docker.io when you can.'),
    ];
  }
  return [
    hop('dns', 'passed', '192.0.2.7', 12),
    hop('tcp', 'failed', 'connection refused on 192.0.2.7 port 22', 1, 'Start the SSH server there.'),
    hop('login', 'skipped', '', null),
  ];
}

/** A daemon in a few lines: for working on the page without one, and for component tests. */
export class MockBackend implements Backend {
  /** What was asked for, in order. */
  readonly calls: string[] = [];
  /** The next request is refused with this. */
  refuse: Problem | null = null;
  language = 'en';
  /** What the ledger holds. */
  usage = new MockUsage();
  /** What the organisation's policy sets, by the setting's name. */
  locked: Record<string, unknown> = {};
  /** What stands in the way to runners that are added, the next one first. */
  /** Why no passphrase is kept; null where the keyring takes them. */
  notKept: Problem | null = null;
  questions: Question[] = [
    { question: 'host-key', host: 'build-box', algorithm: 'ssh-ed25519', fingerprint: 'SHA256:uNiVztksCsDhcc0u9e8BrCr9uQ3r1mB1' },
  ];
  private added: RunnerStatus[] = [];
  private own: Record<string, unknown> = {};
  private listeners: ((link: Link) => void)[] = [];
  /** Asks for a page, as the tray does. */
  show: (page: string | null) => void = () => {};

  constructor(private link: Link = { kind: 'here', status: example('stopped') }) {}

  /** Lets the link change, as the daemon or its end would. */
  become(link: Link): void {
    this.link = link;
    for (const listener of this.listeners) listener(link);
  }

  async shell(): Promise<Shell> {
    return { language: this.language, chosen: 'system', asks: false, version: '0.1.0' };
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

  async decideMount(decision: MountDecision): Promise<void> {
    this.answer(`decideMount ${decision.path} ${decision.restore ? 'restore' : 'accept'}`);
  }

  async settings(): Promise<Settings> {
    const enabled = this.link.kind === 'here' && this.link.status.state !== 'stopped';
    return Object.fromEntries(
      Object.entries({ ...DEFAULTS, enabled, ...this.own, ...this.locked }).map(([name, value]): [string, Setting] => {
        const locked = name in this.locked;
        const source = locked ? 'locked' : name in this.own ? 'user' : 'default';
        const rule = locked ? `your organisation's policy (/etc/overside/policy.json) sets ${name}` : null;
        return [name, { value, source, rule, expected: `a good ${name}`, purpose: '' }];
      }),
    );
  }

  async setSetting(name: string, value: unknown): Promise<void> {
    this.answer(`set ${name} ${JSON.stringify(value)}`);
    // As the daemon does with lists that come as text.
    const list = (name.startsWith('pollers.') || name === 'mounts.one-way') && typeof value === 'string';
    this.own[name] = list ? value.split(',').map((each) => each.trim()).filter(Boolean) : value;
  }

  async idle(): Promise<void> {
    this.answer('idle');
    this.become({ kind: 'here', status: example('suspended') });
  }

  async resume(): Promise<void> {
    this.answer('resume');
    this.become({ kind: 'here', status: example('running') });
  }

  async later(): Promise<void> {
    this.answer('later');
    this.become({ kind: 'here', status: example('running') });
  }

  async keep(): Promise<Work[]> {
    this.answer('keep');
    return [{ kind: 'volume', name: 'data', kept_in: '/home/ada/Documents/overside-20261125-103000.zip' }];
  }

  async runners(): Promise<RunnerStatus[]> {
    const chosen = this.locked.runner ?? this.own.runner ?? 'local';
    return [...RUNNERS, ...this.added].map((runner) => ({ ...runner, selected: runner.name === chosen }));
  }

  async testRunner(name: string): Promise<Hop[]> {
    this.answer(`test ${name}`);
    return hops(this.added.some((runner) => runner.name === name) ? 'local' : name);
  }

  async addresses(): Promise<string[]> {
    return ['ssh://build-box', 'ssh://farm'];
  }

  async addRunner(name: string, address: string): Promise<void> {
    this.answer(`add ${name} ${address}`);
    this.added.push({ name, provider: 'ssh', address, selected: false, removable: true });
  }

  async removeRunner(name: string): Promise<Problem | null> {
    this.answer(`remove ${name}`);
    this.added = this.added.filter((runner) => runner.name !== name);
    return null;
  }

  async runnerQuestion(name: string): Promise<Question | null> {
    return (this.added.some((runner) => runner.name === name) && this.questions[0]) || null;
  }

  async answerRunner(name: string, answer: Answer): Promise<Problem | null> {
    this.answer(`answer ${name} ${answer.answer}`);
    this.questions.shift();
    return answer.answer === 'passphrase' && answer.remember ? this.notKept : null;
  }

  async pages(listener: (page: string | null) => void): Promise<void> {
    this.show = listener;
    listener(null);
  }

  async usageDays(days: number): Promise<UsageDays> {
    this.answer(`days ${days}`);
    return this.usage.days(days);
  }

  async usageSessions(query: SessionQuery): Promise<UsageSessions> {
    this.answer(`sessions ${JSON.stringify(query)}`);
    return this.usage.sessions(query);
  }

  async saveUsage(): Promise<string> {
    this.answer('saveUsage');
    return '/home/ada/Downloads/overside-usage-20261125-103000.csv';
  }

  async diagnose(bundle: boolean): Promise<Diagnosis> {
    this.answer(`diagnose ${bundle}`);
    const here = this.link.kind === 'here';
    return {
      hops: [
        hop('settings', 'passed', 'can be read', null),
        here
          ? hop('daemon', 'passed', 'overside 0.1.0 answers', 1)
          : hop('daemon', 'failed', 'no daemon is running', null, 'Start it with `overside start`.'),
        here
          ? hop('socket', 'passed', '/run/user/1000/overside/docker.sock answers', 1)
          : hop('socket', 'skipped', 'without a daemon nobody answers on it', null),
        hop('context', 'passed', 'docker uses the context "overside", which leads here', null),
        ...hops('local'),
      ],
      log: [
        { at: '2026-11-25T10:00:00Z', level: 'info', message: 'the daemon starts: version=0.1.0' },
        { at: '2026-11-25T10:02:07Z', level: 'warn', message: 'the start failed: this machine has no dockerd' },
      ],
      bundle: bundle ? '/home/ada/Downloads/overside-diagnosis-20261125-103000.zip' : null,
    };
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
