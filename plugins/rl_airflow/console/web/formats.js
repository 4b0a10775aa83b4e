/** Numbers, money and times as text. A missing value is a dash. */

export const NONE = "–";

const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

/** Four digits, with k or M for thousands and millions. */
export function short(x) {
  if (!isNumber(x)) return NONE;
  const size = Math.abs(x);
  if (size >= 999_950) return `${+(x / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(x / 1e3).toPrecision(3)}k`;
  return `${+x.toPrecision(4)}`;
}

/** An integer with thousands separated. */
export const whole = (x) => (isNumber(x) ? Math.round(x).toLocaleString("en-US") : NONE);

/** US dollars: cents, or four decimals below a dollar, because a night may cost less than a cent. */
export function usd(x) {
  if (!isNumber(x)) return NONE;
  return `$${x.toFixed(x !== 0 && Math.abs(x) < 1 ? 4 : 2)}`;
}

/** A probability: never a bare 0. */
export function probability(p) {
  if (!isNumber(p)) return NONE;
  return p !== 0 && p < 0.001
    ? p.toExponential(1).replace(/-(\d)$/, "-0$1")
    : p === 0
      ? "below 1e-300"
      : `${+p.toPrecision(3)}`;
}

/** A duration with its two largest units. */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const s = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(s / 86400), "d"],
    [Math.floor(s / 3600) % 24, "h"],
    [Math.floor(s / 60) % 60, "min"],
    [s % 60, "s"],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(" ");
}

const two = (n) => `${n}`.padStart(2, "0");

/** A time in the reader's time zone: 2026-11-30 22:45. */
export function localTime(at) {
  const date = new Date(at ?? NaN);
  if (Number.isNaN(date.getTime())) return NONE;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** The same time in UTC: 2026-11-30 21:45:10 UTC. */
export function utcTime(at) {
  const date = new Date(at ?? NaN);
  if (Number.isNaN(date.getTime())) return "";
  return `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** The distance of a time from now: "in 3 h 5 min", "2 d ago". */
export function fromNow(at, now = Date.now()) {
  const seconds = (new Date(at ?? NaN).getTime() - now) / 1000;
  if (Number.isNaN(seconds)) return "";
  const words = duration(
    Math.abs(seconds) < 60 ? Math.abs(seconds) : 60 * Math.round(Math.abs(seconds) / 60),
  );
  return seconds >= 0 ? `in ${words}` : `${words} ago`;
}

/** "1 run", "2 runs". */
export const count = (n, noun) => `${whole(n)} ${noun}${n === 1 ? "" : "s"}`;

/** What a decision or a state means, in a word or two. Unknown ones are shown as they are. */
const WORDS = {
  PROMOTE: "promote",
  KEEP: "not promoted",
  INCONCLUSIVE: "undecided",
  UNCHANGED: "unchanged",
  rolled_back: "rolled back",
};
export const wordsOf = (name) => WORDS[name] ?? `${name ?? NONE}`.replaceAll("_", " ");

/** A scalar of a spec as text. */
export const scalar = (value) =>
  value === null || value === undefined ? NONE : isNumber(value) ? `${value}` : String(value);

/** Characters that move the cursor or reverse the text could hide a part of a line. */
const UNSEEN =
  /\u001b\[[0-9;?]*[A-Za-z]|[\u0000-\u0008\u000b-\u001f\u007f\u202a-\u202e\u2066-\u2069]/g;
export const printable = (text) => text.replace(UNSEEN, "");

/** Markdown of a question as plain text: a link becomes its words, and a list has bullets. */
export const plainText = (markdown) =>
  printable(markdown ?? "")
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[*`]/g, "")
    .replace(/^- /gm, "• ");
