import type { Problem } from './generated/model';
import type { Overside } from './overside.svelte';

/** The id of a setting's control; those of its help, its problem and its rule begin with it. */
export function fieldId(name: string): string {
  return name.replaceAll('.', '-');
}

/** The ids of what a screen reader reads after a setting's control: why it was refused, or what it does; and the policy's rule. */
export function describedBy(overside: Overside, name: string, problem: Problem | null): string {
  const id = fieldId(name);
  const rule = ruleBeside(overside, name, problem) ? ` ${id}-rule` : '';
  return `${id}-${problem ? 'problem' : 'help'}${rule}`;
}

/** The policy's rule for a setting, unless the refusal of the last value says it already. */
export function ruleBeside(overside: Overside, name: string, problem: Problem | null): string | null {
  const rule = overside.setting(name)?.rule ?? null;
  return rule !== null && problem?.message.includes(rule) ? null : rule;
}
