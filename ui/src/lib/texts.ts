import en from '../../messages/en.json';
import chinese from '../../messages/zh-CN.json';

/** The name of a text; English has them all, so a missing one is a type error. */
export type TextKey = keyof typeof en;
export type Language = 'en' | 'zh-CN';

export const messages: Record<Language, Record<string, string>> = { en, 'zh-CN': chinese };

/** The language that we have for a user's tag. The tray chooses by the same rule, in src-tauri/src/words.rs. */
export function languageFor(tag: string): Language {
  return /^zh(?![a-z])/i.test(tag) ? 'zh-CN' : 'en';
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
