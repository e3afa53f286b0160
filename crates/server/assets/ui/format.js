// Numbers, durations, bytes and times as text. Every figure has its unit; what is unknown is a dash, never a zero.

export const NONE = "—";
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
// Groups of digits are set apart by a thin space, which is read the same in every country.
export function count(value) {
  return known(value) ? grouped.format(value).replaceAll(",", "\u202f") : NONE;
}

// Three digits that matter.
function three(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 100) return count(Math.round(value));
  return value.toFixed(size >= 10 ? 1 : size >= 0.01 ? 2 : 3).replace(/\.?0+$/, "");
}

export function short(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size < 10_000) return three(value);
  if (size < 1e6) return `${three(value / 1e3)}k`;
  if (size < 1e9) return `${three(value / 1e6)}M`;
  return `${three(value / 1e9)}G`;
}

export function rate(value) {
  return known(value) ? `${short(value)}/s` : NONE;
}

export function bytes(value) {
  if (!known(value)) return NONE;
  if (value < 1024) return `${three(value)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let size = value / 1024;
  let at = 0;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${three(size)} ${units[at]}`;
}

export function micros(value) {
  if (!known(value)) return NONE;
  if (value < 1000) return `${three(value)} µs`;
  return value < 1e6 ? `${three(value / 1000)} ms` : `${three(value / 1e6)} s`;
}

// Two units at most: what somebody needs to judge a wait.
export function millis(value) {
  if (!known(value)) return NONE;
  if (value < 1000) return `${Math.round(value)} ms`;
  const seconds = Math.floor(value / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return two(`${minutes} min`, seconds % 60, "s");
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return two(`${hours} h`, minutes % 60, "min");
  const days = Math.floor(hours / 24);
  return days < 730 ? `${count(days)} d ${hours % 24} h` : `${count(Math.floor(days / 365))} years`;
}

// A second unit that would be 0 says nothing.
const two = (first, rest, unit) => (rest ? `${first} ${pad(rest)} ${unit}` : first);
const pad = (number) => String(number).padStart(2, "0");

// Local time, to the second: what one compares with a log.
export function clock(unixMs) {
  if (!known(unixMs)) return NONE;
  const at = new Date(unixMs);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

export function moment(unixMs) {
  if (!known(unixMs)) return NONE;
  const at = new Date(unixMs);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(unixMs)}`;
}

export function ago(unixMs, nowMs = Date.now()) {
  if (!known(unixMs)) return NONE;
  const past = nowMs - unixMs;
  if (past < 0) return `in ${millis(-past)}`;
  return past < 1000 ? "now" : `${millis(past)} ago`;
}

// Both: how long ago, and when.
export function when(unixMs, nowMs = Date.now()) {
  return known(unixMs) ? `${ago(unixMs, nowMs)}, ${moment(unixMs)}` : NONE;
}

export function percent(part, whole) {
  return known(part) && whole > 0 ? `${three((100 * part) / whole)} %` : NONE;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function fromBase64url(encoded) {
  const binary = atob(encoded.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}

// Text when all of it is; a character that was cut in two at the end is left out.
export function asText(data, isCut = false) {
  try {
    const all = new TextDecoder("utf-8", { fatal: true }).decode(data, { stream: isCut });
    // Control characters are no text to look at, but for tabs and ends of lines.
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(all) ? null : all;
  } catch {
    return null;
  }
}

export function asJson(words) {
  try {
    const value = JSON.parse(words);
    // A bare number or word is shown as it is: printing it again could change its digits.
    return typeof value === "object" && value !== null ? JSON.stringify(value, null, 2) : null;
  } catch {
    return null;
  }
}

// As hexdump -C shows it.
export function asHex(data) {
  const lines = [];
  for (let at = 0; at < data.length; at += 16) {
    const row = Array.from(data.subarray(at, at + 16));
    const digits = row.map((byte) => byte.toString(16).padStart(2, "0"));
    const left = digits.slice(0, 8).join(" ").padEnd(23);
    const right = digits.slice(8).join(" ").padEnd(23);
    const signs = row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left}  ${right}  ${signs}`);
  }
  return lines.join("\n");
}

// A name that may be any bytes.
export function named(words, encoded) {
  if (words !== null && words !== undefined) return words;
  return Array.from(fromBase64url(encoded), (byte) =>
    byte > 31 && byte < 127 && byte !== 92 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}
