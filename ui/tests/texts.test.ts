import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import type { ErrorCode } from '../src/lib/generated/model';
import { languageFor, messages, Texts } from '../src/lib/texts';

const root = join(import.meta.dirname, '../..');

/** The source files under a folder. */
function sources(folder: string, ending: RegExp): string {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => ending.test(name) && !name.includes('generated'))
    .map((name) => readFileSync(join(root, folder, name), 'utf8'))
    .join('\n');
}

const placeholders = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();

describe('the message files', () => {
  const keys = Object.keys(messages.en);

  test.each(Object.keys(messages))('%s has every text, none twice, none too many', (language) => {
    const texts = messages[language as keyof typeof messages];
    expect(Object.keys(texts)).toEqual(keys);
    expect(Object.values(texts).every((text) => text.trim().length > 0)).toBe(true);
    const written = readFileSync(join(root, `ui/messages/${language}.json`), 'utf8').match(/^ {2}"/gm) ?? [];
    expect(written.length).toBe(keys.length);
  });

  test('every translation has the placeholders of the English text', () => {
    for (const key of keys) {
      expect(placeholders(messages['zh-CN'][key] ?? ''), key).toEqual(placeholders(messages.en[key] ?? ''));
    }
  });

  test('no text is left that nothing shows', () => {
    const code = sources('ui/src', /\.(svelte|ts)$/) + sources('src-tauri/src', /\.rs$/);
    // Families whose last part comes from the daemon.
    const families = ['state', 'step', 'awake', 'page', 'problem', 'start', 'setting', 'hop', 'hop-status', 'prompt', 'work', 'usage.status'];
    const unused = keys.filter(
      (key) => !key.startsWith('said.') && !code.includes(key) && !families.some((family) => key.startsWith(`${family}.`) && code.includes(`\`${family}.$`)),
    );
    expect(unused).toEqual([]);
  });

  test('every sentence that is translated is still one of the daemon', () => {
    const programs = sources('crates', /src\/.*\.rs$/);
    const said = keys.filter((key) => key.startsWith('said.'));
    expect(said.length).toBeGreaterThan(3);
    for (const key of said) {
      // Sentences may be put together of parts, at brackets and values.
      const parts = (messages.en[key] ?? '').split(/\{\w+\}/).map((part) => part.replace(/^[^A-Za-z]+|[ (]+$/g, ''));
      for (const part of parts) expect(programs, `${key}: ${part}`).toContain(part);
    }
  });

  test('no component holds a text of its own', () => {
    for (const file of readdirSync(join(root, 'ui/src'), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.svelte')) continue;
      const source = readFileSync(join(root, 'ui/src', file), 'utf8');
      const markup = source
        .replace(/<(script|style)[\s\S]*?<\/\1>/g, '')
        .replace(/<!--[\s\S]*?-->/g, '')
        // Expressions may hold braces one level deep.
        .replace(/\{(?:[^{}]|\{[^{}]*\})*\}/g, '');
      const words = markup.replace(/<[^>]*>/g, '').match(/[A-Za-z]{2,}/g) ?? [];
      const spoken = markup.match(/(aria-label|title|placeholder)="[^"]+"/g) ?? [];
      expect([...words, ...spoken], file).toEqual([]);
    }
  });

  test('every error code of the daemon has a title', () => {
    const model = readFileSync(join(root, 'ui/src/lib/generated/model.ts'), 'utf8');
    const codes = model.match(/export type ErrorCode = (.*);/)?.[1]?.match(/"([^"]+)"/g) ?? [];
    expect(codes.length).toBeGreaterThan(15);
    const missing = codes.map((code) => `problem.${JSON.parse(code) as ErrorCode}`).filter((key) => !keys.includes(key));
    expect(missing).toEqual([]);
  });
});

describe('texts', () => {
  test.each([
    ['zh', 'zh-CN'],
    ['zh-TW', 'zh-CN'],
    ['zh_CN.UTF-8', 'zh-CN'],
    ['en-GB', 'en'],
    ['de', 'en'],
    ['zha', 'en'],
  ])('a user of %s reads %s', (tag, language) => expect(languageFor(tag)).toBe(language));

  test('durations are written as people say them', () => {
    const [english, chinese] = [new Texts('en'), new Texts('zh-CN')];
    expect([10, 60, 300, 3600, 90].map((seconds) => english.duration(seconds))).toEqual([
      '10 seconds',
      '1 minute',
      '5 minutes',
      '1 hour',
      '90 seconds',
    ]);
    expect(chinese.duration(300)).toBe('5分钟');
    expect(english.duration(300, 'narrow')).toBe('5m');
  });

  test('what the daemon says is translated with its values, and else shown as it is', () => {
    const chinese = new Texts('zh-CN');
    const note = 'The environment has 2 CPUs instead of 4: the runner has no more.';
    expect(chinese.said(note)).toBe('环境有 2 个 CPU，而非 4 个：运行器没有更多。');
    expect(new Texts('en').said(note)).toBe(note);
    expect(chinese.said('your organisation\'s policy (/etc/overside/policy.json) sets size.cpus')).toBe(
      '贵组织的策略（/etc/overside/policy.json）规定了 size.cpus',
    );
    expect(chinese.said('something new')).toBe('something new');
  });

  test('a name that only a newer daemon knows falls back', () => {
    expect(new Texts('en').maybe('awake.telepathy', 'telepathy')).toBe('telepathy');
  });
});
