import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import type { ErrorCode, Hop } from '../src/lib/generated/model';
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
    const families = ['state', 'step', 'awake', 'page', 'problem', 'start', 'setting', 'hop', 'hop-status', 'prompt', 'work', 'usage.status', 'mounts.state'];
    const unused = keys.filter(
      (key) => !key.startsWith('said.') && !code.includes(key) && !families.some((family) => key.startsWith(`${family}.`) && code.includes(`\`${family}.$`)),
    );
    expect(unused).toEqual([]);
  });

  test('every sentence that is translated is still one of the daemon', () => {
    const programs = sources('crates', /src\/.*\.rs$/).replace(/\\\n\s+/g, '');
    const said = keys.filter((key) => key.startsWith('said.'));
    expect(said.length).toBeGreaterThan(3);
    const gone: string[] = [];
    for (const key of said) {
      // Sentences may be put together of parts, at brackets and values.
      const parts = (messages.en[key] ?? '').split(/\{\w+\}/).map((part) => part.replace(/^[^A-Za-z]+|[ (;]+$/g, ''));
      gone.push(...parts.filter((part) => !programs.includes(part)).map((part) => `${key}: ${part}`));
    }
    expect(gone).toEqual([]);
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

  test('every error code of the daemon has a title and a next step', () => {
    const model = readFileSync(join(root, 'ui/src/lib/generated/model.ts'), 'utf8');
    const codes = model.match(/export type ErrorCode = (.*);/)?.[1]?.match(/"([^"]+)"/g) ?? [];
    expect(codes.length).toBeGreaterThan(15);
    const wanted = codes.map((code) => `problem.${JSON.parse(code) as ErrorCode}`).flatMap((key) => [key, `${key}.next`]);
    for (const texts of Object.values(messages)) {
      expect(wanted.filter((key) => !(key in texts))).toEqual([]);
    }
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
    const held = 'src/readme: the file system of this machine takes it for the same name as';
    expect(chinese.said(`${held} README; it stays in the environment`)).toContain('与 README 视为同名');
    expect(chinese.said(`${held} another one; it stays in the environment`)).toContain('与另一个名称视为相同');
    expect(chinese.said('something new')).toBe('something new');
    expect(chinese.said('no space left on device')).toBe('no space left on device');
    expect(chinese.said('/a b is empty on this machine, and is not synced until you decide')).toBe('/a b 在本机已清空，在您决定之前不再同步');
  });

  const hop = (detail: string, more: Partial<Hop> = {}): Hop => ({
    name: 'runner',
    status: 'passed',
    detail,
    hint: '',
    code: null,
    took_ms: 1,
    ...more,
  });

  test.each([
    ['overside 0.1.0 answers', 'overside 0.1.0 有响应'],
    ['dockerd 28.5.2 answers', 'dockerd 28.5.2 有响应'],
    ['as root, in namespaces of its own; 2 CPUs, 7.8 GiB', '以 root 身份在独立命名空间中运行；2 个 CPU，7.8 GiB'],
    [
      'by sudo, as root, in namespaces of its own; 2 CPUs, 7.8 GiB, cgroups v2',
      '通过 sudo，以 root 身份在独立命名空间中运行；2 个 CPU，7.8 GiB，cgroups v2',
    ],
    [
      'as an ordinary user, rootless; 2 CPUs, 7.8 GiB (not as root: sudo wants a password of ann)',
      '以普通用户身份无 root 运行；2 个 CPU，7.8 GiB（不以 root 身份：sudo 要求输入 ann 的密码）',
    ],
    ['ann (uid 1000) on Linux x86_64, 3.4 GiB free', 'ann (uid 1000)，系统 Linux x86_64，可用空间 3.4 GiB'],
    ['docker uses the context "overside", which leads here', 'docker 使用上下文 "overside"，它指向这里'],
    ['10.0.0.3, 10.0.0.4', '10.0.0.3, 10.0.0.4'],
  ])('the hop that is %s is told in the language of the page, put together as it is', (detail, told) => {
    expect(new Texts('zh-CN').hop(hop(detail))).toEqual({ message: told, next: '', details: null });
    expect(new Texts('en').hop(hop(detail)).message).toBe(detail);
  });

  test('what only the daemon can say is told by its code, with the daemon’s words as details', () => {
    const [message, hint] = ['cannot connect to port 22 of office: Connection refused', 'Check that the machine is on.'];
    const failed = hop(message, { status: 'failed', hint, code: 'runner-unreachable' });
    const next = '请检查网络，并确认该机器已开机、SSH 服务有响应。';
    const details = `${message}. ${hint}`;
    const [english, chinese] = [new Texts('en'), new Texts('zh-CN')];
    expect(chinese.hop(failed)).toEqual({ message: '无法连接运行器', next, details });
    expect(english.hop(failed)).toEqual({ message, next: hint, details: null });
    const problem = { code: 'runner-unreachable', message, hint } as const;
    expect(chinese.problem(problem)).toEqual({ message: '', next, details });
    expect(chinese.refusal(problem)).toBe(`无法连接运行器。${next}`);
    expect(english.refusal(problem)).toBe(message);
  });

  test('a refused value is told with its range', () => {
    const message = 'idle-timeout cannot be 2h: a duration from 10s to 1h, such as 5m';
    expect(new Texts('zh-CN').refusal({ code: 'invalid-settings', message, hint: '' })).toBe(
      'idle-timeout 不能是 2h：应为 10s 到 1h 的时长，例如 5m',
    );
  });

  test('a name that only a newer daemon knows falls back', () => {
    expect(new Texts('en').maybe('awake.telepathy', 'telepathy')).toBe('telepathy');
  });
});
