import { screen, waitFor, within } from '@testing-library/svelte';
import { describe, expect, test } from 'vitest';

import { example } from '../src/lib/backend/mock';
import { MockUsage } from '../src/lib/backend/mock_usage';
import { labelled, ticks } from '../src/lib/chart';
import { messages, Texts, type Language } from '../src/lib/texts';
import { away, expectNoBarrier, here, open } from './open';

const TODAY = new Date('2026-11-25T12:00:00Z');

/** The usage page over a ledger: by default nine days, of which the last but one is beyond the limit. */
async function usage(ledger = new MockUsage(TODAY, [0, 600, 7200, 0, 3600, 60, 0, 30_000, 5400]), language: Language = 'en') {
  const backend = here({ state: 'idle' });
  backend.usage = ledger;
  const { user } = open(backend, language);
  await user.click(screen.getByRole('tab', { name: messages[language]['page.usage'] ?? '' }));
  await screen.findByRole('radiogroup');
  return { backend, user };
}

const bars = () => [...document.querySelectorAll('rect.used')];
const rows = () => within(screen.getByRole('table')).getAllByRole('row').slice(1);
const figure = (name: string) => screen.getByText(name).nextElementSibling;

describe('the chart', () => {
  test('has a bar for each day with use, and what is beyond the limit stands out', async () => {
    await usage();
    expect(bars()).toHaveLength(5);
    expect(document.querySelectorAll('rect.over')).toHaveLength(1);
    expect(screen.getByText('limit 8h')).toBeInTheDocument();
    expect(figure('Last 7 days')).toHaveTextContent('12h 51m');
    expect(figure('Days over the limit')).toHaveTextContent('1');
    expect(figure('Average per used day')).toHaveTextContent('2h 34m');
  });

  test('shows a week, a month and a year', async () => {
    const { backend, user } = await usage(new MockUsage(TODAY));
    for (const [name, days] of [
      ['Month', 30],
      ['Year', 365],
      ['Week', 7],
    ] as const) {
      await user.click(screen.getByRole('radio', { name }));
      expect(await screen.findByText(`Last ${days} days`)).toBeVisible();
      expect(backend.calls).toContain(`days ${days}`);
      await waitFor(() => expect(screen.getByRole('slider')).toHaveAttribute('aria-valuemax', String(days - 1)));
    }
    await user.click(screen.getByRole('radio', { name: 'Year' }));
    await waitFor(() => expect(bars()).toHaveLength(365 - 52));
  });

  test('is read day by day with the arrow keys, and Enter shows the sessions of one', async () => {
    const { user } = await usage();
    const chart = screen.getByRole('slider', { name: messages.en['usage.chart'] ?? '' });
    expect(chart).toHaveAttribute('aria-valuetext', 'Wed, 25 Nov 2026: 1h 30m · 0.18');
    chart.focus();
    await user.keyboard('{ArrowLeft}');
    expect(chart).toHaveAttribute('aria-valuetext', 'Tue, 24 Nov 2026: 8h 20m · 1.00');
    await user.keyboard('{Home}{PageDown}');
    expect(chart).toHaveAttribute('aria-valuetext', 'Thu, 19 Nov 2026: 2h · 0.24');
    await user.keyboard('{ArrowRight}');
    expect(chart).toHaveAttribute('aria-valuetext', 'Fri, 20 Nov 2026: nothing used');
    await user.keyboard('{End}{ArrowLeft}{Enter}');
    await waitFor(() => expect(rows()).toHaveLength(1));
    expect(screen.getByRole('textbox', { name: 'From' })).toHaveValue('2026-11-24');
    await user.keyboard('{Enter}');
    await waitFor(() => expect(rows().length).toBeGreaterThan(1));
  });

  test('costs are left out where no price is known', async () => {
    const ledger = new MockUsage(TODAY, [60, 7200]);
    ledger.price = null;
    await usage(ledger);
    expect(screen.getByRole('slider')).toHaveAttribute('aria-valuetext', 'Wed, 25 Nov 2026: 2h');
    expect(screen.queryByText('Cost')).toBeNull();
  });

  test.each([
    [28_800, [0, 7200, 14_400, 21_600, 28_800]],
    [30_000, [0, 7200, 14_400, 21_600, 28_800, 36_000]],
    [86_400, [0, 21_600, 43_200, 64_800, 86_400]],
    [1800, [0, 900, 1800]],
    [0, [0, 60]],
  ])('an axis for %d s has lines at %j', (highest, lines) => expect(ticks(highest)).toEqual(lines));

  test('labels do not crowd', () => {
    const days = (count: number) =>
      Array.from({ length: count }, (_, index) => new Date(Date.UTC(2026, 10, 25 - count + 1 + index)).toISOString().slice(0, 10));
    expect(labelled(days(7))).toHaveLength(7);
    expect(labelled(days(30))).toEqual([4, 9, 14, 19, 24, 29]);
    expect(labelled(days(365))).toHaveLength(12);
  });
});

describe('the sessions', () => {
  test('are listed with what they ran and how they ended', async () => {
    await usage();
    expect(rows()).toHaveLength(6);
    const newest = within(rows()[0] ?? document.body);
    expect(newest.getByText('goes on')).toBeVisible();
    expect(newest.getByText('node:22-alpine, postgres:17')).toBeVisible();
    expect(screen.getByText(/^6 sessions, 13h 1m/)).toBeVisible();
  });

  test('are narrowed by text, runner, end and days, and shown all again', async () => {
    const { backend, user } = await usage();
    await user.type(screen.getByRole('searchbox'), 'redis');
    await waitFor(() => expect(rows()).toHaveLength(1));
    expect(backend.calls).toContain('sessions {"text":"redis","limit":50}');
    await user.click(screen.getByRole('button', { name: 'Show all' }));
    await waitFor(() => expect(rows()).toHaveLength(6));
    await user.selectOptions(screen.getByRole('combobox', { name: 'Runner' }), 'local');
    await waitFor(() => expect(rows()).toHaveLength(3));
    await user.selectOptions(screen.getByRole('combobox', { name: 'Ended' }), 'stopped');
    expect(await screen.findByText('No session fits.')).toBeVisible();
    await user.click(screen.getByRole('button', { name: 'Show all' }));
    await user.type(screen.getByRole('textbox', { name: 'From' }), '2026-11-24');
    await user.tab();
    await waitFor(() => expect(rows()).toHaveLength(2));
  });

  test('a day that is none is refused beside the fields, and what was typed stays', async () => {
    const { backend, user } = await usage();
    backend.refuse = { code: 'request-refused', message: '"yesterday" is not a day', hint: 'Write it as 2026-11-21.' };
    await user.type(screen.getByRole('textbox', { name: 'From' }), 'yesterday');
    await user.tab();
    expect(await screen.findByRole('alert')).toHaveTextContent('"yesterday" is not a day');
    expect(screen.getByRole('textbox', { name: 'From' })).toHaveValue('yesterday');
  });

  test('an answer that comes too late does not replace a later one', async () => {
    const { backend, user } = await usage();
    const real = backend.usageSessions.bind(backend);
    let release = (): void => undefined;
    backend.usageSessions = async (query) => {
      const answer = await real(query);
      if (query.text === 'r') await new Promise<void>((resolve) => (release = resolve));
      return answer;
    };
    await user.type(screen.getByRole('searchbox'), 'redis');
    await waitFor(() => expect(rows()).toHaveLength(1));
    release();
    await new Promise((resolve) => setTimeout(resolve));
    expect(rows()).toHaveLength(1);
  });

  test('come in portions', async () => {
    const { user } = await usage(new MockUsage(TODAY));
    await waitFor(() => expect(rows()).toHaveLength(50));
    await user.click(screen.getByRole('button', { name: 'Show more' }));
    await waitFor(() => expect(rows()).toHaveLength(100));
  });

  test('are saved as CSV, and the path is shown', async () => {
    const { backend, user } = await usage();
    await user.click(screen.getByRole('button', { name: 'Save as CSV' }));
    expect(await screen.findByText(/Downloads\/overside-usage-.*\.csv$/)).toBeVisible();
    backend.refuse = { code: 'disk-full', message: 'the file cannot be written', hint: 'Make room.' };
    await user.click(screen.getByRole('button', { name: 'Save as CSV' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('Make room.');
    expect(screen.queryByText(/Downloads/)).toBeNull();
  });
});

describe('the page', () => {
  test('says so where nothing was used yet', async () => {
    await usage(new MockUsage(TODAY, []));
    expect(await screen.findByText(messages.en['usage.none'] ?? '')).toBeVisible();
    expect(screen.getByText('There was no session yet.')).toBeVisible();
    expect(screen.queryByRole('slider')).toBeNull();
    await expectNoBarrier();
  });

  test('tells what is wrong with the ledger', async () => {
    const ledger = new MockUsage(TODAY, [60]);
    ledger.problem = { code: 'disk-full', message: 'the usage ledger cannot be written', hint: 'Make room.' };
    await usage(ledger);
    expect(await screen.findByText('the usage ledger cannot be written')).toBeVisible();
  });

  test('asks anew when the session changes and when the window is looked at again', async () => {
    const { backend } = await usage();
    const asked = () => backend.calls.filter((call) => call.startsWith('days')).length;
    const before = asked();
    backend.become({ kind: 'here', status: example('running') });
    await waitFor(() => expect(asked()).toBe(before + 1));
    window.dispatchEvent(new Event('focus'));
    await waitFor(() => expect(asked()).toBe(before + 2));
  });

  test.each(['en', 'zh-CN'] as const)('has no barrier that axe knows in %s', async (language) => {
    const { user } = await usage(new MockUsage(TODAY), language);
    await expectNoBarrier();
    await user.type(screen.getByRole('searchbox'), 'nothing like it');
    await expectNoBarrier();
  });
});

describe('texts', () => {
  const [english, chinese] = [new Texts('en'), new Texts('zh-CN')];

  test('days are written as people say them', () => {
    expect((['weekday', 'day', 'month', 'full'] as const).map((form) => english.day('2026-11-21', form))).toEqual([
      'Sat 21',
      '21 Nov',
      'Nov',
      'Sat, 21 Nov 2026',
    ]);
    expect(chinese.day('2026-11-21', 'day')).toBe('11月21日');
    expect(english.day('someday', 'day')).toBe('someday');
  });

  test('a small cost does not become nothing', () => {
    expect([0, 0.0012, 0.5, 1234.5].map((amount) => english.cost(amount))).toEqual(['0.00', '0.0012', '0.50', '1,234.50']);
  });
});

test('a daemon that goes away leaves the page empty', async () => {
  const { backend } = await usage();
  backend.become(away);
  await waitFor(() => expect(screen.getByRole('tabpanel')).toBeEmptyDOMElement());
});
