// Numbers as people read them.

const WHOLE = new Intl.NumberFormat("en");

/** 1234567 -> "1,234,567" */
export function whole(value) {
  return WHOLE.format(value);
}

/** Bytes in the unit that the limit is set in: megabytes of 10^6. */
export function bytes(value) {
  if (value < 1000) return `${value} bytes`;
  if (value < 1e6) return `${trimmed(value / 1e3)} kB`;
  return `${trimmed(value / 1e6)} MB`;
}

/** Milliseconds, as seconds from one second on. */
export function milliseconds(value) {
  return value < 1000 ? `${Math.round(value)} ms` : `${trimmed(value / 1000)} s`;
}

/** Seconds, as minutes from two minutes on. */
export function seconds(value) {
  if (value < 120) return `${trimmed(value)} s`;
  const minutes = Math.floor(value / 60);
  const rest = Math.round(value % 60);
  return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

/** 0.8706, [0.7498, 0.9282] -> "0.87 (95 % interval 0.75 to 0.93)" */
export function estimate(value, interval) {
  const range = interval ? ` (95 % interval ${interval[0].toFixed(2)} to ${interval[1].toFixed(2)})` : "";
  return `${value.toFixed(2)}${range}`;
}

function trimmed(value) {
  return String(Number(value.toFixed(1)));
}
