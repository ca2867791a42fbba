/** The stops of the idle timeout's slider, in seconds. */
export const STOPS = [10, 30, 60, 180, 300, 600, 900, 1800, 3600] as const;

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600 };

/** Seconds as settings write them: `90s`, `5m`, `1h`. */
export function durationText(seconds: number): string {
  if (seconds % 3600 === 0) return `${seconds / 3600}h`;
  return seconds % 60 === 0 ? `${seconds / 60}m` : `${seconds}s`;
}

/**
 * The seconds of a duration that the daemon wrote, such as `1m30s`; null for any other text. Only for placing the slider:
 * which durations are accepted is the daemon's to say.
 */
export function durationSeconds(text: string): number | null {
  if (!/^(\d+[hms])+$/.test(text)) return null;
  let seconds = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+)([hms])/g)) seconds += Number(amount) * (UNITS[unit ?? ''] ?? 0);
  return seconds;
}

/** The stop that is nearest to a duration, as an index. */
export function nearestStop(seconds: number): number {
  let best = 0;
  STOPS.forEach((stop, index) => {
    // By ratio, as the stops are spaced: 2 minutes is nearer to 3 than to 1.
    if (Math.abs(Math.log(stop / seconds)) < Math.abs(Math.log((STOPS[best] ?? 1) / seconds))) best = index;
  });
  return best;
}

/** Seconds as a clock: `0:07`, `4:59`, `1:02:03`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
