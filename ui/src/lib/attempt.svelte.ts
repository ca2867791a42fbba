import { problemOf } from './backend/backend';
import type { Problem } from './generated/model';

/** Something that the user sets off with a button: whether it is under way, and why it failed. */
export class Attempt {
  busy = $state(false);
  problem = $state<Problem | null>(null);

  /** Does it, one at a time; undefined where it failed. */
  async run<T>(action: () => Promise<T>): Promise<T | undefined> {
    if (this.busy) return undefined;
    this.busy = true;
    try {
      const result = await action();
      this.problem = null;
      return result;
    } catch (error) {
      this.problem = problemOf(error);
      return undefined;
    } finally {
      this.busy = false;
    }
  }
}
