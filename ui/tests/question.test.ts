import { render, screen } from '@testing-library/svelte';
import userEvent from '@testing-library/user-event';
import { describe, expect, test } from 'vitest';

import type { MockBackend } from '../src/lib/backend/mock';
import type { PromptReason } from '../src/lib/generated/model';
import Question from '../src/Question.svelte';
import { messages } from '../src/lib/texts';
import { expectNoBarrier, here } from './open';

function ask(reason: PromptReason, language: 'en' | 'zh-CN' = 'en'): MockBackend {
  const backend = here({ state: 'running', prompt: { reason, answer_within_seconds: 110 } });
  render(Question, { props: { backend, shell: { language, chosen: 'system', asks: true, version: '0.1.0' } } });
  return backend;
}

describe('the window that only asks', () => {
  test.each(['inactivity', 'long-session'] as const)('says why: %s', async (reason) => {
    ask(reason);
    expect(screen.getByRole('heading', { name: messages.en[`prompt.${reason}`] })).toBeVisible();
    expect(screen.getByRole('timer')).toHaveTextContent('1:50');
    await expectNoBarrier();
  });

  test.each([
    ['Ask me again later', 'later'],
    ['Idle now', 'idle'],
  ])('passes on the answer "%s"', async (name, call) => {
    const backend = ask('inactivity');
    await userEvent.setup().click(screen.getByRole('button', { name }));
    expect(backend.calls).toContain(call);
  });

  test('says why an answer was refused', async () => {
    const backend = ask('inactivity');
    backend.refuse = { code: 'request-refused', message: 'there is nothing to suspend', hint: '' };
    await userEvent.setup().click(screen.getByRole('button', { name: 'Idle now' }));
    expect(await screen.findByText('there is nothing to suspend')).toBeVisible();
  });

  test('speaks Chinese', () => {
    ask('inactivity', 'zh-CN');
    expect(screen.getByRole('button', { name: messages['zh-CN']['prompt.later'] })).toBeVisible();
  });
});
