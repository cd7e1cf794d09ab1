// @ts-check
// Numbers as people read them: three digits and a prefix, and never a zero for what is not nothing.

/** @typedef {'packets' | 'bits' | 'bytes'} Unit */

/**
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (value <= 0) return '0';
  if (value < 0.01) return '<0.01';
  let scaled = value;
  let prefix = '';
  for (const next of ['k', 'M', 'G', 'T', 'P']) {
    if (scaled < 999.5) break;
    scaled /= 1000;
    prefix = next;
  }
  const isWhole = !prefix && Math.abs(scaled - Math.round(scaled)) < 1e-9;
  const decimals = isWhole ? 0 : scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  return scaled.toFixed(decimals) + (prefix && '\u202f' + prefix);
}

/** @param {number} count */
export const exact = count => String(count).replace(/\B(?=(\d{3})+$)/g, ',');

/** @param {number | null | undefined} share */
export function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return '–';
  const value = share * 100;
  if (value <= 0) return '0\u202f%';
  if (value < 0.1) return '<0.1\u202f%';
  if (value < 9.95) return value.toFixed(1) + '\u202f%';
  return (value < 100 ? Math.min(99, Math.round(value)) : Math.round(value)) + '\u202f%';
}

/** @param {number | null | undefined} ns */
export function time(ns) {
  if (ns === null || ns === undefined) return '–';
  const [value, unit] = ns < 1e3 ? [ns, 'ns'] : ns < 1e6 ? [ns / 1e3, 'µs'] : ns < 1e9 ? [ns / 1e6, 'ms'] : [ns / 1e9, 's'];
  return `${unit === 'ns' || value >= 99.95 ? Math.round(value) : value.toFixed(1)}\u202f${unit}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (!minutes) return `${whole} s`;
  return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
}

/** @param {number} seconds since the Unix epoch */
export function clock(seconds) {
  const at = new Date(seconds * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(part => String(part).padStart(2, '0')).join(':');
}

/** @param {number} seconds since the Unix epoch */
export function date(seconds) {
  const at = new Date(seconds * 1000);
  const month = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'][at.getMonth()];
  return `${at.getDate()} ${month} ${clock(seconds)}`;
}

/**
 * @param {Unit} unit
 * @param {number | null} packets
 * @param {number | null} bytes
 */
export const inUnit = (unit, packets, bytes) => unit === 'packets' ? packets : bytes === null ? null : unit === 'bits' ? bytes * 8 : bytes;

/** @param {Unit} unit */
export const perSecond = unit => ({ packets: 'packets/s', bits: 'bits/s', bytes: 'bytes/s' })[unit];
