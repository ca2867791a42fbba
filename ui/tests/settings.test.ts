import { screen, waitFor, within } from '@testing-library/svelte';
import { describe, expect, test } from 'vitest';

import { MockBackend } from '../src/lib/backend/mock';
import { expectNoBarrier, open } from './open';

/** The settings page, once the daemon has told the settings. */
async function settings(backend = new MockBackend()) {
  const opened = open(backend);
  await opened.user.click(screen.getByRole('tab', { name: 'Settings' }));
  await waitFor(() => expect(screen.getByRole('textbox', { name: 'Idle timeout, any value' })).not.toHaveValue(''));
  return opened;
}

describe('the idle timeout', () => {
  const slider = () => screen.getByRole<HTMLInputElement>('slider', { name: 'Idle timeout' });
  const field = () => screen.getByRole<HTMLInputElement>('textbox', { name: 'Idle timeout, any value' });

  function slide(to: number): void {
    slider().value = String(to);
    slider().dispatchEvent(new Event('input', { bubbles: true }));
    slider().dispatchEvent(new Event('change', { bubbles: true }));
  }

  test('stands where the daemon says, and says so to a screen reader', async () => {
    await settings();
    expect(slider()).toHaveValue('4');
    expect(slider()).toHaveAttribute('aria-valuetext', '5 minutes');
  });

  test('is saved where the slider is let go', async () => {
    const { backend } = await settings();
    slide(8);
    await waitFor(() => expect(field()).toHaveValue('1h'));
    slide(0);
    await waitFor(() => expect(field()).toHaveValue('10s'));
    expect(backend.calls).toEqual(['set idle-timeout "1h"', 'set idle-timeout "10s"']);
  });

  test('takes any value that the daemon takes', async () => {
    const { backend, user } = await settings();
    await user.clear(field());
    await user.type(field(), ' 7m ');
    await user.tab();
    await waitFor(() => expect(field()).toHaveValue('7m'));
    expect(backend.calls).toEqual(['set idle-timeout "7m"']);
    expect(slider()).toHaveAttribute('aria-valuetext', '7 minutes');
  });

  test('a refused value is explained beside the field and can be corrected', async () => {
    const { backend, user } = await settings();
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
    const { backend } = await settings();
    await backend.setSetting('idle-timeout', '30m');
    window.dispatchEvent(new Event('focus'));
    await waitFor(() => expect(field()).toHaveValue('30m'));
  });
});

describe('a setting', () => {
  test.each([
    ['Docker context', 'context.select', false],
    ['Default Docker socket', 'default-socket', true],
    ['Start at login', 'start-at-login', true],
    ['Notifications', 'notifications', false],
  ])('%s is switched at once', async (label, name, value) => {
    const { backend, user } = await settings();
    await user.click(screen.getByRole('switch', { name: label }));
    await waitFor(() => expect(screen.getByRole('switch', { name: label }).ariaChecked).toBe(String(value)));
    expect(backend.calls).toEqual([`set ${name} ${value}`]);
  });

  test.each([
    ['Grace period', '1m', 'set grace-period "1m"'],
    ['CPUs', '2', 'set size.cpus "2"'],
    ['Memory', '4GiB', 'set size.memory "4GiB"'],
    ['Price of an hour', '0.12', 'set price-per-hour "0.12"'],
    ['Always count', 'make, tilt', 'set pollers.always-count "make, tilt"'],
  ])('%s takes what is typed', async (label, text, call) => {
    const { backend, user } = await settings();
    const field = screen.getByRole('textbox', { name: label });
    await user.clear(field);
    await user.type(field, text);
    await user.tab();
    await waitFor(() => expect(field).toHaveValue(text));
    expect(backend.calls).toEqual([call]);
  });

  test('a refusal stands beside its own field alone', async () => {
    const { backend, user } = await settings();
    backend.refuse = { code: 'invalid-settings', message: 'a size from 128MiB to 64TiB', hint: '' };
    const memory = screen.getByRole('textbox', { name: 'Memory' });
    await user.clear(memory);
    await user.type(memory, '1MiB');
    await user.tab();
    await waitFor(() => expect(memory).toHaveAccessibleDescription('a size from 128MiB to 64TiB'));
    expect(screen.getAllByRole('alert')).toHaveLength(1);
    expect(screen.getByRole('textbox', { name: 'CPUs' })).toBeValid();
    await expectNoBarrier();
  });

  test('a switch that is refused stays where it was, and says why', async () => {
    const { backend, user } = await settings();
    backend.refuse = { code: 'policy', message: 'not on this computer', hint: '' };
    const socket = screen.getByRole('switch', { name: 'Default Docker socket' });
    await user.click(socket);
    expect(await screen.findByRole('alert')).toHaveTextContent('not on this computer');
    expect(socket).not.toBeChecked();
  });
});

describe('the policy', () => {
  test('locks a value, and its reason stands beside it', async () => {
    const backend = new MockBackend();
    backend.locked = { 'idle-timeout': '10m', 'size.memory': '4GiB', notifications: false, language: 'en', runner: 'local' };
    await settings(backend);
    const locked = [
      screen.getByRole('slider', { name: 'Idle timeout' }),
      screen.getByRole('textbox', { name: 'Idle timeout, any value' }),
      screen.getByRole('textbox', { name: 'Memory' }),
      screen.getByRole('switch', { name: 'Notifications' }),
      screen.getByRole('combobox', { name: 'Language' }),
      await screen.findByRole('radio', { name: /office/ }),
    ];
    for (const each of locked) expect(each).toBeDisabled();
    expect(screen.getByRole('textbox', { name: 'CPUs' })).toBeEnabled();
    expect(screen.getByRole('textbox', { name: 'Memory' })).toHaveAccessibleDescription(
      /Locked: your organisation's policy \(\/etc\/overside\/policy\.json\) sets size\.memory/,
    );
    await expectNoBarrier();
  });

  test('that limits a value says so and lets it be changed', async () => {
    const backend = new MockBackend();
    const own = await backend.settings();
    const rule = "your organisation's policy allows an idle-timeout of at most 15m";
    backend.settings = async () => ({ ...own, 'idle-timeout': { ...own['idle-timeout']!, rule } });
    await settings(backend);
    const slider = screen.getByRole('slider', { name: 'Idle timeout' });
    expect(slider).toBeEnabled();
    expect(slider).toHaveAccessibleDescription(/Limited: your organisation's policy allows/);
  });

  test('is said once where a refused value is told the same', async () => {
    const backend = new MockBackend();
    const own = await backend.settings();
    const rule = "your organisation's policy allows an idle-timeout of at most 15m";
    backend.settings = async () => ({ ...own, 'idle-timeout': { ...own['idle-timeout']!, rule } });
    const { user } = await settings(backend);
    backend.refuse = { code: 'policy', message: rule, hint: '' };
    const field = screen.getByRole('textbox', { name: 'Idle timeout, any value' });
    await user.clear(field);
    await user.type(field, '1h');
    await user.tab();
    expect(await screen.findByRole('alert')).toHaveTextContent(rule);
    expect(screen.getAllByText(rule)).toHaveLength(1);
    expect(field).toHaveAccessibleDescription(rule);
  });

  test('that keeps Overside on or off takes the switch away, and says so', async () => {
    const backend = new MockBackend();
    backend.locked = { enabled: false };
    open(backend);
    const toggle = screen.getByRole('switch', { name: 'Overside' });
    await waitFor(() => expect(toggle).toBeDisabled());
    expect(toggle).toHaveAccessibleDescription(/sets enabled/);
  });
});

describe('the runner', () => {
  test('is chosen at once', async () => {
    const { backend, user } = await settings();
    await user.click(await screen.findByRole('radio', { name: /office/ }));
    await waitFor(() => expect(screen.getByRole('radio', { name: /office/ })).toBeChecked());
    expect(backend.calls).toEqual(['set runner "office"']);
  });

  test('that cannot be chosen says why, and the one before stays', async () => {
    const { backend, user } = await settings();
    const office = await screen.findByRole('radio', { name: /office/ });
    backend.refuse = { code: 'policy', message: 'the policy does not allow the runner "office"', hint: '' };
    await user.click(office);
    expect(await screen.findByRole('alert')).toHaveTextContent('does not allow the runner');
    expect(screen.getByRole('radio', { name: /This computer/ })).toBeChecked();
  });

  test('is tested hop by hop: what failed has its next step, what is behind it was not tried', async () => {
    const { user } = await settings();
    await user.click(await screen.findByRole('button', { name: 'Test office' }));
    expect(await screen.findByText('Something on the way does not work.')).toBeVisible();
    const hops = screen.getAllByRole('listitem');
    expect(hops.map((hop) => hop.dataset.status)).toEqual(['passed', 'failed', 'skipped']);
    expect(within(hops[1]!).getByText('Start the SSH server there.')).toBeVisible();
    expect(hops[1]).toHaveTextContent('does not work');
    await expectNoBarrier();
  });

  test('is added from the hosts of the SSH configuration: its key is asked for, then the way to it is tested', async () => {
    const { backend, user } = await settings();
    await user.click(await screen.findByRole('button', { name: /Add a machine by SSH/ }));
    await user.click(await screen.findByRole('button', { name: 'build-box' }));
    expect(screen.getByRole('textbox', { name: /Name/ })).toHaveValue('build-box');
    await expectNoBarrier();
    await user.click(screen.getByRole('button', { name: 'Add and test' }));
    expect(await screen.findByRole('heading', { name: 'Is this the key of build-box?' })).toBeVisible();
    expect(screen.getByText(/^SHA256:/)).toBeVisible();
    await expectNoBarrier();
    await user.click(screen.getByRole('button', { name: 'It is: trust it' }));
    expect(await screen.findByText('Everything on the way works.')).toBeVisible();
    expect(backend.calls).toEqual([
      'add build-box ssh://build-box',
      'answer build-box host-key',
      'test build-box',
    ]);
    // Added is not chosen.
    expect(screen.getByRole('radio', { name: /This computer/ })).toBeChecked();
  });

  test('whose key nobody vouches for is not kept', async () => {
    const { backend, user } = await settings();
    await user.click(await screen.findByRole('button', { name: /Add a machine by SSH/ }));
    await user.type(screen.getByRole('textbox', { name: /Host/ }), 'ada@Build.Box:2222');
    expect(screen.getByRole('textbox', { name: /Name/ })).toHaveValue('build-box');
    await user.click(screen.getByRole('button', { name: 'Add and test' }));
    await screen.findByRole('heading', { name: /Is this the key/ });
    await user.click(screen.getByRole('button', { name: 'Cancel' }));
    await waitFor(() => expect(screen.queryByRole('radio', { name: /build-box/ })).toBeNull());
    expect(backend.calls).toEqual(['add build-box ssh://ada@Build.Box:2222', 'remove build-box']);
  });

  test('a passphrase is asked for until one fits, and is in no field afterwards', async () => {
    const { backend, user } = await settings();
    backend.questions = [{ question: 'passphrase', key: '/home/ada/.ssh/id_ed25519' }];
    await user.click(await screen.findByRole('button', { name: /Add a machine by SSH/ }));
    await user.type(screen.getByRole('textbox', { name: /Host/ }), 'farm');
    await user.click(screen.getByRole('button', { name: 'Add and test' }));
    const field = await screen.findByLabelText('Passphrase of the SSH key', { selector: 'input' });
    await expectNoBarrier();
    backend.refuse = { code: 'key-locked', message: 'this passphrase does not open the key', hint: '' };
    await user.type(field, 'wrong{Enter}');
    expect(await screen.findByRole('alert')).toHaveTextContent('does not open the key');
    expect(field).toHaveValue('');
    await user.type(field, 'sesame{Enter}');
    expect(await screen.findByText('Everything on the way works.')).toBeVisible();
    expect(screen.queryByRole('alert')).toBeNull();
  });

  test('a passphrase that no keyring keeps opens the key all the same', async () => {
    const { backend, user } = await settings();
    backend.questions = [{ question: 'passphrase', key: '/home/ada/.ssh/id_ed25519' }];
    backend.notKept = { code: 'keyring-unavailable', message: 'there is no Secret Service here', hint: 'Use ssh-add.' };
    await user.click(await screen.findByRole('button', { name: /Add a machine by SSH/ }));
    await user.type(screen.getByRole('textbox', { name: /Host/ }), 'farm');
    await user.click(screen.getByRole('button', { name: 'Add and test' }));
    const field = await screen.findByLabelText('Passphrase of the SSH key', { selector: 'input' });
    await user.click(screen.getByRole('checkbox', { name: /keyring/ }));
    await user.type(field, 'sesame{Enter}');
    expect(await screen.findByText('Everything on the way works.')).toBeVisible();
    expect(screen.getByRole('alert')).toHaveTextContent('there is no Secret Service here');
  });

  test('that cannot be added keeps what was typed, and says why', async () => {
    const { backend, user } = await settings();
    await user.click(await screen.findByRole('button', { name: /Add a machine by SSH/ }));
    await user.type(screen.getByRole('textbox', { name: /Host/ }), 'farm');
    backend.refuse = { code: 'invalid-settings', message: 'there is a runner "farm" already', hint: '' };
    await user.click(screen.getByRole('button', { name: 'Add and test' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('there is a runner "farm" already');
    expect(screen.getByRole('textbox', { name: /Host/ })).toHaveValue('farm');
  });

  test('that was added is removed, and what is left on it is told', async () => {
    const { backend, user } = await settings();
    backend.removeRunner = async () => ({ code: 'runner-unreachable', message: 'office does not answer', hint: '' });
    await user.click(await screen.findByRole('button', { name: 'Remove office' }));
    expect(await screen.findByText(/may be left on it: office does not answer/)).toBeVisible();
    expect(screen.queryByRole('button', { name: 'Remove This computer' })).toBeNull();
  });

  test('a daemon that knows no runners says so', async () => {
    const backend = new MockBackend();
    const problem = { code: 'unknown-name', message: 'no such call', hint: 'Restart the daemon.' } as const;
    backend.runners = () => Promise.reject(problem);
    await settings(backend);
    expect(await screen.findByRole('alert')).toHaveTextContent('Restart the daemon.');
  });

  test('a test that cannot be made says why', async () => {
    const { backend, user } = await settings();
    backend.refuse = { code: 'unknown-name', message: 'there is no runner "office"', hint: '' };
    await user.click(await screen.findByRole('button', { name: 'Test office' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('there is no runner "office"');
  });
});
