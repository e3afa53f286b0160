/** Runs an example as its own process, as a user does, and hears what it prints. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** An example takes seconds; on a machine that is busy, more. */
const TIMEOUT_MS = 120_000;

/** How an example ended. */
export interface Ran {
  readonly code: number | null;
  readonly lines: readonly string[];
  readonly errors: string;
}

/** Runs one; `heard` is told of each line as it comes, and may do something in the middle. */
export async function run(
  name: string,
  args: readonly string[],
  endpoints: readonly string[],
  heard: (line: string) => void = () => {},
): Promise<Ran> {
  const program = fileURLToPath(new URL(`../../dist/${name}.js`, import.meta.url));
  const child = spawn(process.execPath, ["--unhandled-rejections=strict", program, ...args], {
    env: { ...process.env, QUORATE_ENDPOINTS: endpoints.join(",") },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const overdue = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout });
  reader.on("line", (line) => {
    lines.push(line);
    heard(line);
  });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(overdue);
  return { code, lines, errors };
}
