/** Programs of Node.js that are run by tests. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { until, type Ends } from "./cluster.js";

/** A program that runs. */
export class Program {
  readonly lines: string[] = [];
  readonly errors: string[] = [];
  readonly #child: ChildProcess;
  readonly #gone: Promise<number | NodeJS.Signals>;

  /** Starts a compiled file of this folder; it is killed with its test. */
  constructor(test: Ends, file: string, given: readonly string[], environment: NodeJS.ProcessEnv) {
    const path = fileURLToPath(new URL(file, import.meta.url));
    const child = spawn(process.execPath, [path, ...given], {
      env: { ...process.env, ...environment, NODE_TEST_CONTEXT: undefined },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child = child;
    this.#gone = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
    child.stdin.on("error", () => {});
    collect(child.stdout, this.lines);
    collect(child.stderr, this.errors);
    test.after(async () => {
      child.kill("SIGKILL");
      await this.#gone;
    });
  }

  /** Waits until it has written a line; that is an error when it ends before. */
  async wrote(what: string, line: (line: string) => boolean): Promise<void> {
    let over: number | NodeJS.Signals | undefined;
    void this.#gone.then((code) => (over = code));
    await until(
      what,
      () => {
        if (this.lines.some(line)) return true;
        if (over !== undefined) throw new Error(`${what}: it ended with ${over} before:\n${this.text}`);
        return false;
      },
      60_000,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.text}`);
    });
  }

  /** Tells it to stop, by the end of its input. */
  stop(): void {
    this.#child.stdin?.end();
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** With what it ends by itself; an error when it does not. */
  async exit(withinMs = 60_000): Promise<number | NodeJS.Signals> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`it has not ended within ${withinMs} ms:\n${this.text}`)), withinMs);
    });
    try {
      return await Promise.race([this.#gone, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  get text(): string {
    return [...this.lines, ...this.errors].join("\n");
  }
}

function collect(stream: NodeJS.ReadableStream, lines: string[]): void {
  let rest = "";
  stream.on("data", (piece: Buffer) => {
    const parts = (rest + piece.toString()).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
  });
  stream.on("end", () => {
    if (rest !== "") lines.push(rest);
  });
}
