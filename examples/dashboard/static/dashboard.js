/** The page: history first, then what follows it, through the doors this page has. */

import { connect } from "samovar";

import { Feed, People } from "./feed.js";
import { sendQuietly } from "./forms.js";
import { MachinePanels, TrafficPanel } from "./panels.js";
import { Stage } from "./stage.js";
import { Line } from "./status.js";

const LOGGED = 5000;

const $ = (selector) => document.querySelector(selector);
const first = JSON.parse($("#first").textContent);
const { urls } = first;

const machine = new MachinePanels();
const traffic = new TrafficPanel();
const stage = new Stage([...machine.charts, ...traffic.charts]);
const feed = new Feed($("[data-posts]"), $("#post"));
const people = new People($("[data-people]"), $('[data-n="people"]'), first.visitor, first.names);

first.charts.machine.forEach((point) => machine.add(point));
first.charts.traffic.forEach((point) => traffic.add(point));
first.charts.machine.slice(-1).forEach(({ t }) => stage.seen(t));

/** Ids of what was received live, by channel, for whoever wants to check that nothing is lost or doubled. */
const log = { machine: [], traffic: [], feed: [] };

function note(channel, id) {
  log[channel].push(id);
  if (log[channel].length > LOGGED) {
    log[channel].shift();
  }
}

const CHANNELS = {
  machine: {
    message(point, late) {
      machine.add(point, late);
      if (!late) {
        stage.seen(point.t);
      }
    },
    gap: () => machine.missing(),
    door(door) {
      stage.bundle = door === "poll" ? 900 : 0;
    },
  },
  traffic: { message: (point, late) => traffic.add(point, late), gap: () => traffic.missing() },
  feed: {
    message(said, late, envelope) {
      feed.add(said, envelope, late);
      if (said.kind === "name") {
        people.renamed(said.visitor, said.name);
      }
    },
    gap: (gap) => feed.missing(gap),
  },
};

/** Open one connection and follow these channels through it. */
function open(doors, channels, line, options) {
  const connection = connect(doors, options);
  for (const channel of channels) {
    connection.subscribe(channel, {
      since: first.since[channel],
      onmessage(data, envelope, late) {
        note(channel, envelope.id);
        CHANNELS[channel].message(data, late, envelope);
      },
      ongap: (gap) => CHANNELS[channel].gap(gap),
      onpresence: (members) => people.show(members),
      onstatus(status) {
        line.show(channel, status);
        CHANNELS[channel].door?.(status.door);
      },
    });
  }
  return connection;
}

const line = (name) => new Line($(`[data-line="${name}"]`));
const tab = `tab=${Math.random().toString(36).slice(2)}`;
const polling = { pace: 0.5, firstPoll: "wait=0", pollLimit: 40 };

const lines =
  first.page === "poll"
    ? [open({ poll: `${urls.all}?${tab}` }, ["machine", "traffic", "feed"], line("all"), polling)]
    : [
        open({ sse: urls.chartsEvents, poll: `${urls.chartsPoll}?${tab}` }, ["machine", "traffic"], line("charts"), {
          ...polling, silence: 10,
        }),
        open({ websocket: urls.feedSocket, sse: urls.feedEvents, poll: `${urls.feedPoll}?${tab}` }, ["feed"], line("feed"), {
          ...polling, ping: 25,
        }),
      ];

// Only the websocket tells of comings and goings; by another door they are asked for.
async function askWhoIsHere() {
  const connection = lines.at(-1);
  if (connection.door !== "websocket" && connection.state === "live" && !document.hidden) {
    const response = await fetch(urls.people).catch(() => null);
    if (response?.ok) {
      people.show(await response.json());
    }
  }
}
setInterval(askWhoIsHere, 5000);
setTimeout(askWhoIsHere, 1500); // a poller is counted from its second poll on

sendQuietly($("[data-say]"), $("[data-problem]"), () => {
  $("#text").value = "";
});

sendQuietly($("[data-rename]"), $("[data-problem]"), ({ name }) => {
  $("[data-me]").textContent = name;
  $(".me").open = false;
  lines.at(-1).reconnect(); // a connection shows the name it was opened with
});

const cut = $("[data-cut]");
cut.hidden = false;
cut.addEventListener("click", () => {
  const seconds = Number(cut.dataset.cut);
  lines.forEach((connection) => connection.interrupt(seconds));
  cut.disabled = true;
  setTimeout(() => (cut.disabled = false), seconds * 1000);
});

$("[data-curl]").textContent = `curl -d text=hello ${new URL($("[data-say]").action).origin}${new URL($("[data-say]").action).pathname}`;

window.dashboard = { log, lines, since: first.since };
