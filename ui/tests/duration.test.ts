import { expect, test } from 'vitest';

import { clock, durationSeconds, durationText, nearestStop, STOPS } from '../src/lib/duration';

test.each([
  ['10s', 10],
  ['1m30s', 90],
  ['5m', 300],
  ['1h', 3600],
  ['', null],
  ['5', null],
  ['5 m', null],
  ['abc', null],
])('%j is %j seconds', (text, seconds) => expect(durationSeconds(text)).toBe(seconds));

test('a duration is written as the daemon writes it', () => {
  expect(STOPS.map(durationText)).toEqual(['10s', '30s', '1m', '3m', '5m', '10m', '15m', '30m', '1h']);
});

test('the slider stands at the nearest stop', () => {
  expect(STOPS.map(nearestStop)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(nearestStop(420)).toBe(4);
  expect(nearestStop(2700)).toBe(8);
  expect(nearestStop(1)).toBe(0);
});

test.each([
  [-1, '0:00'],
  [7.9, '0:07'],
  [299, '4:59'],
  [3723, '1:02:03'],
])('%j seconds on the clock are %j', (seconds, text) => expect(clock(seconds)).toBe(text));
