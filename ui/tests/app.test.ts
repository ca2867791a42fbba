import { cleanup, render, screen, waitFor, within } from '@testing-library/svelte';
import { tick } from 'svelte';
import { afterEach, describe, expect, test, vi } from 'vitest';

import App from '../src/App.svelte';
import { example, MockBackend } from '../src/lib/backend/mock';
import { PAGES } from '../src/lib/pages/pages';
import { messages } from '../src/lib/texts';
import { away, expectNoBarrier, here, open, STATES } from './open';

afterEach(() => vi.useRealTimers());

describe('the state', () => {
  test.each(STATES)('%s is told in words, in both languages', (state) => {
    for (const language of ['en', 'zh-CN'] as const) {
      open(here({ state }), language);
      expect(screen.getByRole('heading', { level: 1, name: messages[language][`state.${state}`] })).toBeVisible();
      expect(screen.getByText(messages[language][`state.${state}.detail`] ?? '')).toBeVisible();
      document.body.replaceChildren();
    }
  });

  test('follows the daemon', async () => {
    const { backend } = open();
    for (const state of STATES) {
      backend.become({ kind: 'here', status: example(state) });
      expect(await screen.findByRole('heading', { level: 1 })).toHaveTextContent(messages.en[`state.${state}`] ?? '');
    }
  });

  test('a failure has its reason, its next step, and another try', async () => {
    const { backend, user } = open(here({ state: 'failed' }));
    const alert = screen.getByRole('alert');
    expect(alert).toHaveTextContent('The runner has no Docker engine');
    expect(alert).toHaveTextContent('apt-get install docker.io');
    await user.click(within(alert).getByRole('button', { name: 'Try again' }));
    expect(backend.calls).toEqual(['retry']);
    expect(await screen.findByRole('heading', { level: 1, name: 'Starting' })).toBeVisible();
  });

  test('countdowns and the session time go on by themselves', async () => {
    vi.useFakeTimers();
    open(here({ state: 'suspended', grace_remaining_seconds: 65 }));
    await vi.advanceTimersByTimeAsync(0);
    expect(screen.getByText('1:05')).toBeVisible();
    await vi.advanceTimersByTimeAsync(6000);
    expect(screen.getByText('0:59')).toBeVisible();
    await vi.advanceTimersByTimeAsync(100_000);
    expect(screen.getByText('0:00')).toBeVisible();
  });

  test('no clock runs while nothing counts', async () => {
    vi.useFakeTimers();
    open(here({ state: 'idle' }));
    await vi.advanceTimersByTimeAsync(0);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('the pages', () => {
  const tab = (name: string) => screen.getByRole('tab', { name });

  const states = [...STATES, 'away' as const];
  test.each(states.flatMap((state) => PAGES.map((page) => [page, state] as const)))(
    '%s has no barrier that axe knows while %s',
    async (page, state) => {
      const { user } = open(state === 'away' ? new MockBackend(away) : here({ state }));
      await user.click(tab(messages.en[`page.${page}`] ?? ''));
      await expectNoBarrier();
    },
  );

  test.each(['en', 'zh-CN'] as const)('each has a tab and a panel of that name in %s', async (language) => {
    const { user } = open(here({ state: 'idle' }), language);
    for (const page of PAGES) {
      const name = messages[language][`page.${page}`] ?? '';
      await user.click(tab(name));
      expect(screen.getAllByRole('tab', { selected: true }).map((each) => each.textContent?.trim())).toEqual([name]);
      expect(screen.getByRole('tabpanel', { name })).toBeVisible();
    }
  });

  test('are shown as the tray asks for them, and a name that is none changes nothing', async () => {
    const { backend } = open();
    backend.show('settings');
    await waitFor(() => expect(tab('Settings')).toHaveAttribute('aria-selected', 'true'));
    for (const page of [null, 'of-another-version']) backend.show(page);
    await tick();
    expect(tab('Settings')).toHaveAttribute('aria-selected', 'true');
  });

  test('are reached by the arrow keys, and the tab key leads past the others into the page', async () => {
    const { user } = open(here({ state: 'idle' }));
    await user.tab();
    expect(tab('Session')).toHaveFocus();
    await user.keyboard('{ArrowDown}');
    expect(tab('Settings')).toHaveFocus();
    expect(tab('Settings')).toHaveAttribute('aria-selected', 'true');
    await user.keyboard('{End}');
    expect(tab('Diagnose')).toHaveFocus();
    await user.keyboard('{ArrowRight}');
    expect(tab('Session')).toHaveFocus();
    await user.keyboard('{ArrowLeft}{Home}{ArrowUp}{ArrowUp}');
    expect(tab('Mounts')).toHaveFocus();
    await user.tab();
    expect(screen.getByRole('switch')).toHaveFocus();
  });

  test('those that need the daemon are empty without it', async () => {
    const { user } = open(new MockBackend(away));
    expect(screen.getByRole('tabpanel')).toBeEmptyDOMElement();
    await user.click(tab('Diagnose'));
    expect(screen.getByRole('tabpanel')).not.toBeEmptyDOMElement();
  });
});

describe('the switch', () => {
  test('turns on and off', async () => {
    const { backend, user } = open();
    const toggle = screen.getByRole('switch', { name: 'Overside' });
    expect(toggle).not.toBeChecked();
    await user.click(toggle);
    await waitFor(() => expect(toggle).toBeChecked());
    await user.click(toggle);
    await waitFor(() => expect(toggle).not.toBeChecked());
    expect(backend.calls).toEqual(['enable', 'disable false']);
  });

  test('works by keyboard', async () => {
    const { backend, user } = open();
    await user.tab();
    await user.tab();
    expect(screen.getByRole('switch')).toHaveFocus();
    await user.keyboard(' ');
    expect(backend.calls).toEqual(['enable']);
  });

  test('a refusal to turn off is explained and can be overruled', async () => {
    const { backend, user } = open(here({ state: 'running' }));
    backend.refuse = { code: 'request-refused', message: '2 containers are running', hint: 'Stop them first.' };
    await user.click(screen.getByRole('switch'));
    expect(await screen.findByRole('alert')).toHaveTextContent('2 containers are running');
    expect(screen.getByRole('switch')).toBeChecked();
    await user.click(screen.getByRole('button', { name: 'Turn off anyway' }));
    await waitFor(() => expect(screen.queryByRole('alert')).toBeNull());
    expect(backend.calls).toEqual(['disable false', 'disable true']);
  });

  test('a session that ends because it was turned off counts as off', async () => {
    const backend = here({ state: 'stopping' });
    backend.settings = async () => ({ enabled: { value: false, source: 'user', rule: null, expected: '', purpose: '' } });
    open(backend);
    await waitFor(() => expect(screen.getByRole('switch')).not.toBeChecked());
  });
});

describe('the language', () => {
  test('is the desktop’s until the user chooses another, which holds at once and until it is taken back', async () => {
    const { user } = open(here({ state: 'idle' }), 'zh-CN');
    expect(screen.getByRole('heading', { level: 1, name: '空闲' })).toBeVisible();
    await user.click(screen.getByRole('tab', { name: '设置' }));
    await user.selectOptions(await screen.findByRole('combobox', { name: '语言' }), 'English');
    expect(await screen.findByRole('heading', { level: 1, name: 'Idle' })).toBeVisible();
    expect(document.documentElement.lang).toBe('en');
    await user.selectOptions(screen.getByRole('combobox', { name: 'Language' }), 'As the desktop');
    expect(await screen.findByRole('heading', { level: 1, name: '空闲' })).toBeVisible();
    expect(document.documentElement.lang).toBe('zh-CN');
  });

  test('is right from the first frame on', () => {
    const backend = here({ state: 'idle' });
    backend.settings = () => new Promise(() => {});
    render(App, { props: { backend, shell: { language: 'en', chosen: 'zh-CN', asks: false, version: '0.1.0' } } });
    expect(screen.getByRole('heading', { level: 1, name: '空闲' })).toBeVisible();
  });
});

describe('the daemon', () => {
  test('is missed, can be started, and is shown again', async () => {
    const { backend, user } = open(here({ state: 'idle' }));
    backend.become(away);
    expect(await screen.findByRole('heading', { level: 1, name: 'Not connected' })).toBeVisible();
    expect(screen.getByText('no daemon is running')).toBeVisible();
    expect(screen.getByRole('switch')).toBeDisabled();
    await user.click(screen.getByRole('button', { name: 'Start the daemon' }));
    expect(await screen.findByRole('heading', { level: 1, name: 'Off' })).toBeVisible();
    expect(screen.getByRole('switch')).toBeEnabled();
  });

  test('one that cannot be started says why', async () => {
    const { backend, user } = open(new MockBackend(away));
    backend.refuse = { code: 'daemon-unreachable', message: 'the socket path is too long', hint: 'Shorten it.' };
    await user.click(screen.getByRole('button', { name: 'Start the daemon' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('the socket path is too long');
  });
});

test('a daemon of another version is named, and one of the same is not', async () => {
  open(here({ state: 'idle', version: '0.0.9' }));
  const note = await screen.findByText('The daemon is of version 0.0.9, this app of 0.1.0');
  expect(note.closest('[role=status]')).toBeVisible();
  await expectNoBarrier();
  cleanup();
  open(here({ state: 'idle' }));
  await screen.findByRole('switch');
  expect(screen.queryByText(/of version/)).toBeNull();
});
