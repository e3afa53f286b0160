/** A behaviour that the framework documents, as a function of an adapter. */
import type { BrokerAdapter } from "@deepkit/broker";
import type { Ends } from "./cluster.js";

/** What a behaviour is checked on. */
export interface Subject extends Ends {
  readonly adapter: BrokerAdapter;
  /** How long is waited for what comes at once, if it comes at all. */
  readonly soonMs: number;
}

export interface Behaviour {
  readonly name: string;
  /** Why the framework's own broker does not have it, though its documentation says so. */
  readonly memoryFails?: string;
  /** Rejects when the adapter does not have it. */
  run(subject: Subject): Promise<void>;
}

/** A turn of timers and of what they start: where something is not to happen, it would have by then. */
export function moment(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
