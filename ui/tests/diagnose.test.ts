import { screen, waitFor, within } from '@testing-library/svelte';
import { describe, expect, test } from 'vitest';

import { example, MockBackend } from '../src/lib/backend/mock';
import { messages, type Language } from '../src/lib/texts';
import { away, expectNoBarrier, here, open } from './open';

async function diagnose(backend = here({ state: 'idle' }), language: Language = 'en') {
  const { user } = open(backend, language);
  await user.click(screen.getByRole('tab', { name: messages[language]['page.diagnose'] ?? '' }));
  return { backend, user };
}

const way = () => within(screen.getByRole('region', { name: 'From docker to the engine' }));

describe('the way to the engine', () => {
  test('is looked at when the page opens, and not again by itself', async () => {
    const { backend } = await diagnose();
    expect(await screen.findByText('The way to the engine is clear.')).toBeVisible();
    expect(way().getAllByRole('listitem').map((hop) => hop.dataset.hop)).toEqual([
      'settings',
      'daemon',
      'socket',
      'context',
      'agent',
      'engine',
    ]);
    backend.become({ kind: 'here', status: example('running') });
    expect(backend.calls.filter((call) => call.startsWith('diagnose'))).toEqual(['diagnose false']);
  });

  test('without a daemon ends at the daemon, with its next step, and is looked at again when one is back', async () => {
    const { backend } = await diagnose(new MockBackend(away));
    expect(await screen.findByText('The way to the engine ends at: Daemon')).toBeVisible();
    expect(screen.getByText('Start it with `overside start`.')).toBeVisible();
    backend.become({ kind: 'here', status: example('idle') });
    expect(await screen.findByText('The way to the engine is clear.')).toBeVisible();
  });

  test('is looked at again on demand; what fails then is told beside what was found before', async () => {
    const { backend, user } = await diagnose();
    await screen.findByText('The way to the engine is clear.');
    backend.refuse = { code: 'internal', message: 'cannot run overside diagnose', hint: 'Install Overside again.' };
    await user.click(screen.getByRole('button', { name: 'Look again' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('Install Overside again.');
    expect(screen.getByText('The way to the engine is clear.')).toBeVisible();
    await user.click(screen.getByRole('button', { name: 'Look again' }));
    await waitFor(() => expect(screen.queryByRole('alert')).toBeNull());
  });
});

describe('the bundle', () => {
  test('is saved, and its path shown', async () => {
    const { backend, user } = await diagnose();
    await user.click(screen.getByRole('button', { name: 'Save bundle' }));
    expect(await screen.findByText(/Downloads\/overside-diagnosis-.*\.zip$/)).toBeVisible();
    expect(backend.calls).toContain('diagnose true');
  });

  test('that cannot be written says why', async () => {
    const { backend, user } = await diagnose();
    await screen.findByText('The way to the engine is clear.');
    backend.refuse = { code: 'disk-full', message: 'the bundle cannot be written', hint: 'Choose another file.' };
    await user.click(screen.getByRole('button', { name: 'Save bundle' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('the bundle cannot be written');
  });
});

describe('the log', () => {
  const lines = () => screen.getAllByText(/the daemon starts|the start failed/).map((line) => line.textContent);

  test('has its newest line first, and its troubles alone on demand', async () => {
    const { user } = await diagnose();
    await screen.findByText('The way to the engine is clear.');
    expect(lines()).toEqual(['the start failed: this machine has no dockerd', 'the daemon starts: version=0.1.0']);
    await user.click(screen.getByRole('radio', { name: 'Warnings and errors' }));
    expect(lines()).toEqual(['the start failed: this machine has no dockerd']);
  });
});

test.each(['en', 'zh-CN'] as const)('the page has no barrier that axe knows in %s', async (language) => {
  await diagnose(new MockBackend(away), language);
  await screen.findByText(/overside start/);
  await expectNoBarrier();
});

describe('ports and mounts', () => {
  test('are listed live, and say so where there are none', async () => {
    const backend = here({ state: 'running' });
    const { user } = open(backend);
    await user.click(screen.getByRole('tab', { name: 'Ports' }));
    expect(screen.getByText('No container publishes a port.')).toBeVisible();
    const port = { protocol: 'tcp', container: 'web', container_port: 80, connections: 3, bytes_out: 3_100_000 } as const;
    const ports = [
      { ...port, address: '127.0.0.1:8080', bytes_in: 512, problem: null },
      { ...port, address: '0.0.0.0:81', bytes_in: 0, problem: 'listen tcp4 0.0.0.0:81: bind: permission denied' },
    ];
    const mount = { path: '/home/ada/shop', state: 'synced', read_only: false, files: 1200, bytes: 3_100_000 } as const;
    const shop = { ...mount, left_files: 0, left_bytes: 0, conflicts: [], problems: [], problem: null };
    backend.become({ kind: 'here', status: { ...example('running'), ports, mounts: [shop] } });
    const row = await screen.findByRole('row', { name: '127.0.0.1:8080/tcp web:80 3 512\u00a0B 3.1\u00a0MB' });
    expect(row).toBeVisible();
    expect(screen.getByText(/permission denied/)).toBeVisible();
    await expectNoBarrier();
    await user.click(screen.getByRole('tab', { name: 'Mounts' }));
    expect(screen.getByRole('row', { name: '/home/ada/shop In sync 1200 3.1\u00a0MB' })).toBeVisible();
    await expectNoBarrier();
    const conflicts = ['a.txt.overside-conflict-1a2b3c4d'];
    backend.become({ kind: 'here', status: { ...example('running'), mounts: [{ ...shop, conflicts }] } });
    expect(await screen.findByText('a.txt.overside-conflict-1a2b3c4d')).toBeVisible();
    const problem = { code: 'mount-failed', message: 'the directory is empty', hint: 'Decide.' } as const;
    backend.become({ kind: 'here', status: { ...example('running'), mounts: [{ ...shop, state: 'halted', problem }] } });
    await user.click(await screen.findByRole('button', { name: 'Bring it back' }));
    expect(backend.calls).toContain('decideMount /home/ada/shop restore');
    await expectNoBarrier();
    const large = { ...problem, code: 'mount-too-large', message: '/home/ada/big has 300000 files' } as const;
    const big = { ...shop, path: '/home/ada/big', state: 'halted', problem: large } as const;
    backend.become({ kind: 'here', status: { ...example('running'), mounts: [big] } });
    await user.click(await screen.findByRole('button', { name: 'Bring it all the same' }));
    expect(backend.calls).toContain('decideMount /home/ada/big restore');
    await expectNoBarrier();
    backend.become({ kind: 'here', status: example('idle') });
    expect(await screen.findByText('No container has files of this computer mounted.')).toBeVisible();
  });
});
