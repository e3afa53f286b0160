// A browser for the checks: opens pages, and remembers whatever went wrong in them.

import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

export const SIZES = { desktop: { width: 1280, height: 900 }, tablet: { width: 820, height: 1100 }, phone: { width: 360, height: 740 } };

// Debian's, unless CHROMIUM names another one. In a container root can't have the sandbox.
export async function launch() {
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args });
}

// A tab of its own, signed in with `token` if there is one. `wrong` is what nobody may find in it at the end.
export async function open(browser, url, { token = null, size = "desktop", scheme = "light", hash = "" } = {}) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: scheme, hasTouch: size === "phone", reducedMotion: "reduce", ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const wrong = [];
  const origin = new URL(url).origin;
  await page.addInitScript(([shown]) => {
    globalThis.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    if (shown && !sessionStorage.getItem("tried")) {
      sessionStorage.setItem("quorate.token", shown);
      sessionStorage.setItem("tried", "yes");
    }
  }, [token]);
  page.on("console", (message) => { if (message.type() === "error" || message.type() === "warning") wrong.push(`console: ${message.text()} ${message.location().url}`); });
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("request", (request) => { if (new URL(request.url()).origin !== origin) wrong.push(`asks another host: ${request.url()}`); });
  const tab = {
    page, context, wrong,
    go: (to) => page.goto(`${url}${to}`),
    // Forgets failed requests, which a browser always logs: for checks that make them happen.
    forgive: (pattern = /Failed to load resource|net::ERR/) => { wrong.splice(0, wrong.length, ...wrong.filter((one) => !pattern.test(one))); },
    async end() {
      const violations = await page.evaluate(() => globalThis.violations).catch(() => []);
      await context.close();
      return [...wrong, ...violations.map((one) => `policy: ${one}`)];
    },
  };
  await tab.go(hash);
  return tab;
}

// Bytes that come over the network until the first page is whole and the others were fetched ahead.
export async function firstLoad(browser, url, token) {
  const context = await browser.newContext({ viewport: SIZES.desktop, ignoreHTTPSErrors: true });
  const page = await context.newPage();
  if (token) await page.addInitScript(([shown]) => sessionStorage.setItem("quorate.token", shown), [token]);
  const session = await context.newCDPSession(page);
  await session.send("Network.enable");
  const urls = new Map();
  let files = 0;
  let answers = 0;
  session.on("Network.requestWillBeSent", ({ requestId, request }) => urls.set(requestId, request.url));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    if (urls.get(requestId)?.includes("/api/")) answers += encodedDataLength;
    else files += encodedDataLength;
  });
  await page.goto(`${url}#/cluster`);
  await page.waitForSelector(".table tbody tr");
  await page.waitForTimeout(3000);
  await context.close();
  return { files, answers };
}

const axe = await readFile(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8").catch(() => null);

// What axe finds against WCAG 2.2 A and AA, one line each.
export async function accessibility(page) {
  if (axe === null) throw new Error("axe-core is not installed: npm ci");
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  return violations.flatMap(({ id, nodes }) => nodes.slice(0, 3).map((node) => `${id}: ${node.target.join(" ")}: ${node.failureSummary.split("\n").slice(1).join(" ").trim()}`));
}

// Nothing may be wider than the screen.
export async function overflow(page) {
  return page.evaluate(() => {
    const wide = document.scrollingElement.scrollWidth - innerWidth;
    if (wide <= 0) return [];
    const culprits = [...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, pre, thead"));
    return [`${wide} px wider than the screen: ${culprits.slice(0, 3).map((node) => `${node.tagName}.${node.getAttribute("class")}`).join(", ")}`];
  });
}
