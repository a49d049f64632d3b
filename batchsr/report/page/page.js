// --- the table ---------------------------------------------------------------------------------------------------
const PAGE = 100;
let names = [], rows = [], shown = [], page = 0, sorted = "", down = false;
const HEADS = { id: "No.", state: "State", source: "Recording", audio_s: "Length", rtf: "x real time", output: "Output", error: "Why" };

async function unpack() {
  const stream = new Blob([bytes($("rows").textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const all = JSON.parse(await new Response(stream).text());
  names = all[0];
  rows = all.slice(1);
}

const at = (row, name) => row[names.indexOf(name)];

function filter() {
  const text = $("search").value.toLowerCase(), wanted = { state: $("state").value, batch: $("batch").value, error_code: $("error").value };
  shown = rows.filter((row) => {
    for (const [name, value] of Object.entries(wanted)) if (value && at(row, name) !== value) return false;
    return !text || ["source", "error", "error_code", "remarks"].some((name) => String(at(row, name) ?? "").toLowerCase().includes(text));
  });
  if (sorted) {
    const place = names.indexOf(sorted), sign = down ? -1 : 1;
    shown.sort((a, b) => {
      const x = a[place], y = b[place];
      if (x === y) return 0;
      if (x === null) return 1;
      if (y === null) return -1;
      return (x < y ? -1 : 1) * sign;
    });
  }
  page = 0;
  draw();
}

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  page = Math.min(Math.max(0, page), pages - 1);
  const body = $("table").tBodies[0];
  body.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map((row) => {
    const line = make("tr", null, { class: at(row, "state") });
    for (const name of Object.keys(HEADS)) line.append(cell(row, name));
    return line;
  }));
  const first = shown.length ? page * PAGE + 1 : 0;
  $("place").textContent = `${first.toLocaleString("en")} to ${Math.min(shown.length, (page + 1) * PAGE).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
  $("first").disabled = $("before").disabled = page === 0;
  $("after").disabled = $("last").disabled = page >= pages - 1;
}

function cell(row, name) {
  const value = at(row, name);
  if (name === "audio_s") return make("td", clock(value), { class: "number" });
  if (name === "rtf") return make("td", value ? (1 / value).toFixed(2) : "", { class: "number" });
  if (name === "id") return make("td", value, { class: "number" });
  if (name === "output") {
    const node = make("td", null, { class: "text" });
    if (at(row, "state") === "done") node.append(make("a", value.split("/").pop(), { href: "file://" + value.split("/").map(encodeURIComponent).join("/") }));
    return node;
  }
  if (name === "error") return make("td", value ?? at(row, "remarks") ?? "", { class: "text" });
  return make("td", value, { class: "text" });
}

function heads() {
  const line = $("table").tHead.rows[0];
  for (const [name, text] of Object.entries(HEADS)) {
    const button = make("button", text, { type: "button" }), head = make("th", null, { scope: "col" });
    button.addEventListener("click", () => {
      down = sorted === name ? !down : false;
      sorted = name;
      for (const other of line.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      filter();
    });
    head.append(button);
    line.append(head);
  }
}

function choices(id, name) {
  const counts = new Map();
  for (const row of rows) if (at(row, name)) counts.set(at(row, name), (counts.get(at(row, name)) ?? 0) + 1);
  for (const [value, count] of [...counts].sort()) $(id).append(make("option", `${value} (${count.toLocaleString("en")})`, { value }));
  if (!counts.size) $(id).parentElement.hidden = true;
}

function kinds() {
  const found = new Map();
  for (const row of rows) {
    const code = at(row, "error_code");
    if (!code || !["failed", "quarantined"].includes(at(row, "state"))) continue;
    if (!found.has(code)) found.set(code, { count: 0, example: at(row, "error") });
    found.get(code).count += 1;
  }
  $("failures").hidden = !found.size;
  for (const [code, kind] of [...found].sort((a, b) => b[1].count - a[1].count)) {
    const line = make("li"), button = make("button", `show ${kind.count === 1 ? "it" : "them"}`, { type: "button" });
    button.addEventListener("click", () => { $("error").value = code; filter(); $("all").scrollIntoView(); });
    line.append(make("b", `${kind.count.toLocaleString("en")} × ${code} `), make("span", `${kind.example ?? ""} `), button);
    $("kinds").append(line);
  }
}

async function start() {
  listening(JSON.parse($("heard").textContent).heard);
  heads();
  try {
    await unpack();
  } catch (error) {
    $("place").textContent = "This browser cannot unpack the table: a newer one can.";
    return;
  }
  choices("state", "state");
  choices("batch", "batch");
  choices("error", "error_code");
  kinds();
  for (const id of ["search", "state", "batch", "error"]) $(id).addEventListener("input", filter);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  const go = (id, to) => $(id).addEventListener("click", () => { page = to(); draw(); });
  go("first", () => 0);
  go("before", () => page - 1);
  go("after", () => page + 1);
  go("last", () => Infinity);
  filter();
  document.body.dataset.ready = "yes";
}

start();
