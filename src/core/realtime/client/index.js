/**
 * Follow channels from a page: every message once, in order, through whichever door works, over any number of cuts.
 *
 *     import { connect } from "/_samovar/client/index.js";
 *
 *     const line = connect({ websocket: "/ws", sse: "/events", poll: "/poll" });
 *     line.subscribe("feed", {
 *       since: document.body.dataset.since, // the page-load cursor: no hole between the page and what follows
 *       onmessage: (data, envelope) => console.log(data, envelope.id),
 *       ongap: (gap) => console.warn("missed", gap),
 *       onstatus: (status) => console.info(status.state),
 *     });
 */

import { Connection } from "./connection.js";

export { backoff } from "./backoff.js";
export { Connection } from "./connection.js";
export { compare, distance, formatCursor, parseCursor, parsePosition } from "./cursor.js";
export { Subscription } from "./subscription.js";

/**
 * Make a connection; it opens with the first subscription.
 * @param {Partial<Record<import("./env.js").Door, string>>} doors URLs, in the order in which to try them
 * @param {import("./env.js").Env} [options] see `env.js`
 * @returns {Connection}
 */
export function connect(doors, options) {
  return new Connection(doors, options);
}
