import { Channel, invoke } from '@tauri-apps/api/core';

import type { Diagnosis, Hop, Problem, Question, RunnerStatus, UsageDays, UsageSessions, Work } from '../generated/model';
import type { Backend, Link, Settings, Shell } from './backend';

/** The real daemon, through the commands in src-tauri/src/window/commands.rs. The only file that names Tauri. */
export const tauriBackend: Backend = {
  shell: () => invoke<Shell>('shell'),
  follow: (listener) => invoke<void>('follow', { channel: new Channel<Link>(listener) }),
  startDaemon: () => invoke<void>('start_daemon'),
  enable: () => invoke<void>('enable'),
  disable: (force) => invoke<void>('disable', { force }),
  retry: () => invoke<void>('retry'),
  settings: () => invoke<Settings>('settings'),
  setSetting: (name, value) => invoke<void>('set_setting', { name, value }),
  decideMount: (decision) => invoke<void>('decide_mount', { decision }),
  idle: () => invoke<void>('idle'),
  resume: () => invoke<void>('resume'),
  later: () => invoke<void>('later'),
  keep: () => invoke<Work[]>('keep'),
  runners: () => invoke<RunnerStatus[]>('runners'),
  testRunner: (name) => invoke<Hop[]>('test_runner', { name }),
  pages: (listener) => invoke<void>('pages', { channel: new Channel<string | null>(listener) }),
  usageDays: (days) => invoke<UsageDays>('usage_days', { days }),
  usageSessions: (query) => invoke<UsageSessions>('usage_sessions', { query }),
  saveUsage: () => invoke<string>('save_usage'),
  diagnose: (bundle) => invoke<Diagnosis>('diagnose', { bundle }),
  addresses: () => invoke<string[]>('addresses'),
  addRunner: (name, address) => invoke<void>('add_runner', { name, address }),
  removeRunner: (name) => invoke<Problem | null>('remove_runner', { name }),
  runnerQuestion: (name) => invoke<Question | null>('runner_question', { name }),
  answerRunner: (name, answer) => invoke<Problem | null>('answer_runner', { name, answer }),
};
