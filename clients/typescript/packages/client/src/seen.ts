/**
 * The newest revision this client knows of, so that a read that any node may answer from what it has
 * never answers something older. Revisions compare within a group; a namespace lives in one group.
 */

/** Namespaces that are told apart. What is asked in more of them is read through the leader. */
const NAMESPACES_MAX = 4_096;

export class Seen {
  readonly #groups = new Map<string, number>();
  readonly #revisions = new Map<number, bigint>();

  /** An answer in this namespace told of this revision. */
  raise(namespace: string, group: number, revision: bigint): void {
    if (this.#groups.get(namespace) !== group) {
      if (!this.#groups.has(namespace) && this.#groups.size >= NAMESPACES_MAX) return;
      this.#groups.set(namespace, group);
    }
    if (revision > (this.#revisions.get(group) ?? 0n)) this.#revisions.set(group, revision);
  }

  /** The same, where the group was not said: in that of the namespace, once it is known. */
  raiseIn(namespace: string, revision: bigint): void {
    const group = this.#groups.get(namespace);
    if (group !== undefined) this.raise(namespace, group, revision);
  }

  /** The newest revision seen; 0 when none was, `undefined` when that is not known. */
  newest(namespace: string): bigint | undefined {
    const group = this.#groups.get(namespace);
    if (group !== undefined) return this.#revisions.get(group) ?? 0n;
    return this.#groups.size < NAMESPACES_MAX ? 0n : undefined;
  }
}
