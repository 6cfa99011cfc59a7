/** The feed: posts, newest first, and who is here. */

import { clock } from "./format.js";

const SHOWN = 200;

export class Feed {
  /**
   * @param {HTMLOListElement} list
   * @param {HTMLTemplateElement} template of one post
   */
  constructor(list, template) {
    this.list = list;
    this.template = template;
    for (const time of list.querySelectorAll("time[data-ts]")) {
      stamp(time, Number(time.dataset.ts));
    }
  }

  /**
   * @param {{kind: string, name: string, hue: number, text?: string, before?: string}} data
   * @param {{id: string, ts: number}} envelope
   * @param {boolean} late it was published while the line was cut
   */
  add(data, { id, ts }, late) {
    const item = this.template.content.firstElementChild.cloneNode(true);
    item.dataset.id = id;
    item.classList.add(data.kind, "new");
    item.classList.toggle("late", late);
    item.querySelector("i").style.setProperty("--hue", data.hue);
    item.querySelector("p").append(...words(data));
    stamp(item.querySelector("time"), ts);
    this.list.prepend(item);
    while (this.list.children.length > SHOWN) {
      this.list.lastElementChild.remove();
    }
  }

  /** Some posts are missing here, and it would be wrong to hide it. */
  missing(gap) {
    const item = this.template.content.firstElementChild.cloneNode(true);
    item.classList.add("name");
    item.querySelector("p").textContent = `some posts are missing here (${gap.reason})`;
    this.list.prepend(item);
  }
}

/** What others wrote goes in as text, never as markup. */
function words({ kind, name, text, before }) {
  const bold = (content) => Object.assign(document.createElement("b"), { textContent: content });
  return kind === "name" ? [bold(before), " is now called ", bold(name)] : [bold(name), ` ${text}`];
}

function stamp(time, ts) {
  time.dateTime = new Date(ts).toISOString();
  time.textContent = clock(ts);
  time.title = new Date(ts).toLocaleString();
}

export class People {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} count
   * @param {string} me the visitor's own id
   * @param {Record<string, string>} names of visitors who have taken another one
   */
  constructor(list, count, me, names) {
    this.list = list;
    this.count = count;
    this.me = me;
    /** @type {Map<string, string>} visitor to newest name */
    this.names = new Map(Object.entries(names));
    this.members = [];
  }

  /** @param {{id: string, user: string | null, info: {name: string, hue: number}}[]} members */
  show(members) {
    this.members = members;
    this.count.textContent = String(members.length);
    const mine = ({ user }) => user === this.me;
    const ordered = [...members].sort((a, b) => Number(mine(b)) - Number(mine(a)));
    this.list.replaceChildren(...ordered.map((member) => this.item(member, mine(member))));
  }

  /** Somebody took another name; a connection shows the one it was opened with. */
  renamed(visitor, name) {
    this.names.set(visitor, name);
    if (this.names.size > 500) {
      this.names.delete(this.names.keys().next().value);
    }
    this.show(this.members);
  }

  item({ user, info }, mine) {
    const item = document.createElement("li");
    const dot = document.createElement("i");
    dot.style.setProperty("--hue", info?.hue ?? 0);
    item.classList.toggle("you", mine);
    item.append(dot, this.names.get(user) ?? info?.name ?? "somebody");
    return item;
  }
}
