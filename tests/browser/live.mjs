// Drives each page against a live cluster of three nodes while its leader is killed, twice: every page has to come back by
// itself, without being loaded again, and show what is current.
//   UI_BINARY=…/quorate UI_SHOTS=DIR node live.mjs

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { firstLoad, launch, open } from "./browser.mjs";
import { startCluster } from "./cluster.mjs";

const FIRST_LOAD_MAX_BYTES = 300 * 1024;
// A new leader takes a second or two; a page asks every two seconds, and waits longer after failures.
const RECOVERED_MS = 20_000;
const KILLS = 2;
// Pages, and what of the API shows that they are current again.
const PAGES = [
  ["cluster", "events"], ["traffic", "events"], ["queues", "queues"], ["queue/emails", "queues/emails"], ["queue/emails?state=dead", "queues/emails"],
  ["locks", "locks"], ["cache", "cache"], ["bus", "bus"], ["keys", null], ["sessions", "sessions"],
];

const shots = process.env.UI_SHOTS ?? null;
if (shots) await mkdir(shots, { recursive: true });
const cluster = await startCluster();
const browser = await launch();
const began = Date.now();
const say = (words) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)} s  ${words}`);

// A page of one node, that is never loaded again.
async function openPage(node, [name, path]) {
  const tab = await open(browser, cluster.url(node), { token: cluster.token, hash: `#/${name}` });
  const { page } = tab;
  await page.waitForSelector('#live[data-state="live"]');
  await page.evaluate(() => { globalThis.neverLoadedAgain = true; });
  const seen = { name, path, node, tab, page, current: 0 };
  page.on("response", (answer) => {
    const at = new URL(answer.url());
    if (path && at.pathname === `/api/v1/${path}` && answer.status() === 200 && !at.searchParams.has("stale")) seen.current += 1;
  });
  return seen;
}

// Waits until the page shows what is current, and says how long that took since `from`.
async function recovered(seen, from, leader) {
  const { page, name } = seen;
  const left = () => Math.max(1, from + RECOVERED_MS - Date.now());
  await page.waitForSelector('#live[data-state="live"]', { timeout: left() });
  await page.waitForFunction(() => !document.querySelector("#main .notice:not([hidden])"), null, { timeout: left() });
  if (name === "cluster") await page.waitForFunction((id) => new RegExp(`\\b${id}\\b`).test(document.querySelector("#main").innerText), leader.id, { timeout: left() });
  if (seen.path && seen.path !== "events") {
    const before = seen.current;
    while (seen.current === before) {
      assert.ok(Date.now() < from + RECOVERED_MS, `${name} asks for nothing that is answered`);
      await page.waitForTimeout(50);
    }
  }
  assert.ok(await page.evaluate(() => globalThis.neverLoadedAgain === true), `${name} was loaded again`);
  return Date.now() - from;
}

const wrong = [];
try {
  const { files, answers } = await firstLoad(browser, cluster.url(cluster.nodes[0]), cluster.token);
  say(`first load: ${files} bytes of files, ${answers} of answers`);
  if (files + answers >= FIRST_LOAD_MAX_BYTES) wrong.push(`the first load has ${files + answers} bytes`);

  for (let kill = 1; kill <= KILLS; kill += 1) {
    const leader = await cluster.leader();
    const stays = cluster.nodes.find((node) => node !== leader);
    const pages = [];
    for (const page of PAGES) pages.push(await openPage(stays, page));
    const own = await openPage(leader, PAGES[2]);
    say(`${pages.length} pages of node ${stays.id} are open, and one of node ${leader.id}, which leads`);

    await cluster.kill(leader);
    const from = Date.now();
    await own.page.waitForSelector('#live[data-state="lost"]', { timeout: RECOVERED_MS });
    assert.match(await own.page.textContent("#live"), /not live since/);
    if (shots) await own.page.screenshot({ path: join(shots, `live-killed-${kill}.png`) });
    const next = await cluster.leader();
    assert.notEqual(next.id, leader.id);
    const took = await Promise.all(pages.map((page) => recovered(page, from, next)));
    pages.forEach((page, at) => say(`  ${page.name}: current again ${took[at]} ms after the kill`));
    if (shots) for (const { name, page } of pages) await page.screenshot({ path: join(shots, `live-${kill}-${name.replace(/\W/g, "-")}.png`) });

    // What is pressed goes through the new leader.
    if (kill === 1) {
      const { page } = pages.find(({ name }) => name.endsWith("dead"));
      await page.waitForSelector(".job");
      await page.click("text=Redrive all");
      await page.click("dialog button.primary");
      await page.waitForSelector("text=1 job put back.");
      await page.click("dialog button.primary");
      await page.waitForSelector("text=There are no dead letters.");
      const { queue } = await cluster.ask(stays, "queues/emails");
      assert.deepEqual([queue.ready, queue.dead], [3, 0], JSON.stringify(queue));
      say("a dead letter was put back by a press of a button");
    }

    await cluster.start(leader);
    say(`node ${leader.id} runs again; its page is current ${await recovered(own, Date.now(), next)} ms later`);
    for (const { name, tab } of [...pages, own]) {
      // A browser logs what did not come: those of the time without a leader, and of the node that was gone.
      tab.forgive(/Failed to load resource|net::ERR/);
      wrong.push(...(await tab.end()).map((one) => `${name}: ${one}`));
    }
  }
} catch (error) {
  wrong.push(error.stack);
} finally {
  await browser.close();
  if (wrong.length && process.env.KEEP) console.log(`kept: ${cluster.dir}`);
  else await cluster.stop();
}
for (const one of wrong) console.log(`FAIL ${one}`);
say(wrong.length ? `${wrong.length} wrong` : "every page came back by itself");
process.exitCode = wrong.length ? 1 : 0;
