import en from '../../messages/en.json';
import chinese from '../../messages/zh-CN.json';
import type { ErrorCode, Hop, Problem } from './generated/model';

/** The name of a text; English has them all, so a missing one is a type error. */
export type TextKey = keyof typeof en;
export type Language = 'en' | 'zh-CN';

export const messages: Record<Language, Record<string, string>> = { en, 'zh-CN': chinese };

/** The language that we have for a user's tag. The tray chooses by the same rule, in src-tauri/src/words.rs. */
export function languageFor(tag: string): Language {
  return /^zh(?![a-z])/i.test(tag) ? 'zh-CN' : 'en';
}

/** A problem or a hop in the words of a language. */
export interface Told {
  /** What it is. */
  message: string;
  /** What to do next; empty where there is nothing to do. */
  next: string;
  /** The daemon's own English sentences, where they say more than the message files can. */
  details: string | null;
}

/** How a user is named: in one word, and by number. */
const USER = '\\S+(?: \\(uid \\d+\\))?';

/** What the daemon says in English and the message files have as well, with a group for each placeholder. */
const SAID = (Object.keys(en) as TextKey[])
  .filter((key) => key.startsWith('said.'))
  .map((key) => {
    const pattern = en[key]
      .replace(/[.*+?^$|()[\]\\]/g, '\\$&')
      .replace(/\{(\w+)\}/g, (_, name: string) => `(?<${name}>${name === 'user' ? USER : '.+'})`);
    return [key, new RegExp(`^${pattern}$`)] as const;
  });

function inEnglish({ message, hint }: Problem): string {
  return hint ? `${message}. ${hint}` : message;
}

/** The texts and number formats of one language. */
export class Texts {
  constructor(readonly language: Language) {}

  /** A text, with its `{placeholders}` filled in. */
  text(key: TextKey, values: Record<string, string | number> = {}): string {
    const template = messages[this.language][key] ?? en[key];
    return template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
  }

  /** A text whose name comes from the daemon, which may be newer than this page: then the fallback. */
  maybe(key: string, fallback: string): string {
    return key in en ? this.text(key as TextKey) : fallback;
  }

  /** A sentence of the daemon's in this language; as it was said where the message files do not have it. */
  said(sentence: string): string {
    return this.known(sentence) ?? sentence;
  }

  /** The title of a problem, by its code; one that only a newer daemon knows has none. */
  title(code: ErrorCode): string | null {
    // A code without a text is a type error here.
    const key = `problem.${code}` satisfies TextKey;
    return key in en ? this.text(key) : null;
  }

  /**
   * A problem below its title. The daemon speaks English; in another language its sentences are what the message files have of
   * them, or else the next step by the problem's code, with the sentences themselves as details.
   */
  problem(problem: Problem): Told {
    const next = this.maybe(`problem.${problem.code}.next` satisfies TextKey, '');
    const known = this.known(problem.message);
    if (this.language === 'en') return { message: problem.message, next: problem.hint || next, details: null };
    if (known) return { message: known, next: this.known(problem.hint) ?? next, details: null };
    return { message: '', next, details: inEnglish(problem) };
  }

  /** A problem in one line, without a title above it. */
  refusal(problem: Problem): string {
    const told = this.problem(problem);
    return told.message || this.text('problem.in-one', { title: this.title(problem.code) ?? problem.message, next: told.next });
  }

  /** What was found of a hop. */
  hop(hop: Hop): Told {
    if (this.language === 'en' || this.known(hop.detail) || !hop.code) {
      return { message: this.said(hop.detail), next: this.said(hop.hint), details: null };
    }
    const told = this.problem({ code: hop.code, message: hop.detail, hint: hop.hint });
    return { ...told, message: this.title(hop.code) ?? '' };
  }

  /** An amount of time as people tell it: "2h 5m", "41m", "12s". Of what is longer than a minute the seconds are left out. */
  span(seconds: number): string {
    const unit = (value: number, name: string) =>
      new Intl.NumberFormat(this.language, { style: 'unit', unit: name, unitDisplay: 'narrow' }).format(value);
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    if (hours > 0) return minutes > 0 ? `${unit(hours, 'hour')} ${unit(minutes, 'minute')}` : unit(hours, 'hour');
    return minutes > 0 ? unit(minutes, 'minute') : unit(Math.floor(seconds), 'second');
  }

  /** A day, `2026-11-21`: "Sat 21" in a week, "21 Nov" among others, "Nov" for its month, or in full. */
  day(day: string, form: 'weekday' | 'day' | 'month' | 'full'): string {
    const parts: Record<typeof form, Intl.DateTimeFormatOptions> = {
      weekday: { weekday: 'short', day: 'numeric' },
      day: { day: 'numeric', month: 'short' },
      month: { month: 'short' },
      full: { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' },
    };
    const date = new Date(`${day}T00:00:00Z`);
    // The daemon has the last word on what a day is; this page's zone must not move it.
    return Number.isNaN(date.getTime()) ? day : this.date({ ...parts[form], timeZone: 'UTC' }).format(date);
  }

  /** A moment in the page's time zone, to the minute. */
  moment(moment: string): string {
    const date = new Date(moment);
    const parts = { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' } as const;
    return Number.isNaN(date.getTime()) ? moment : this.date({ ...parts, hourCycle: 'h23' }).format(date);
  }

  /** A moment in the page's time zone, to the second, as logs have it. */
  second(moment: string): string {
    const date = new Date(moment);
    const parts = { day: '2-digit', month: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit' } as const;
    return Number.isNaN(date.getTime()) ? moment : this.date({ ...parts, hourCycle: 'h23' }).format(date);
  }

  /** A number of bytes: "512 B", "3.1 MB". */
  size(bytes: number): string {
    const units = ['B', 'kB', 'MB', 'GB', 'TB'];
    const step = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), units.length - 1);
    const number = new Intl.NumberFormat(this.language, { maximumFractionDigits: step > 0 ? 1 : 0 }).format(bytes / 1000 ** step);
    // Not broken into two lines.
    return `${number}\u00a0${units[step]}`;
  }

  /** An amount of money, in whichever currency the price is; a small one does not become nothing. */
  cost(amount: number): string {
    const digits = amount > 0 && amount < 0.01 ? 4 : 2;
    return new Intl.NumberFormat(this.language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(amount);
  }

  /** A sentence of the daemon's, if the message files have it; so may what is filled in. */
  private known(sentence: string): string | null {
    if (this.language === 'en') return sentence;
    for (const [key, pattern] of SAID) {
      const groups = pattern.exec(sentence)?.groups;
      if (groups) return this.text(key, Object.fromEntries(Object.entries(groups).map(([name, value]) => [name, this.said(value)])));
      if (pattern.test(sentence)) return this.text(key);
    }
    return null;
  }

  private date(parts: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
    // Day before month, which everybody who reads English understands.
    return new Intl.DateTimeFormat(this.language === 'en' ? 'en-GB' : this.language, parts);
  }

  /** "5 minutes" (long) or "5m" (narrow): the largest unit that divides the seconds. */
  duration(seconds: number, style: 'long' | 'narrow' = 'long'): string {
    const [value, unit] =
      seconds >= 3600 && seconds % 3600 === 0
        ? ([seconds / 3600, 'hour'] as const)
        : seconds >= 60 && seconds % 60 === 0
          ? ([seconds / 60, 'minute'] as const)
          : ([seconds, 'second'] as const);
    return new Intl.NumberFormat(this.language, { style: 'unit', unit, unitDisplay: style }).format(value);
  }
}
