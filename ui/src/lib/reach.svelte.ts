import { Attempt } from './attempt.svelte';
import type { Answer, Hop, Problem, Question } from './generated/model';
import type { Overside } from './overside.svelte';

/**
 * The way to a runner, tried by a person: what only they can decide or know is asked first, then every hop is tested. One
 * runner at a time.
 */
export class Reach {
  readonly attempt = new Attempt();
  /** The runner that is tried, or was last. */
  name = $state<string | null>(null);
  /** What stands in the way and waits for an answer. */
  question = $state<Question | null>(null);
  /** What the test found. */
  hops = $state<Hop[] | null>(null);
  /** What a runner that was removed has left of Overside's on its machine. */
  left = $state<Problem | null>(null);
  /** Why the passphrase is not kept that was to be. */
  notKept = $state<Problem | null>(null);
  /** The runner was added for this: without an answer, nothing of it stays. */
  private added = false;

  /** @param onworks called with a runner that was added here, once the way to it works. */
  constructor(
    private readonly overside: Overside,
    private readonly onworks: (name: string) => void,
  ) {}

  readonly works = $derived.by(() => this.hops !== null && this.hops.every((hop) => hop.status !== 'failed'));

  /** Tries a runner that is there. */
  async test(name: string): Promise<void> {
    this.begin(name);
    await this.attempt.run(() => this.go(name));
  }

  /** Adds a runner and tries it; false where it could not be added. */
  async add(name: string, address: string): Promise<boolean> {
    this.begin(null);
    await this.attempt.run(async () => {
      await this.overside.backend.addRunner(name, address);
      await this.overside.readRunners();
      this.name = name;
      this.added = true;
      await this.go(name);
    });
    return this.name !== null;
  }

  /** Forgets a runner that was added. */
  async remove(name: string): Promise<void> {
    this.begin(name);
    await this.attempt.run(async () => {
      this.left = await this.overside.backend.removeRunner(name);
      await this.overside.readRunners();
    });
  }

  /** Answers the question and goes on. An answer that does not help leaves it asked. */
  async answer(answer: Answer): Promise<void> {
    const name = this.name;
    if (name === null) return;
    await this.attempt.run(async () => {
      this.notKept = (await this.overside.backend.answerRunner(name, answer)) ?? this.notKept;
      await this.go(name);
    });
  }

  /** Leaves the question unanswered. */
  async giveUp(): Promise<void> {
    const { name, added } = this;
    this.begin(null);
    if (added && name !== null) await this.remove(name);
  }

  private begin(name: string | null): void {
    this.name = name;
    this.added = false;
    this.question = this.hops = this.left = this.notKept = this.attempt.problem = null;
  }

  private async go(name: string): Promise<void> {
    this.question = await this.overside.backend.runnerQuestion(name).catch(() => {
      // Where nobody answers there is nothing to ask: the test names the hop.
      return null;
    });
    if (this.question !== null) return;
    this.hops = await this.overside.backend.testRunner(name);
    if (this.added && this.works) this.onworks(name);
  }
}
