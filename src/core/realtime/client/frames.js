/**
 * What comes over the line, told apart and checked once, at the door.
 *
 * Every door hands on the same four kinds of frame, in the websocket's form: a message, the first word of a
 * subscription, a gap, a presence event. Anything else is the app's own.
 */

/**
 * @typedef {object} Envelope
 * @property {string} channel
 * @property {string} cursor position of this message in its channel
 * @property {string} id
 * @property {number} ts when it was published, in milliseconds since 1970, by the server's clock
 * @property {any} data
 * @property {string} [user] who published it, when a client did
 * @property {"base64"} [enc] how `data` writes bytes
 */

/** @typedef {{channel: string, subscribed: true, recovered: boolean | null, cursor: string}} FirstWord */
/** @typedef {{reason: string, after: string | null, until: string | null, count?: number | null}} Hole */
/** @typedef {{channel: string, gap: Hole, cursor: string}} GapFrame */
/** @typedef {{id: string, user: string | null, info: any}} Member */
/** @typedef {{event: "list", members: Member[]} | {event: "join" | "leave", member: Member}} PresenceEvent */
/** @typedef {"message" | "subscribed" | "gap" | "presence" | "position" | "other"} Kind */

const isText = (value) => typeof value === "string";
const isObject = (value) => typeof value === "object" && value !== null;

/**
 * Say what a decoded frame is.
 * @param {any} frame
 * @returns {Kind}
 */
export function kindOf(frame) {
  if (!isObject(frame) || !isText(frame.channel)) {
    return "other";
  }
  if (frame.subscribed === true) {
    return "subscribed";
  }
  if (isObject(frame.gap)) {
    return "gap";
  }
  if (isObject(frame.presence)) {
    return "presence";
  }
  return isText(frame.cursor) && isText(frame.id) && "data" in frame ? "message" : "other";
}

/**
 * Decode one frame's text.
 * @param {string} text
 * @returns {any}
 * @throws {SyntaxError} it is not JSON
 */
export function readFrame(text) {
  return JSON.parse(text);
}

/**
 * The payload of an envelope as it was published.
 * @param {Envelope} envelope
 * @returns {any} what the JSON says; a Uint8Array for bytes
 */
export function payload(envelope) {
  if (envelope.enc !== "base64") {
    return envelope.data;
  }
  return Uint8Array.from(atob(envelope.data), (letter) => letter.charCodeAt(0));
}
