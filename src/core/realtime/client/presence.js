/** Who is in a channel: the members told so far, kept by connection and shown by user. */

/** @typedef {import("./frames.js").Member} Member */
/** @typedef {import("./frames.js").PresenceEvent} PresenceEvent */

export class Presence {
  constructor() {
    /** @type {Map<string, Member>} by connection id */
    this.members = new Map();
  }

  /**
   * Take in what the server says.
   * @param {PresenceEvent} event a `list` replaces everything, so nothing is left over from before a cut
   */
  apply(event) {
    if (event.event === "list") {
      this.members = new Map(event.members.map((member) => [member.id, member]));
    } else if (event.event === "join") {
      this.members.set(event.member.id, event.member);
    } else if (event.event === "leave") {
      this.leave(event.member);
    }
  }

  /**
   * A leave is told once for a user's last connection, by the name of that connection; others of the same user that
   * were never seen to leave go with it.
   * @param {Member} member
   */
  leave(member) {
    this.members.delete(member.id);
    for (const [id, other] of this.members) {
      if (member.user !== null && other.user === member.user) {
        this.members.delete(id);
      }
    }
  }

  /**
   * One member for each user, and one for each anonymous connection, in the order of their first coming.
   * @returns {Member[]}
   */
  people() {
    const people = new Map();
    for (const member of this.members.values()) {
      people.set(member.user === null ? `#${member.id}` : `@${member.user}`, member);
    }
    return [...people.values()];
  }
}
