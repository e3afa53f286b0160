/**
 * The TypeScript of the documents fits the client: every block is compiled, strictly, against what
 * `npm run build` has made.
 */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";

/** Seen from `test/dist`. */
const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const ROOT = join(PACKAGE, "../../../..");

/** What a reader has before he reads a block: a client, and functions of his own. */
const GIVEN = `
import type * as quorate from "@quorate/client";
declare const client: quorate.Client;
declare function sendEmail(data: unknown): Promise<void>;
declare function makeReport(signal?: AbortSignal): Promise<string>;
declare function reload(missed: number | undefined): void;
declare function work(id: string): Promise<void>;
`;

interface Block {
  /** The page, and the line of its fence. */
  readonly page: string;
  readonly line: number;
  readonly lines: readonly string[];
}

/** The blocks of a page that are TypeScript. */
function blocksOf(page: string, text: string): Block[] {
  const blocks: Block[] = [];
  let open: { line: number; lines: string[]; is: boolean } | undefined;
  for (const [at, line] of text.split("\n").entries()) {
    if (!line.trimStart().startsWith("```")) open?.lines.push(line);
    else if (open === undefined) open = { line: at + 1, lines: [], is: /^```(ts|typescript)\b/.test(line.trim()) };
    else {
      if (open.is) blocks.push({ page, line: open.line, lines: open.lines });
      open = undefined;
    }
  }
  return blocks;
}

/** A block as a module: its imports at the top, the rest in a function, where it may shadow what is given. */
function moduleOf({ lines }: Block): { text: string; before: number } {
  const isImport = (line: string) => line.startsWith("import ");
  const imports = lines.filter(isImport).join("\n");
  const head = `${GIVEN}${imports}\nexport async function example() {\n`;
  // Lines stay where they are, so that errors name them.
  const body = lines.map((line) => (isImport(line) ? "" : line)).join("\n");
  return { text: `${head}${body}\n}\n`, before: head.split("\n").length - 1 };
}

/** What the compiler has against the blocks. */
function errorsOf(blocks: readonly Block[]): string[] {
  const files = new Map(blocks.map((block) => {
    const name = `${basename(block.page, ".md")}-${block.line}.ts`;
    // Beside this test, so that packages are found as they are from here.
    return [join(PACKAGE, "test", name), { block, ...moduleOf(block) }] as const;
  }));
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts", "lib.dom.asynciterable.d.ts"],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ["node"],
    typeRoots: [join(PACKAGE, "../../node_modules/@types")],
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    noEmit: true,
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.readFile = (name) => files.get(name)?.text ?? readFile(name);
  host.getSourceFile = (name, target, ...rest) => {
    const file = files.get(name);
    return file === undefined ? getSourceFile(name, target, ...rest) : ts.createSourceFile(name, file.text, target);
  };
  const program = ts.createProgram([...files.keys()], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const said = ts.flattenDiagnosticMessageText(messageText, "\n");
    const of = file === undefined ? undefined : files.get(file.fileName);
    if (file === undefined || of === undefined) return said;
    const line = file.getLineAndCharacterOfPosition(start ?? 0).line - of.before;
    return `${of.block.page}:${of.block.line + 1 + line}: ${said}`;
  });
}

test("the blocks of the documents compile", () => {
  const docs = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`);
  const pages = ["README.md", ...docs];
  const blocks = pages.flatMap((page) => blocksOf(page, readFileSync(join(ROOT, page), "utf8")));
  assert.ok(blocks.length >= 10, `so few show little: ${blocks.length}`);
  assert.deepEqual(errorsOf(blocks), []);
});

test("planted blocks are found", () => {
  const page = [
    "```ts",
    "await client.kv.sett('a', 1);",
    "```",
    "```sh",
    "await client.kv.sett('a', 1);",
    "```",
    "```ts",
    'import { Client } from "@quorate/client";',
    "const client = new Client({ endpoint: 'a:1' });",
    "```",
    "```ts",
    "const client = 7;",
    "const text: string = client;",
    "```",
  ].join("\n");
  const blocks = blocksOf("docs/planted.md", page);
  assert.equal(blocks.length, 3);
  const errors = errorsOf(blocks);
  assert.equal(errors.length, 3, errors.join("\n"));
  for (const line of [2, 9, 13]) {
    assert.ok(errors.some((error) => error.startsWith(`docs/planted.md:${line}:`)), errors.join("\n"));
  }
});
