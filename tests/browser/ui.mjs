// Drives the dashboard in a real browser, against the mock or, with UI_URL, a real node, and checks what README.md says.
//   UI_URL=http://127.0.0.1:8813/ui/ UI_TOKEN=… UI_SHOTS=DIR node ui.mjs [part of a name…]

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { SIZES, accessibility, firstLoad, launch, open, overflow } from "./browser.mjs";
import { startMock } from "./mock.mjs";
import { flows } from "./flows.mjs";

const FIRST_LOAD_MAX_BYTES = 300 * 1024;
// Pages, and what is there once they are.
const PAGES = [
  ["cluster", "#/cluster", ".table tbody tr"], ["traffic", "#/traffic", ".chart .line[d^=M]"], ["queues", "#/queues", ".table tbody tr, .empty:not([hidden])"],
  ["queue", null, ".job, .empty:not([hidden])"], ["queue-dead", null, ".job, .empty:not([hidden])"], ["locks", "#/locks", ".table tbody tr, .empty:not([hidden])"], ["cache", "#/cache", ".chart .line[d]"],
  ["bus", "#/bus", ".chart .line[d]"], ["keys", "#/keys", ".table tbody tr, .empty:not([hidden])"], ["sessions", "#/sessions", ".table tbody tr, .empty:not([hidden])"],
];

const only = process.argv.slice(2);
const shots = process.env.UI_SHOTS ?? null;
if (shots) await mkdir(shots, { recursive: true });
const mock = process.env.UI_URL ? null : await startMock();
// While pages are looked at no leader dies by itself: a browser logs each refusal as an error.
if (mock) mock.state.world.isCalm = true;
const url = process.env.UI_URL ?? mock.url;
const token = process.env.UI_TOKEN ?? (mock ? "qt_admin" : null);
const queue = process.env.UI_QUEUE ?? (mock ? "billing.invoices" : null);
const browser = await launch();
let passed = 0;
let failed = 0;

async function check(name, act) {
  if (only.length && !only.some((word) => name.includes(word))) return;
  const began = Date.now();
  let wrong;
  try {
    wrong = (await act()) ?? [];
  } catch (error) {
    wrong = [error.stack.split("\n").slice(0, 6).join("\n      ")];
  }
  if (wrong.length) failed += 1;
  else passed += 1;
  console.log(`${wrong.length ? "FAIL" : "ok  "} ${name} (${Date.now() - began} ms)`);
  for (const one of wrong) console.log(`     ${one}`);
}

for (const size of Object.keys(SIZES)) {
  for (const scheme of ["light", "dark"]) {
    for (const [name, hash, there] of PAGES) {
      const where = hash ?? (queue && `#/queue/${encodeURIComponent(queue)}${name === "queue-dead" ? "?state=dead" : ""}`);
      if (!where) continue;
      await check(`page ${name} ${size} ${scheme}`, async () => {
        const tab = await open(browser, url, { token, size, scheme, hash: where });
        const { page } = tab;
        await page.waitForSelector(`#main ${there.replaceAll(", ", ", #main ")}`, { timeout: 15_000, state: "attached" });
        await page.waitForSelector('#live[data-state="live"]');
        if (name === "keys" && mock) {
          await page.click("text=config/features");
          await page.waitForSelector(".value-panel pre");
          await page.evaluate(() => scrollTo(0, 0));
        }
        // Long enough for rates, which need two answers.
        await page.waitForTimeout(name.startsWith("queue") || name === "bus" ? 4600 : 800);
        if (shots) await page.screenshot({ path: join(shots, `${name}-${size}-${scheme}.png`), fullPage: true });
        const found = [...(await overflow(page)), ...(await accessibility(page))];
        // A browser logs each refusal, and a real cluster may change its leader while it is looked at.
        tab.forgive(/status of 50[34]/);
        return [...found, ...(await tab.end())];
      });
    }
  }
}

await check("first load is small", async () => {
  const { files, answers } = await firstLoad(browser, url, token);
  console.log(`     ${files} bytes of files, ${answers} of answers`);
  return files + answers < FIRST_LOAD_MAX_BYTES ? [] : [`${files + answers} bytes`];
});

if (mock) for (const [name, act] of flows(browser, mock, shots)) await check(name, act);

await browser.close();
await mock?.stop();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
