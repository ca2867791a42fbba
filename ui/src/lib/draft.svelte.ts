import type { Problem } from './generated/model';
import type { Overside } from './overside.svelte';

/** A setting's value as people read it: lists with commas. */
function shown(value: unknown): string {
  return Array.isArray(value) ? value.join(', ') : String(value ?? '');
}

/** A setting while somebody changes it: what stands in its field, and why that was refused. */
export class Draft {
  problem = $state<Problem | null>(null);
  /** What is typed and not saved; null where the field shows what is saved. */
  private typed = $state<string | null>(null);

  constructor(
    private readonly overside: Overside,
    readonly name: string,
  ) {}

  readonly saved = $derived.by(() => shown(this.overside.setting(this.name)?.value));
  readonly text = $derived.by(() => this.typed ?? this.saved);

  type(text: string): void {
    this.typed = text;
  }

  /** Back to what is saved. */
  forget(): void {
    this.typed = this.problem = null;
  }

  /** Saves a value. A refused one stays where it was typed, so that it can be corrected. */
  async save(value: unknown): Promise<void> {
    const wanted = typeof value === 'string' ? value.trim() : value;
    if (wanted === this.saved) return this.forget();
    this.problem = await this.overside.set(this.name, wanted);
    this.typed = this.problem && typeof value === 'string' ? value : null;
  }
}
