import { Channel, invoke } from '@tauri-apps/api/core';

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
};
