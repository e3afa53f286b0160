/** The code blocks of the readme files: each compiles under strict rules, and runs as it is. */
import { TestCluster } from "@quorate/testing";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const exec = promisify(execFile);
const root = new URL("../../../", import.meta.url);
/** Inside this package, so that imports are found as users find them. */
const directory = new URL("./snippets/", import.meta.url);

const PAGES = ["README.md", "packages/client/README.md", "packages/testing/README.md"];

const OPTIONS = {
  target: "ES2022",
  lib: ["ES2023", "ESNext.Disposable", "DOM.AsyncIterable"],
  module: "NodeNext",
  moduleResolution: "NodeNext",
  types: ["node"],
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  noUnusedLocals: true,
  skipLibCheck: true,
  composite: false,
};

interface Snippet {
  /** The page and the line where the block begins. */
  readonly place: string;
  readonly file: string;
  readonly text: string;
}

function snippets(): Snippet[] {
  return PAGES.flatMap((page) => {
    const text = readFileSync(new URL(page, root), "utf8");
    const found = [...text.matchAll(/^```ts\n(.*?)^```$/gms)];
    assert.ok(found.length > 0, `${page} has no code`);
    return found.map((match): Snippet => {
      const line = text.slice(0, match.index).split("\n").length;
      const file = `${page.replace(/\W+/g, "-").toLowerCase()}-${line}`;
      return { place: `${page}:${line}`, file, text: match[1] as string };
    });
  });
}

describe("snippets", { timeout: 600_000 }, () => {
  const all = snippets();
  let cluster: TestCluster | undefined;
  before(async () => {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true });
    for (const { file, text } of all) writeFileSync(new URL(`${file}.ts`, directory), text);
    writeFileSync(new URL("tsconfig.json", directory), JSON.stringify({ compilerOptions: OPTIONS }));
    cluster = await TestCluster.start();
  });
  after(async () => {
    await cluster?.stop();
  });

  it("compile", async () => {
    const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    try {
      await exec(process.execPath, [tsc, "-p", fileURLToPath(directory)]);
    } catch (error) {
      assert.fail((error as { stdout: string }).stdout);
    }
  });

  for (const { place, file } of all) {
    it(`of ${place} runs, and ends by itself`, async () => {
      const program = fileURLToPath(new URL(`${file}.js`, directory));
      const env = { ...process.env, QUORATE_ENDPOINTS: cluster?.endpoints.join(",") };
      const ran = await exec(process.execPath, ["--unhandled-rejections=strict", program], { env, timeout: 120_000 });
      assert.equal(ran.stderr, "");
    });
  }
});
