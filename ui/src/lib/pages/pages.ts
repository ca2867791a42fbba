import type { Component } from 'svelte';

import type { Overside } from '../overside.svelte';
import type { Texts } from '../texts';
import Diagnose from './Diagnose.svelte';
import Mounts from './Mounts.svelte';
import Ports from './Ports.svelte';
import Session from './Session.svelte';
import Settings from './Settings.svelte';
import Usage from './Usage.svelte';

/** The pages, in the order in which the navigation shows them. */
export const PAGES = ['session', 'settings', 'usage', 'ports', 'mounts', 'diagnose'] as const;

export type PageName = (typeof PAGES)[number];

interface Page {
  content: Component<{ overside: Overside; texts: Texts }>;
  /** It has something to show while no daemon answers. */
  alone: boolean;
}

export const pages: Record<PageName, Page> = {
  session: { content: Session, alone: false },
  settings: { content: Settings, alone: false },
  usage: { content: Usage, alone: false },
  ports: { content: Ports, alone: false },
  mounts: { content: Mounts, alone: false },
  diagnose: { content: Diagnose, alone: true },
};
