/** What the programs beside this print: a line of JSON for each thing that was tried. */
import { QuorateError } from "@quorate/client";

/** A thing that was tried. */
export interface Tried {
  readonly what: string;
  /** The class of the error; nothing when there was none. */
  readonly error?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly value?: unknown;
}

export function say(tried: Tried): void {
  console.log(JSON.stringify(tried));
}

/** Tries something, and says what it came to. */
export async function attempt(what: string, call: () => unknown): Promise<void> {
  try {
    say({ what, value: (await call()) ?? null });
  } catch (error) {
    said(what, error);
  }
}

export function said(what: string, error: unknown): void {
  const reason = error instanceof QuorateError ? { reason: error.reason } : {};
  const { name, message } = error instanceof Error ? error : { name: typeof error, message: String(error) };
  say({ what, error: name, message, ...reason });
}
