import { render } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import axe from 'axe-core';
import { expect } from 'vitest';

import App from '../src/App.svelte';
import type { Link } from '../src/lib/backend/backend';
import { example, MockBackend } from '../src/lib/backend/mock';
import type { State, Status } from '../src/lib/generated/model';
import type { Language } from '../src/lib/texts';

export const STATES: State[] = ['stopped', 'idle', 'starting', 'running', 'suspended', 'stopping', 'failed'];

export const away: Link = {
  kind: 'away',
  problem: { code: 'daemon-unreachable', message: 'no daemon is running', hint: 'Start it.' },
};

/** The window on a mock daemon. */
export function open(backend = new MockBackend(), language: Language = 'en') {
  render(App, { props: { backend, shell: { language, chosen: 'system', asks: false, version: '0.1.0' } } });
  return { backend, user: userEvent.setup() };
}

/** A daemon with a status; what is not said is as {@link example} has it. */
export function here(status: Partial<Status> & { state: State }): MockBackend {
  return new MockBackend({ kind: 'here', status: { ...example(status.state), ...status } });
}

/** Looks for every barrier that axe knows. Colours and the page around the component are for the real web view. */
export async function expectNoBarrier(): Promise<void> {
  const { violations } = await axe.run(document.body, {
    rules: { 'color-contrast': { enabled: false }, region: { enabled: false } },
  });
  expect(violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join()}`)).toEqual([]);
}
