/** Distances between the lines of a time axis, in seconds. */
const STEPS = [60, 300, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600];

/** The lines of an axis that reaches beyond the highest value: each in seconds, from nothing on, at most seven. */
export function ticks(highest: number): number[] {
  const step = STEPS.find((step) => highest / step <= 5) ?? 6 * 3600;
  const count = Math.max(1, Math.ceil(highest / step));
  return Array.from({ length: count + 1 }, (_, index) => index * step);
}

/**
 * Which days have a label below them, as indices: each day of a week, the first of each month of a year, and every fifth day
 * between, counted from the last one.
 */
export function labelled(days: readonly string[]): number[] {
  const all = days.map((_, index) => index);
  if (days.length <= 10) return all;
  if (days.length > 100) return all.filter((index) => days[index]?.endsWith('-01'));
  return all.filter((index) => (days.length - 1 - index) % 5 === 0);
}
