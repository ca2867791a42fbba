import type { RunnerStatus } from './generated/model';
import type { Texts } from './texts';

/** What a runner is called: the one without an address is this computer, whatever its name in the settings. */
export function runnerName(runner: RunnerStatus, texts: Texts): string {
  return runner.address === null ? texts.text('runner.here') : runner.name;
}
