// Prints the events of the feed, each once, one JSON object a line, from where it left off, and follows.
//
//   node consumer.mjs --bus nats://host:4222 [--creds consumer.nk] [--cursor FILE] [--until N]
//
// It reads batches by direct get, asks the stream's leader whether that was all, and waits for the bell. It makes no consumer
// on the server, and needs no right to. What it has done and where it is stand in one place, the cursor file: a line for each
// event. If killed, it goes on behind the last whole line. --until ends it after N events; the test uses that.
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { decode } from "@msgpack/msgpack";
import { connect, createInbox, nkeyAuthenticator, nkeys } from "@nats-io/transport-node";

const EVENTS = "rollbook.event.>";
const { values: flags } = parseArgs({
  options: {
    bus: { type: "string", default: "nats://127.0.0.1:4222" },
    creds: { type: "string" },
    cursor: { type: "string", default: "cursor.jsonl" },
    until: { type: "string", default: "0" },
  },
});

// The kinds and fields of docs/events.md, as far as this program wants them.
const KINDS = { 7: "LoginRejected", 8: "SessionStarted", 9: "SessionRefreshed", 11: "SessionEnded" };
const VENUES = ["", "genesis", "traderevolution", "advauth", "zenith", "nebula"];

function read(body) {
  const [kind, version, at, user, ...rest] = decode(body, { useBigInt64: true });
  if (version !== 1) throw new Error(`an event of version ${version}: upgrade`);
  const event = { kind: KINDS[kind] ?? `kind ${kind}`, at: new Date(Number(BigInt(at) / 1000000n)).toISOString(), user };
  if (kind === 8) {
    event.session = uuid(rest[0]);
    event.venue = VENUES[rest[1]];
  }
  if (kind === 11) event.session = uuid(rest[0]);
  return event;
}

function uuid(bytes) {
  return bytes && Buffer.from(bytes).toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// A position is partition/page.index: it is after another one of the same partition, or it was seen.
function parse(position) {
  const [, partition, page, index] = /^(\d+)\/(\d+)\.(\d+)$/.exec(position);
  return { partition, page: BigInt(page), index: BigInt(index) };
}

function after(a, b) {
  return b === undefined || a.page > b.page || (a.page === b.page && a.index > b.index);
}

// The cursor: every event so far, on a line of its own. Half a line is of an event that has not happened yet.
let sequence = 0;
let stream = "";
const seen = {};
if (existsSync(flags.cursor)) {
  const text = readFileSync(flags.cursor, "utf8");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  truncateSync(flags.cursor, Buffer.byteLength(whole));
  for (const line of whole.split("\n").filter(Boolean)) {
    const event = JSON.parse(line);
    const position = parse(event.position);
    seen[position.partition] = position;
    sequence = event.sequence;
    stream = event.stream;
  }
}
const file = openSync(flags.cursor, "a");

// With a key the replies go below its public half, the one place where the bus permits them.
const options = { servers: flags.bus, maxReconnectAttempts: -1 };
if (flags.creds) {
  const seed = new TextEncoder().encode(/S[A-Z0-9]{50,}/.exec(readFileSync(flags.creds, "utf8"))[0]);
  options.authenticator = nkeyAuthenticator(seed);
  options.inboxPrefix = `_INBOX.${nkeys.fromSeed(seed).getPublicKey()}`;
}
const nc = await connect(options);

let ring = () => {};
let rung = false;
nc.subscribe("rollbook.live.feed.*", {
  callback: () => {
    rung = true;
    ring();
  },
});

let count = 0;
function take(m) {
  const at = Number(m.headers.get("Nats-Sequence"));
  const position = parse(m.headers.get("Rollbook-Position"));
  if (after(position, seen[position.partition])) {
    const line = JSON.stringify({ position: m.headers.get("Rollbook-Position"), sequence: at, stream, ...read(m.data) });
    writeSync(file, line + "\n"); // what was done, and where we are: one write
    console.log(line);
    seen[position.partition] = position;
    count++;
  }
  sequence = at;
}

// batch asks for what follows and says whether there is more. The answer ends with a message that has a status.
async function batch() {
  const inbox = createInbox(options.inboxPrefix);
  const answers = nc.subscribe(inbox, { timeout: 5000 });
  nc.publish("$JS.API.DIRECT.GET.EVENTS", JSON.stringify({ seq: sequence + 1, batch: 500, next_by_subj: EVENTS }), { reply: inbox });
  try {
    for await (const m of answers) {
      const status = m.headers?.code ?? 0;
      if (status === 404) return false;
      if (status === 204) return Number(m.headers.get("Nats-Num-Pending")) > 0;
      if (status !== 0) throw new Error(`the bus answers ${status}`);
      take(m);
      if (count === Number(flags.until)) return false;
    }
  } finally {
    answers.unsubscribe();
  }
}

const ask = async (subject, question) => (await nc.request(subject, question && JSON.stringify(question), { timeout: 5000 })).json();

// A stream that was made anew counts from 1 again, perhaps of a book that was restored from a backup and has other events at
// positions that were seen: docs/backup.md. Somebody has to look at what was done since.
const { created } = await ask("$JS.API.STREAM.INFO.EVENTS");
if (stream !== "" && stream !== created) {
  throw new Error(`the feed was made anew at ${created}: look whether the book was restored, and begin with another cursor file`);
}
stream = created;

// What retention took before it was read is missing, and nobody else says so. Between two events there may be a marker.
async function unbroken() {
  const { state } = await ask("$JS.API.STREAM.INFO.EVENTS");
  if (sequence > 0 && state.first_seq > sequence + 2 && state.last_seq > sequence) {
    throw new Error(`the feed no longer has what follows ${sequence}: it begins with ${state.first_seq}`);
  }
}

const done = () => Number(flags.until) > 0 && count >= Number(flags.until);
while (!done()) {
  rung = false;
  await unbroken();
  while (!done() && (await batch()));
  if (done()) break;
  // A replica that lags may have answered: the leader knows whether that was all.
  const next = await ask("$JS.API.STREAM.MSG.GET.EVENTS", { seq: sequence + 1, next_by_subj: EVENTS });
  if (next.error?.err_code === 10037 && !rung) {
    await new Promise((resolve) => {
      ring = resolve;
      setTimeout(resolve, 2000);
    });
  }
}
closeSync(file);
await nc.drain();
