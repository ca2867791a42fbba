import { render, screen, waitFor, within } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import axe from 'axe-core';
import { afterEach, describe, expect, test, vi } from 'vitest';

import App from '../src/App.svelte';
import type { Link } from '../src/lib/backend/backend';
import { example, MockBackend } from '../src/lib/backend/mock';
import type { State, Status } from '../src/lib/generated/model';
import { messages, Texts, type Language } from '../src/lib/texts';

const STATES: State[] = ['stopped', 'idle', 'starting', 'running', 'suspended', 'stopping', 'failed'];

const away: Link = {
  kind: 'away',
  problem: { code: 'daemon-unreachable', message: 'no daemon is running', hint: 'Start it.' },
};

function open(backend = new MockBackend(), language: Language = 'en') {
  render(App, { props: { backend, texts: new Texts(language) } });
  return { backend, user: userEvent.setup() };
}

function here(status: Partial<Status> & { state: State }): MockBackend {
  return new MockBackend({ kind: 'here', status: { ...example(status.state), ...status } });
}

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

  test.each([...STATES, 'away' as const])('%s has no barrier that axe knows', async (state) => {
    open(state === 'away' ? new MockBackend(away) : here({ state }));
    await screen.findByRole('heading', { level: 1 });
    // Colours and the page around the component are for the real web view.
    const { violations } = await axe.run(document.body, {
      rules: { 'color-contrast': { enabled: false }, region: { enabled: false } },
    });
    expect(violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join()}`)).toEqual([]);
  });

  test('follows the daemon', async () => {
    const { backend } = open();
    for (const state of STATES) {
      backend.become({ kind: 'here', status: example(state) });
      expect(await screen.findByRole('heading', { level: 1 })).toHaveTextContent(messages.en[`state.${state}`] ?? '');
    }
  });

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
    backend.settings = async () => ({ enabled: { value: false, expected: '', purpose: '' } });
    open(backend);
    await waitFor(() => expect(screen.getByRole('switch')).not.toBeChecked());
  });
});

describe('the idle timeout', () => {
  const slider = () => screen.getByRole<HTMLInputElement>('slider', { name: 'Idle timeout' });
  const field = () => screen.getByRole<HTMLInputElement>('textbox', { name: 'Idle timeout, any value' });

  function slide(to: number): void {
    slider().value = String(to);
    slider().dispatchEvent(new Event('input', { bubbles: true }));
    slider().dispatchEvent(new Event('change', { bubbles: true }));
  }

  test('stands where the daemon says, and says so to a screen reader', async () => {
    open();
    await waitFor(() => expect(field()).toHaveValue('5m'));
    expect(slider()).toHaveValue('4');
    expect(slider()).toHaveAttribute('aria-valuetext', '5 minutes');
  });

  test('is saved where the slider is let go', async () => {
    const { backend } = open();
    await waitFor(() => expect(field()).toHaveValue('5m'));
    slide(8);
    await waitFor(() => expect(field()).toHaveValue('1h'));
    slide(0);
    await waitFor(() => expect(field()).toHaveValue('10s'));
    expect(backend.calls).toEqual(['set idle-timeout "1h"', 'set idle-timeout "10s"']);
  });

  test('takes any value that the daemon takes', async () => {
    const { backend, user } = open();
    await waitFor(() => expect(field()).toHaveValue('5m'));
    await user.clear(field());
    await user.type(field(), ' 7m ');
    await user.tab();
    await waitFor(() => expect(field()).toHaveValue('7m'));
    expect(backend.calls).toEqual(['set idle-timeout "7m"']);
    expect(slider()).toHaveAttribute('aria-valuetext', '7 minutes');
  });

  test('a refused value is explained beside the field and can be corrected', async () => {
    const { backend, user } = open();
    await waitFor(() => expect(field()).toHaveValue('5m'));
    backend.refuse = { code: 'invalid-settings', message: 'a duration from 10s to 1h', hint: '' };
    await user.clear(field());
    await user.type(field(), '2h');
    await user.tab();
    expect(await screen.findByRole('alert')).toHaveTextContent('a duration from 10s to 1h');
    expect(field()).toHaveValue('2h');
    expect(field()).toBeInvalid();
    expect(field()).toHaveAccessibleDescription('a duration from 10s to 1h');
    await user.click(field());
    await user.keyboard('{Escape}');
    await waitFor(() => expect(field()).toHaveValue('5m'));
    expect(field()).toBeValid();
  });

  test('a value that another program changed is seen when the window gets the focus', async () => {
    const { backend } = open();
    await waitFor(() => expect(field()).toHaveValue('5m'));
    await backend.setSetting('idle-timeout', '30m');
    window.dispatchEvent(new Event('focus'));
    await waitFor(() => expect(field()).toHaveValue('30m'));
  });
});

describe('the daemon', () => {
  test('is missed, can be started, and is shown again', async () => {
    const { backend, user } = open(here({ state: 'idle' }));
    backend.become(away);
    expect(await screen.findByRole('heading', { level: 1, name: 'Not connected' })).toBeVisible();
    expect(screen.getByText('no daemon is running')).toBeVisible();
    expect(screen.getByRole('switch')).toBeDisabled();
    expect(screen.queryByRole('slider')).toBeNull();
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
