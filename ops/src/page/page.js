// Live figures of one engine. Reads only the public JSON API and never writes.

const SAMPLES = 120;
const STORES_SHOWN = 10;
const ACKS = 11;
const acks = [];
const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const rates = [];
let before = null;
let storesAt = 0;

function show(id, text, tone = "") {
  const element = byId(id);
  element.textContent = text;
  if (element.classList.contains("figure")) {
    element.classList.toggle("bad", tone === "bad");
    element.classList.toggle("warn", tone === "warn");
  }
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

function micros(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

function span(us) {
  const seconds = Math.max(0, Math.round(us / 1e6));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function money(minor, currency, decimals) {
  const value = Number(minor) / 10 ** decimals;
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency, minimumFractionDigits: decimals }).format(value);
  } catch {
    return `${whole.format(value)} ${currency}`;
  }
}

// A sum that fits its tile: to the cent when small, to the unit below ten million, then shortened.
function largeMoney({ net_minor: minor, currency, decimals }) {
  const value = Number(minor) / 10 ** decimals;
  if (Math.abs(value) < 1e5) return money(minor, currency, decimals);
  const form = Math.abs(value) < 1e7
    ? { maximumFractionDigits: 0 }
    : { notation: "compact", maximumFractionDigits: 2 };
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency, ...form }).format(value);
  } catch {
    return money(minor, currency, decimals);
  }
}

function per(now, then, us) {
  return us > 0 ? Math.max(0, ((now - then) * 1e6) / us) : 0;
}

function cell(text, numeric = false) {
  const td = document.createElement("td");
  td.textContent = text;
  if (numeric) td.className = "n";
  return td;
}

function fill(id, rows, empty) {
  const body = byId(id).tBodies[0];
  if (rows.length === 0) {
    const td = cell(empty);
    td.colSpan = byId(id).tHead.rows[0].cells.length;
    td.className = "quiet";
    const tr = document.createElement("tr");
    tr.append(td);
    rows = [tr];
  }
  body.replaceChildren(...rows);
}

function row(...cells) {
  const tr = document.createElement("tr");
  tr.append(...cells);
  return tr;
}

function paragraph(...parts) {
  const p = document.createElement("p");
  p.append(...parts);
  return p;
}

function strong(text) {
  const b = document.createElement("b");
  b.textContent = text;
  return b;
}

function drawSpark() {
  const most = Math.max(1, ...rates);
  const step = 240 / (SAMPLES - 1);
  const from = SAMPLES - rates.length;
  const points = rates.map((rate, i) => `${((from + i) * step).toFixed(1)},${(42 - (rate / most) * 38).toFixed(1)}`);
  if (points.length < 2) return;
  byId("spark-line").setAttribute("d", `M${points.join("L")}`);
  byId("spark-area").setAttribute("d", `M${(from * step).toFixed(1)},44L${points.join("L")}L240,44Z`);
}

function showState(status) {
  const state = byId("state");
  const ready = status.health.ready;
  state.textContent = ready ? "ready" : "not ready";
  state.className = `pill ${ready ? "good" : "bad"}`;
  const f = status.figures;
  byId("about").textContent = `version ${status.version} · process ${status.pid} · up ${span(f.now_us - f.started_at_us)}`;
  const box = byId("reasons");
  box.hidden = ready;
  box.replaceChildren(...status.health.reasons.map((r) =>
    paragraph(strong(`${r.reason} `), `(for ${span(f.now_us - r.since_us)}) ${r.hint}`)));
  byId("command").textContent = `tillstream query sales --addr ${location.origin} --by store`;
}

function showRate(f) {
  const us = before ? f.now_us - before.now_us : 0;
  const rate = before ? per(f.events.acked, before.events.acked, us) : 0;
  if (before) {
    rates.push(rate);
    if (rates.length > SAMPLES) rates.shift();
    show("rate", rate < 10000 ? whole.format(Math.round(rate)) : compact.format(rate));
    show("rate-note", `made durable and answered; highest of the last two minutes ${compact.format(Math.max(...rates))}`);
  }
  drawSpark();
  show("acked", f.events.acked < 1e7 ? whole.format(f.events.acked) : compact.format(f.events.acked));
  show("acked-note", `from ${whole.format(f.sessions.streams)} open terminals on ${whole.format(f.sessions.connections)} connections`);
}

// How long frames of the last seconds took: the counters rise from the start on, so two looks are subtracted.
function showAcks(ack) {
  acks.push(new Map(ack.buckets));
  if (acks.length > ACKS) acks.shift();
  const then = acks.length > 1 ? acks[0] : new Map();
  const frames = ack.buckets.map(([us, count]) => [us, count - (then.get(us) ?? 0)]);
  const all = frames.reduce((sum, [, count]) => sum + count, 0);
  const quantile = (share) => {
    let left = Math.max(1, Math.ceil(all * share));
    return frames.find(([, count]) => (left -= count) <= 0)[0];
  };
  show("p99", all ? micros(quantile(0.99)) : "–");
  show("p99-note", all
    ? `p50 ${micros(quantile(0.5))}, last seconds; p99 ${micros(ack.p99_us)} since the start`
    : ack.count ? `no frame in the last seconds; p99 ${micros(ack.p99_us)} since the start` : "no frame was answered yet");
}

function showTiles(f) {
  showAcks(f.ack);
  const [first, ...others] = f.sales;
  show("sales", first ? largeMoney(first) : "–");
  show("sales-note", first
    ? [`${whole.format(first.transactions)} transactions, before tax`, ...others.map((s) => money(s.net_minor, s.currency, s.decimals))].join(" · ")
    : "nothing was sold yet");
  const behind = f.flush.behind_us;
  show("backlog", bytes(f.flush.backlog_bytes), behind > 1e7 ? "warn" : "");
  show("backlog-note", behind
    ? `oldest is ${micros(behind)} old; durable already`
    : f.flush.backlog_bytes ? "on its way to the rows; durable already" : "queries show everything that is durable");
  const share = f.disk.total_bytes ? f.disk.free_bytes / f.disk.total_bytes : 1;
  show("disk", f.disk.full ? "full" : `${bytes(f.disk.free_bytes)} free`, f.disk.full ? "bad" : share < 0.05 ? "warn" : "");
  show("disk-note", f.disk.full ? "ingestion waits for room; nothing acknowledged is lost" : `journal ${bytes(f.journal.bytes)} in ${f.journal.segments === 1 ? "1 segment" : `${whole.format(f.journal.segments)} segments`}`);
  const { resident_bytes: used, max_bytes: most } = f.memory;
  show("memory", used ? bytes(used) : "–", used > most ? "bad" : used > most * 0.9 ? "warn" : "");
  show("memory-note", `of ${bytes(most)} that the configuration allows`);
}

function showBooks(e) {
  const right = e.applied + e.duplicates + e.refused + e.quarantined + e.in_flight;
  const off = e.received - right;
  const parts = [
    strong(whole.format(e.received)), " received = ",
    strong(whole.format(e.applied)), " applied + ",
    strong(whole.format(e.duplicates)), " duplicate + ",
    strong(whole.format(e.refused)), " refused + ",
    strong(whole.format(e.quarantined)), " quarantined + ",
    strong(whole.format(e.in_flight)), " in flight ",
  ];
  const verdict = document.createElement("span");
  verdict.className = off === 0 ? "good-text" : "bad-text";
  verdict.textContent = off === 0 ? "✓ they do" : `✗ off by ${whole.format(off)}`;
  byId("books").replaceChildren(...parts, verdict);
}

function showShards(f) {
  const us = before ? f.now_us - before.now_us : 0;
  fill("shards", f.shards.map((s) => {
    const then = before?.shards.find((b) => b.shard === s.shard);
    const busiest = s.hot.slice(0, 3).map((h) => h.key).join(", ");
    const parked = s.parked ? ` · ${s.parked} parked` : "";
    const waiting = cell(`${bytes(s.queued * 1024)} of ${bytes(s.queue_max * 1024)}`, true);
    // A full queue slows the devices of its stores.
    waiting.classList.toggle("warn-text", s.queued > s.queue_max * 0.9);
    return row(
      cell(`${s.shard}`),
      cell(then ? compact.format(per(s.events, then.events, us)) : "–", true),
      waiting,
      cell(whole.format(s.actors), true),
      cell((busiest || "–") + parked),
    );
  }), "No shard runs.");
}

// An engine with rows of its own has no such part.
function showCluster(c) {
  byId("cluster").hidden = !c;
  if (!c) return;
  const parts = [
    `${whole.format(c.slots_open)} of ${whole.format(c.slots)} slots here, ${whole.format(c.slots_wanted)} wanted`,
    c.slots_free ? `${whole.format(c.slots_free)} are nobody's` : "",
    c.commit.count ? `commit p50 ${micros(c.commit.p50_us)}, p99 ${micros(c.commit.p99_us)} since the start` : "nothing was committed yet",
    `${whole.format(c.redirects)} devices sent elsewhere`,
    c.handoffs_waiting ? `${whole.format(c.handoffs_waiting)} chunks of dead engines wait` : "",
    c.stranded ? `${whole.format(c.stranded)} stranded records: tillstream quarantine list --stranded` : "",
  ];
  show("cluster-note", parts.filter(Boolean).join(" · "));
  fill("engines", c.engines.map((e) => {
    const lag = cell(e.lag_us ? micros(e.lag_us) : "–", true);
    lag.classList.toggle("warn-text", e.lag_us > 1e7);
    return row(cell(e.address + (e.leaving ? " · leaving" : "")), cell(whole.format(e.slots), true), lag);
  }), "No engine was seen yet.");
}

function showProblems(f) {
  const items = f.problems.slice(0, 8).map((p) => {
    const li = document.createElement("li");
    li.append(strong(`${new Date(p.at_us / 1000).toLocaleTimeString()} ${p.text}`), ` ${p.hint}`);
    return li;
  });
  if (items.length === 0) {
    const li = document.createElement("li");
    li.textContent = "None since the start.";
    items.push(li);
  }
  byId("problems").replaceChildren(...items);
}

async function showStores(f, decimals) {
  const answer = await read("/api/v1/sales?by=store");
  const rows = answer.rows.sort((a, b) => Number(b.net_minor) - Number(a.net_minor));
  if (rows.length) byId("stock-link").href = `/api/v1/stock?store=${rows[0].store}`;
  fill("stores", rows.slice(0, STORES_SHOWN).map((r) => row(
    cell(`${r.store}`),
    cell(whole.format(r.transactions), true),
    cell(whole.format(r.lines), true),
    cell(money(r.net_minor, r.currency, decimals.get(r.currency) ?? 2), true),
  )), "No store has sold anything yet.");
  show("stores-note", rows.length > STORES_SHOWN
    ? `${whole.format(f.stores)} registered; the ${STORES_SHOWN} that sold most`
    : `${whole.format(f.stores)} registered`);
}

async function read(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

async function refresh() {
  try {
    const status = await read("/api/v1/status");
    const f = status.figures;
    if (before && f.started_at_us !== before.started_at_us) {
      before = null;
      acks.length = 0;
    }
    showState(status);
    showRate(f);
    showTiles(f);
    showBooks(f.events);
    showShards(f);
    showCluster(f.cluster);
    showProblems(f);
    before = f;
    const asked = performance.now();
    if (asked >= storesAt) {
      await showStores(f, new Map(f.sales.map((s) => [s.currency, s.decimals])));
      // A large chain is asked less often, so that looking costs the engine little.
      storesAt = performance.now() + Math.max(2500, 20 * (performance.now() - asked));
    }
  } catch (error) {
    console.warn(error);
    const state = byId("state");
    state.textContent = "no answer";
    state.className = "pill bad";
  }
  setTimeout(refresh, 1000);
}

refresh();
