/**
 * Positions and cursors, as the server writes them.
 *
 * A position is `epoch:offset` of one channel; offsets are compared inside one epoch only. A cursor is one position, or
 * several as `channel=epoch:offset,channel=epoch:offset`; nothing after the `=` stands for a position never learned.
 */

/** @typedef {{epoch: string, offset: bigint}} Position */

const POSITION = /^([A-Za-z0-9_.~-]{1,80}):(\d{1,19})$/;

/**
 * Read `epoch:offset`.
 * @param {unknown} text
 * @returns {Position | null} null when it does not read so
 */
export function parsePosition(text) {
  const match = typeof text === "string" ? POSITION.exec(text) : null;
  return match ? { epoch: match[1], offset: BigInt(match[2]) } : null;
}

/**
 * Order two positions of one channel.
 * @param {Position} a
 * @param {Position} b
 * @returns {number | null} below, equal to or above zero as `a` is before, at or after `b`; null across epochs
 */
export function compare(a, b) {
  if (a.epoch !== b.epoch) {
    return null;
  }
  return a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0;
}

/**
 * How many offsets lie after `after` up to and including `until`.
 * @param {unknown} after a position's text
 * @param {unknown} until a position's text
 * @returns {number | null} null when either is unknown or they are of two epochs
 */
export function distance(after, until) {
  const [from, to] = [parsePosition(after), parsePosition(until)];
  if (!from || !to || from.epoch !== to.epoch) {
    return null;
  }
  return Number(to.offset - from.offset);
}

/**
 * Read a cursor into channel → position.
 * @param {string} text
 * @param {string} [only] the channel that a cursor naming none speaks of
 * @returns {Map<string, string>} positions as text, "" for one never learned; empty when the text is no cursor
 */
export function parseCursor(text, only) {
  const cursors = new Map();
  if (!text.includes("=")) {
    if (only !== undefined && (text === "" || parsePosition(text))) {
      cursors.set(only, text);
    }
    return cursors;
  }
  for (const part of text.split(",")) {
    const equals = part.indexOf("=");
    const [channel, position] = [part.slice(0, equals), part.slice(equals + 1)];
    if (equals < 1 || (position !== "" && !parsePosition(position))) {
      return new Map();
    }
    cursors.set(channel, position);
  }
  return cursors;
}

/**
 * Write a cursor, always with the channels' names, so that it cannot be taken for another channel's.
 * @param {Iterable<[string, string]>} cursors channel and position
 * @returns {string} "" when there are none
 */
export function formatCursor(cursors) {
  return Array.from(cursors, ([channel, position]) => `${channel}=${position}`).join(",");
}
