/** Which nodes there are, which one leads, and which one to ask next. Pure bookkeeping. */

/** Nodes kept in mind: far above any cluster, so that a broken answer can't fill the memory. */
export const NODES_MAX = 64;
/** Characters of an address: a host name has at most 253, and a port follows. */
const ADDRESS_MAX = 260;
/** How long a node is passed over after it failed once; doubles with each failure in a row. */
const REST_BASE_MS = 250;
/** The longest rest: a node that came back is found again after this at the latest. */
const REST_CAP_MS = 10_000;
/** Failures in a row up to which the word of another node shortens a rest. */
const VOUCHED_FAILURES_MAX = 2;

/**
 * Which nodes a client's requests go to: `leader`, the leader once it is known, since it answers
 * without a further hop; `any`, all nodes in turn; `endpoints`, only the given ones, and nothing is
 * learnt.
 */
export type Routing = "leader" | "any" | "endpoints";

interface Node {
  readonly addr: string;
  /** Given by the user: never forgotten. */
  readonly seed: boolean;
  failuresInARow: number;
  restsUntil: number;
}

export class Nodes {
  readonly #routing: Routing;
  #nodes: Node[];
  #leader: string | undefined;
  /** Where the next choice begins to look. */
  #cursor = 0;

  /** Clients shuffle their seeds, so that they do not all burden the first one. */
  constructor(seeds: readonly string[], routing: Routing) {
    this.#routing = routing;
    this.#nodes = shuffled(seeds).map((addr) => node(addr, true));
  }

  /** Whether this client asks nodes about each other. */
  get learns(): boolean {
    return this.#routing !== "endpoints";
  }

  /** The addresses known so far. */
  get addresses(): string[] {
    return this.#nodes.map((node) => node.addr);
  }

  /** The leader as last heard. */
  get leader(): string | undefined {
    return this.#leader;
  }

  /**
   * The node to ask now. `tried` are those that failed in this call; when all did, it is emptied and
   * the round begins again.
   */
  pick(tried: string[], now: number): string {
    if (this.#nodes.every((node) => tried.includes(node.addr))) {
      // Two or more nodes: the last one that failed is not the first of the next round.
      const last = tried.pop();
      tried.length = 0;
      if (last !== undefined && this.#nodes.length > 1) tried.push(last);
    }
    const count = this.#nodes.length;
    const order: number[] = [];
    if (this.#routing === "leader" && this.#leader !== undefined) {
      const at = this.#position(this.#leader);
      if (at >= 0) order.push(at);
    }
    for (let step = 0; step < count; step++) order.push((this.#cursor + step) % count);
    let chosen = 0;
    let rests = Infinity;
    for (const at of order) {
      const candidate = this.#nodes[at];
      if (candidate === undefined || tried.includes(candidate.addr)) continue;
      // The first of equals: a rested node in turn, else who rests least.
      const until = candidate.restsUntil > now ? candidate.restsUntil : 0;
      if (until < rests) {
        rests = until;
        chosen = at;
      }
    }
    if (this.#routing === "any") this.#cursor = (chosen + 1) % count;
    return this.#nodes[chosen]?.addr ?? "";
  }

  /** A node serves. */
  answered(addr: string): void {
    const at = this.#position(addr);
    const node = this.#nodes[at];
    if (node === undefined) return;
    node.failuresInARow = 0;
    node.restsUntil = 0;
    if (this.#routing !== "any") this.#cursor = at;
  }

  /**
   * A node that serves says that another one leads: that one is believed in again soon, unless it keeps
   * failing this client.
   */
  vouchedFor(leader: string, now: number): void {
    const node = this.#nodes[this.#position(leader)];
    if (node !== undefined && node.failuresInARow <= VOUCHED_FAILURES_MAX) {
      node.restsUntil = Math.min(node.restsUntil, now + REST_BASE_MS);
    }
  }

  /** A node could not be reached, was silent, broke the connection, or can't serve. */
  failed(addr: string, now: number): void {
    if (this.#leader === addr) this.#leader = undefined;
    const node = this.#nodes[this.#position(addr)];
    if (node === undefined) return;
    const rest = Math.min(REST_BASE_MS * 2 ** Math.min(node.failuresInARow, 16), REST_CAP_MS);
    node.failuresInARow += 1;
    node.restsUntil = now + rest;
  }

  /** A node named the leader. */
  learnLeader(addr: string): void {
    if (this.#routing !== "leader" || this.#leader === addr) return;
    if (this.#position(addr) < 0) {
      if (this.#nodes.length >= NODES_MAX || !isAddress(addr)) return;
      this.#nodes.push(node(addr, false));
    }
    this.#leader = addr;
  }

  /** The cluster named its members: what was learnt before and is not among them is forgotten. */
  learnMembers(members: readonly string[]): void {
    if (!this.learns || members.length === 0) return;
    const begin = this.#nodes[this.#cursor]?.addr;
    this.#nodes = this.#nodes.filter((node) => node.seed || members.includes(node.addr));
    for (const addr of members) {
      if (this.#nodes.length >= NODES_MAX) break;
      if (isAddress(addr) && this.#position(addr) < 0) this.#nodes.push(node(addr, false));
    }
    if (this.#leader !== undefined && this.#position(this.#leader) < 0) this.#leader = undefined;
    this.#cursor = Math.max(begin === undefined ? 0 : this.#position(begin), 0);
  }

  #position(addr: string): number {
    return this.#nodes.findIndex((node) => node.addr === addr);
  }
}

function node(addr: string, seed: boolean): Node {
  return { addr, seed, failuresInARow: 0, restsUntil: 0 };
}

function shuffled(seeds: readonly string[]): string[] {
  const left = [...new Set(seeds)];
  const order: string[] = [];
  while (left.length > 0) {
    order.push(...left.splice(Math.floor(Math.random() * left.length), 1));
  }
  return order;
}

/** Whether a text is `host:port` (an IPv6 host in brackets), and nothing else. */
export function isAddress(text: string): boolean {
  if (text.length > ADDRESS_MAX) return false;
  const parts = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/.exec(text);
  return parts !== null && Number(parts[2]) > 0 && Number(parts[2]) <= 65_535;
}
