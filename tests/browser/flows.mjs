// What somebody does with the dashboard, step by step, and what must come of it. Against the mock, because a leader has to
// die and answers have to fail at the right moment.

import assert from "node:assert/strict";
import { join } from "node:path";
import { accessibility, open, overflow } from "./browser.mjs";

export function flows(browser, mock, shots) {
  const tab = (options) => open(browser, mock.url, options);
  const shot = async (page, name) => { if (shots) await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true }); };
  const until = (page, words) => page.waitForSelector(`text=${words}`, { timeout: 15_000 });

  return [
    ["flow: sign in, wrong and right, and out", async () => {
      const at = await tab({ hash: "#/queues" });
      const { page } = at;
      await page.fill("#token", "qt_wrong");
      await shot(page, "sign-in-light");
      await page.click("text=Sign in >> nth=-1");
      await until(page, "The token is not taken");
      await page.fill("#token", "qt_viewer");
      await page.keyboard.press("Enter");
      await page.waitForSelector(".table tbody tr");
      assert.equal(await page.evaluate(() => Object.keys(localStorage).join()), "", "nothing of the token is in localStorage");
      assert.ok(!page.url().includes("qt_"), "nor in the address");
      await page.click(".who button");
      await until(page, "Who you are here");
      await shot(page, "who");
      assert.deepEqual(await accessibility(page), []);
      await page.click("dialog >> text=Close");
      await page.waitForSelector("dialog", { state: "detached" });
      await page.click(".who button");
      await page.click("text=Sign out");
      await page.waitForSelector("#token");
      assert.equal(await page.evaluate(() => sessionStorage.getItem("quorate.token")), null);
      at.forgive();
      return at.end();
    }],

    ["flow: sign-in form on a phone is accessible", async () => {
      const at = await tab({ size: "phone", scheme: "dark" });
      await at.page.waitForSelector("#token");
      await shot(at.page, "sign-in-phone-dark");
      const found = [...(await accessibility(at.page)), ...(await overflow(at.page))];
      at.forgive();
      return [...found, ...(await at.end())];
    }],

    ["flow: a viewer sees no buttons that write", async () => {
      const at = await tab({ token: "qt_viewer", hash: "#/queue/billing.invoices?state=dead" });
      const { page } = at;
      await page.waitForSelector(".job");
      const words = async () => (await page.locator("button").allTextContents()).join("|");
      await page.waitForTimeout(2500);
      assert.doesNotMatch(await words(), /Redrive|Purge|Pause|Resume/);
      await at.go("#/locks");
      await page.waitForSelector(".table tbody tr");
      assert.doesNotMatch(await words(), /Force/);
      return at.end();
    }],

    ["flow: rights of some names only, and no cluster", async () => {
      const at = await tab({ token: "qt_shop", hash: "#/queue/shop.orders?namespace=shop" });
      const { page } = at;
      await page.waitForSelector("text=Purge");
      await at.go("#/queue/warehouse?namespace=shop");
      await page.waitForSelector(".reading .value");
      await page.waitForTimeout(2500);
      assert.equal(await page.locator("text=Purge").count(), 0);
      await at.go("#/traffic");
      await until(page, "needs a role with read for cluster");
      await page.waitForSelector('#live[data-state="live"]');
      await at.go("#/cluster");
      await page.waitForSelector(".table tbody tr");
      at.forgive();
      return at.end();
    }],

    ["flow: dead letters go back, one and all", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/queue/billing.invoices?state=dead" });
      const { page } = at;
      await page.waitForSelector(".job");
      const before = await page.locator(".job").count();
      await page.click('button[aria-label="Redrive job 11"]');
      await shot(page, "redrive-one");
      await page.click("dialog button.primary");
      await until(page, "1 job put back.");
      await page.click("dialog button.primary");
      await page.waitForFunction((count) => document.querySelectorAll(".job").length === count, before - 1);
      await page.click("text=Redrive all");
      await page.click("dialog button.primary");
      await until(page, "6 jobs put back.");
      await page.click("dialog button.primary");
      await until(page, "There are no dead letters.");
      assert.equal(mock.state.posts.filter((post) => post.path === "queues/redrive").length, 3, "one, and two steps of three");
      return at.end();
    }],

    ["flow: pause, resume, and a purge that wants the name", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/queue/emails" });
      const { page } = at;
      await page.click("text=Pause");
      await page.click("dialog button.primary");
      await until(page, "It is paused.");
      await page.click("dialog button.primary");
      await page.waitForSelector(".heading .badge >> text=paused");
      await page.click(".heading >> text=Resume");
      await page.keyboard.press("Enter");
      await until(page, "It delivers again.");
      await page.keyboard.press("Escape");
      await page.click(".heading >> text=Purge");
      assert.ok(await page.isDisabled("dialog button.danger"), "not before the name is typed");
      await page.fill("dialog input", "email");
      assert.ok(await page.isDisabled("dialog button.danger"));
      await page.fill("dialog input", "emails");
      await shot(page, "purge");
      assert.deepEqual(await accessibility(page), []);
      await page.click("dialog button.danger");
      await until(page, "jobs purged.");
      return at.end();
    }],

    ["flow: a lock is released by force, and refusals are told", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/locks" });
      const { page } = at;
      const release = '[aria-label="Force release of migrations"]';
      await page.waitForSelector(release);
      mock.fail("locks/migrations/force-release", 504, "DEADLINE", "the deadline passed", 1, "unknown");
      await page.click(release);
      await shot(page, "force-release");
      await page.click("dialog button.danger");
      await until(page, "Nobody knows whether it happened");
      await page.click("dialog button.danger");
      await until(page, "Taken from 1 holder.");
      const [first, second] = mock.state.pressed.filter((one) => one.path.includes("force-release"));
      assert.equal(first.key, second.key, "a press that may have happened is repeated, not made anew");
      await page.click("dialog button.primary");
      await page.waitForSelector(release, { state: "detached" });
      at.forgive();
      return at.end();
    }],

    ["flow: hostile names stay text", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/keys" });
      const { page } = at;
      page.on("dialog", () => at.wrong.push("a name was executed"));
      await page.click("text=<img src=x onerror=alert(1)>");
      await page.waitForSelector(".value-panel pre");
      assert.match(await page.textContent(".value-panel pre"), /<script>alert/);
      assert.equal(await page.locator("#main img").count(), 0);
      await page.goto(`${mock.url}#/queue/${encodeURIComponent("<b>x</b>/../y")}`);
      await until(page, "No such queue");
      await page.goto(`${mock.url}#/constructor`);
      await until(page, "There is no such page.");
      at.forgive();
      return at.end();
    }],

    ["flow: keys by pattern, by pages, and as hex", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/keys" });
      const { page } = at;
      await page.waitForSelector(".table tbody tr");
      await page.click("text=Next page");
      await until(page, "page 2");
      await page.click("text=First page");
      await page.fill("#what", "blob/");
      await page.waitForFunction(() => document.querySelectorAll(".table tbody tr").length === 2);
      await page.click("text=blob/logo");
      await until(page, "00000000");
      await shot(page, "keys-hex");
      await page.click("text=blob/large");
      await until(page, "The first 64 KiB of 195 KiB.");
      await page.click("text=All of it");
      await page.waitForSelector("text=The first 64 KiB", { state: "detached" });
      assert.match(page.url(), /prefix=blob/);
      return at.end();
    }],

    ["flow: every page comes back by itself", async () => {
      const pages = ["cluster", "traffic", "queues", "queue/emails", "locks", "cache", "bus", "keys", "sessions"];
      const tabs = [];
      for (const name of pages) {
        const at = await tab({ token: "qt_admin", hash: `#/${name}` });
        await at.page.waitForSelector('#live[data-state="live"]');
        tabs.push(at);
      }
      await tabs[0].page.waitForTimeout(2000);
      await mock.down();
      for (const { page } of tabs) await page.waitForSelector('#live[data-state="lost"]', { timeout: 10_000 });
      await tabs[2].page.waitForTimeout(3500);
      assert.match(await tabs[2].page.textContent(".notice:not([hidden])"), /Not current/);
      assert.match(await tabs[0].page.textContent("#live"), /not live since \d\d:\d\d:\d\d/);
      assert.match(await tabs[0].page.textContent(".notice:not([hidden])"), /Not live/);
      await shot(tabs[2].page, "not-live-queues");
      await shot(tabs[0].page, "not-live-cluster");
      // A page that was not looked at yet is there all the same.
      await tabs[0].page.click("nav >> text=Locks");
      await tabs[0].page.waitForSelector("h1 >> text=Locks");
      await mock.up();
      const wrong = [];
      for (const [at, { page }] of tabs.entries()) {
        await page.waitForSelector('#live[data-state="live"]', { timeout: 30_000 }).catch(() => wrong.push(`${pages[at]} is not live again`));
        await page.waitForFunction(() => !document.querySelector(".notice:not([hidden])"), null, { timeout: 20_000 }).catch(() => wrong.push(`${pages[at]} still says that it is old`));
      }
      for (const one of tabs) {
        one.forgive();
        wrong.push(...(await one.end()));
      }
      return wrong;
    }],

    ["flow: a leader dies, is missed, and another one leads", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/cluster" });
      const { page } = at;
      await page.waitForSelector(".table tbody tr");
      mock.killLeader();
      await until(page, "not healthy");
      await shot(page, "leader-died");
      assert.deepEqual(await accessibility(page), []);
      await page.waitForFunction(() => document.querySelectorAll('.table .badge[data-state="problem"]').length === 0, null, { timeout: 15_000 });
      return at.end();
    }],

    ["flow: without a quorum what is shown is called old", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/queues" });
      const { page } = at;
      await page.waitForSelector(".table tbody tr");
      mock.state.world.hasQuorum = false;
      mock.state.world.leader = null;
      await until(page, "it may be old");
      await shot(page, "no-quorum");
      await at.go("#/keys");
      await page.waitForSelector(".table tbody tr");
      await until(page, "it may be old");
      await at.go("#/queues");
      await page.waitForSelector(".table tbody tr");
      mock.state.world.hasQuorum = true;
      await page.waitForSelector(".notice", { state: "hidden" });
      at.forgive();
      return at.end();
    }],

    ["flow: a token that ends meanwhile asks again", async () => {
      const at = await tab({ token: "qt_viewer", hash: "#/queues" });
      const { page } = at;
      await page.waitForSelector(".table tbody tr");
      mock.revoke("qt_viewer");
      await page.waitForSelector("#token", { timeout: 15_000 });
      await until(page, "The token holds no longer");
      await page.fill("#token", "qt_admin");
      await page.keyboard.press("Enter");
      await page.waitForSelector(".table tbody tr");
      at.forgive();
      return at.end();
    }],

    ["flow: a tab that nobody looks at asks for nothing", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/queues" });
      const { page } = at;
      await page.waitForSelector('#live[data-state="live"]');
      await page.waitForTimeout(500);
      const look = (hidden) => page.evaluate((value) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
      assert.equal(mock.state.streams.size, 1);
      await look(true);
      await page.waitForTimeout(2500);
      assert.equal(mock.state.streams.size, 0, "its stream is closed");
      const before = mock.state.asked.get("queues");
      await page.waitForTimeout(4500);
      assert.equal(mock.state.asked.get("queues"), before, "and nothing is asked");
      await look(false);
      await page.waitForTimeout(1500);
      assert.equal(mock.state.streams.size, 1, "until somebody looks");
      assert.ok(mock.state.asked.get("queues") > before);
      return at.end();
    }],

    ["flow: nobody is asked where authentication is off", async () => {
      mock.state.asks = false;
      try {
        const at = await tab({ hash: "#/locks" });
        await at.page.waitForSelector("text=no sign-in");
        await at.page.waitForSelector("text=Force release");
        return await at.end();
      } finally {
        mock.state.asks = true;
      }
    }],

    ["flow: the keyboard is enough, and the theme is kept", async () => {
      const at = await tab({ token: "qt_admin", hash: "#/cluster" });
      const { page } = at;
      await page.waitForSelector(".table tbody tr");
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the page");
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate(() => document.activeElement.id), "main");
      await page.focus("nav >> text=Queues");
      await page.keyboard.press("Enter");
      await page.waitForSelector("h1 >> text=Queues");
      assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
      // What is looked at does not lose the focus when it is refreshed.
      await page.focus("text=thumbnails");
      await page.waitForTimeout(4500);
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "thumbnails");
      await page.focus("#theme");
      for (const wanted of ["light", "dark"]) {
        await page.keyboard.press("Enter");
        assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), wanted);
      }
      await page.reload();
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
      await page.fill("#namespace", "shop");
      await page.keyboard.press("Enter");
      await page.waitForSelector("text=warehouse");
      assert.match(page.url(), /namespace=shop/);
      return at.end();
    }],
  ];
}
