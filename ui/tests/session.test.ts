import { screen, waitFor, within } from '@testing-library/svelte';
import { afterEach, describe, expect, test, vi } from 'vitest';

import { example } from '../src/lib/backend/mock';
import { expectNoBarrier, here, open } from './open';

afterEach(() => vi.useRealTimers());

const region = (name: string) => within(screen.getByRole('region', { name }));

describe('a session', () => {
  test('names runner, environment and what keeps the session awake', () => {
    open(here({ state: 'running' }));
    expect(screen.getByText('local')).toBeVisible();
    expect(screen.getByText('e-p3c8v2r9hj')).toBeVisible();
    const awake = within(screen.getByRole('region', { name: 'What keeps it awake' }));
    expect(awake.getByText('web (nginx:alpine)')).toBeVisible();
    expect(awake.getByText('132 calls')).toBeVisible();
  });

  test('shows the steps of a start, and which one is under way', () => {
    open(here({ state: 'starting' }));
    const steps = within(screen.getByRole('region', { name: 'On the way' })).getAllByRole('listitem');
    expect(steps.map((step) => step.dataset.mark)).toEqual(['done', 'done', 'done', 'current', 'waiting', 'waiting']);
    expect(steps[3]).toHaveAttribute('aria-current', 'step');
  });

  test('shows a step that it does not know by its own words', () => {
    open(here({ state: 'starting', progress: { step: 'teleport', detail: 'beaming the engine' } }));
    expect(screen.getByText('beaming the engine')).toBeVisible();
  });

  test('is suspended at once where the user says so', async () => {
    const { backend, user } = open(here({ state: 'running' }));
    await user.click(screen.getByRole('button', { name: 'Idle now' }));
    expect(await screen.findByRole('heading', { level: 1, name: 'Suspended' })).toBeVisible();
    expect(backend.calls).toEqual(['idle']);
  });

  test('what was refused is explained where it was asked for', async () => {
    const { backend, user } = open(here({ state: 'running' }));
    backend.refuse = { code: 'request-refused', message: 'it does not freeze', hint: 'Wait a moment.' };
    await user.click(screen.getByRole('button', { name: 'Idle now' }));
    expect(await region('Session').findByRole('alert')).toHaveTextContent('it does not freeze');
  });

  test('usage of the day goes on while it runs, and stands otherwise', async () => {
    vi.useFakeTimers();
    const usage = { today_seconds: 3595, limit_seconds: 7200 };
    const { backend } = open(here({ state: 'running', usage }));
    await vi.advanceTimersByTimeAsync(0);
    expect(screen.getByText('59m of 2h')).toBeVisible();
    await vi.advanceTimersByTimeAsync(6000);
    const meter = screen.getByRole('meter', { name: 'Today' });
    expect(meter).toHaveAttribute('aria-valuetext', '1h of 2h');
    expect(meter).toHaveAttribute('aria-valuenow', '3601');
    backend.become({ kind: 'here', status: { ...example('suspended'), usage } });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(screen.getByText('59m of 2h')).toBeVisible();
  });
});

describe('a prompt', () => {
  const asked = (reason: 'inactivity' | 'long-session' = 'inactivity') =>
    here({ state: 'running', prompt: { reason, answer_within_seconds: 120 }, idle_in_seconds: 120 });

  test('is told with the time that is left, which goes on', async () => {
    vi.useFakeTimers();
    open(asked());
    await vi.advanceTimersByTimeAsync(3000);
    const prompt = region('Do you still need it?');
    expect(prompt.getByRole('alert')).toHaveTextContent('Nothing has happened for a while');
    expect(prompt.getByRole('timer', { name: '1:57 left to answer' })).toHaveTextContent('1:57');
  });

  test('for a long session says so', async () => {
    open(asked('long-session'));
    expect(screen.getByRole('alert')).toHaveTextContent('Is this session still needed?');
    await expectNoBarrier();
  });

  test('is answered in place: ask me again later', async () => {
    const { backend, user } = open(asked());
    await user.click(screen.getByRole('button', { name: 'Ask me again later' }));
    await waitFor(() => expect(screen.queryByRole('region', { name: 'Do you still need it?' })).toBeNull());
    expect(backend.calls).toEqual(['later']);
  });

  test('is answered in place: idle now', async () => {
    const { backend, user } = open(asked());
    await user.click(screen.getByRole('button', { name: 'Idle now' }));
    expect(await screen.findByRole('heading', { level: 1, name: 'Suspended' })).toBeVisible();
    expect(backend.calls).toEqual(['idle']);
  });

  test('is answered in place: work is saved first, and where it lies is said', async () => {
    const { backend, user } = open(asked());
    await user.click(screen.getByRole('button', { name: 'Save work' }));
    const prompt = region('Do you still need it?');
    expect(await prompt.findByRole('status')).toHaveTextContent('/home/ada/Documents/overside-20261125-103000.zip');
    expect(prompt.getByText('data')).toBeVisible();
    expect(backend.calls).toEqual(['keep']);
  });

  test('saving that fails is explained, and saving nothing is no failure', async () => {
    const { backend, user } = open(asked());
    const prompt = region('Do you still need it?');
    backend.refuse = { code: 'keep-failed', message: 'the disk is full', hint: 'Make room.' };
    await user.click(prompt.getByRole('button', { name: 'Save work' }));
    expect(await prompt.findByText('the disk is full')).toBeVisible();
    backend.keep = async () => [];
    await user.click(prompt.getByRole('button', { name: 'Save work' }));
    expect(await prompt.findByRole('status')).toHaveTextContent('There is nothing to save');
    expect(prompt.queryByText('the disk is full')).toBeNull();
  });
});

describe('a suspended environment', () => {
  test('is resumed by a button', async () => {
    const { backend, user } = open(here({ state: 'suspended' }));
    await user.click(screen.getByRole('button', { name: 'Resume' }));
    expect(await screen.findByRole('heading', { level: 1, name: 'Running' })).toBeVisible();
    expect(backend.calls).toEqual(['resume']);
  });

  test('names what would be deleted with it, and what of that is saved where', () => {
    open(here({ state: 'suspended' }));
    const work = region('Deleted in').getAllByRole('listitem');
    expect(work.map((each) => each.textContent?.replace(/\s+/g, ' ').trim())).toEqual([
      'Running container web',
      'Volume data',
      'Image shop:latest saved in /home/ada/Documents/overside-20261125-101502.zip',
    ]);
    expect(region('Deleted in').getByRole('button', { name: 'Save work' })).toBeEnabled();
  });

  test('that holds containers alone offers no saving, and an empty one has nothing to lose', () => {
    open(here({ state: 'suspended', at_risk: [{ kind: 'container', name: 'box', kept_in: null }] }));
    expect(screen.queryByRole('button', { name: 'Save work' })).toBeNull();
    document.body.replaceChildren();
    open(here({ state: 'suspended', at_risk: [] }));
    expect(screen.getByText('Nothing in it would be missed.')).toBeVisible();
  });
});

describe('ignored pollers', () => {
  test('are made to count by a button, beside those that count already', async () => {
    const poller = { program: 'docker (code)', calls: 132 };
    const backend = here({ state: 'running', ignored_pollers: [poller] });
    await backend.setSetting('pollers.always-count', ['portainer']);
    await backend.setSetting('pollers.never-count', ['code', 'lazydocker']);
    const { user } = open(backend);
    await user.click(await screen.findByRole('button', { name: 'Count them: the calls of code' }));
    expect(await screen.findByText('count from now on')).toBeVisible();
    expect(backend.calls.slice(2)).toEqual([
      'set pollers.always-count ["portainer","code"]',
      'set pollers.never-count ["lazydocker"]',
    ]);
  });

  test('lead to the lists of programs in the settings', async () => {
    const { user } = open(here({ state: 'running' }));
    await user.click(screen.getByRole('button', { name: /Which programs count/ }));
    expect(screen.getByRole('textbox', { name: 'Never count' })).toBeVisible();
  });

  test('are left as they are where the policy says so', async () => {
    const backend = here({ state: 'running' });
    backend.locked = { 'pollers.always-count': [] };
    open(backend);
    const count = screen.getByRole('button', { name: 'Count them: the calls of code' });
    await waitFor(() => expect(count).toBeDisabled());
    expect(count).toHaveAttribute('title', expect.stringContaining('sets pollers.always-count'));
  });
});

describe('the first time', () => {
  test('a runner is chosen and tested, then Overside is turned on, then the first command is shown', async () => {
    const backend = here({ state: 'stopped', first_use: true });
    const { user } = open(backend);
    const first = region('Where should your containers run?');
    expect(await first.findByRole('radio', { name: /This computer/ })).toBeChecked();
    await expectNoBarrier();

    await user.click(first.getByRole('button', { name: 'Test office' }));
    expect(await first.findByText('Something on the way does not work.')).toBeVisible();
    expect(first.getByText('Start the SSH server there.')).toBeVisible();
    await user.click(first.getByRole('button', { name: 'Test This computer' }));
    expect(await first.findByText('Everything on the way works.')).toBeVisible();

    const idle = { ...example('idle'), first_use: true };
    backend.enable = async () => backend.become({ kind: 'here', status: idle });
    await user.click(first.getByRole('button', { name: 'Turn on' }));
    expect(await screen.findByText('docker run --rm hello-world')).toBeVisible();
    await expectNoBarrier();
    await user.click(screen.getByRole('button', { name: 'Copy' }));
    expect(await screen.findByText('Copied.')).toBeVisible();
    expect(await navigator.clipboard.readText()).toBe('docker run --rm hello-world');

    backend.become({ kind: 'here', status: { ...example('starting'), first_use: true } });
    expect(await screen.findByRole('region', { name: 'On the way' })).toBeVisible();
    expect(screen.queryByText('docker run --rm hello-world')).toBeNull();
  });

  test('a machine that is added and works is chosen', async () => {
    const { backend, user } = open(here({ state: 'stopped', first_use: true }));
    await user.click(await screen.findByRole('button', { name: /Add a machine by SSH/ }));
    await user.click(await screen.findByRole('button', { name: 'farm' }));
    await user.click(screen.getByRole('button', { name: 'Add and test' }));
    await user.click(await screen.findByRole('button', { name: 'It is: trust it' }));
    await waitFor(() => expect(screen.getByRole('radio', { name: /farm/ })).toBeChecked());
    expect(backend.calls).toContain('set runner "farm"');
    await user.click(screen.getByRole('radio', { name: /This computer/ }));
    await waitFor(() => expect(screen.getByRole('radio', { name: /This computer/ })).toBeChecked());
  });

  test('the command names the context where it is not chosen', async () => {
    const backend = here({ state: 'idle', first_use: true });
    await backend.setSetting('context.select', false);
    open(backend);
    expect(await screen.findByText('docker --context overside run --rm hello-world')).toBeVisible();
  });

  test('a copy that fails says how to go on', async () => {
    const { user } = open(here({ state: 'idle', first_use: true }));
    vi.spyOn(navigator.clipboard, 'writeText').mockRejectedValue(new Error('not allowed'));
    await user.click(screen.getByRole('button', { name: 'Copy' }));
    expect(await screen.findByText(/copy it by hand/)).toBeVisible();
  });
});
