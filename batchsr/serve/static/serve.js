"use strict";
// Keeps the part of a page that is marked data-live as it is on the server, and has a file heard when that is asked.

async function freshen() {
  const live = document.querySelector("[data-live]");
  const isChosenFrom = () => live.querySelector("input:checked") !== null; // what somebody is choosing stays where it is
  if (!live || isChosenFrom()) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
  if (!fresh || fresh.innerHTML === live.innerHTML || isChosenFrom()) return;
  const links = (node) => [...node.querySelectorAll("a, button, input, [tabindex]")];
  const focused = links(live).indexOf(document.activeElement);
  const across = live.querySelector(".scroll")?.scrollLeft ?? 0;
  live.replaceChildren(...document.adoptNode(fresh).childNodes);
  if (focused >= 0) links(live)[focused]?.focus({ preventScroll: true });
  const table = live.querySelector(".scroll");
  if (table) table.scrollLeft = across;
}

function listen() {
  const said = document.getElementById("link");
  let waiting = false;
  const events = new EventSource(document.body.dataset.changes);
  events.addEventListener("open", () => { said.textContent = ""; document.body.dataset.linked = "yes"; });
  events.addEventListener("error", () => { said.textContent = "The server does not answer; what stands here may be old. Trying again."; });
  events.addEventListener("changed", () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; freshen().catch(() => {}); }, 300);
  });
  addEventListener("pagehide", () => events.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

async function hear(button) {
  const said = document.getElementById("preparing");
  button.disabled = true;
  said.textContent = "Being prepared; that takes some seconds.";
  try {
    const answer = await fetch(button.dataset.heard, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    listening([await answer.json()]);
    said.textContent = "";
    button.hidden = true;
    document.querySelector("#files .player button").focus();
  } catch (error) {
    said.textContent = error.message;
    button.disabled = false;
  }
}

const button = document.getElementById("hear");
if (button) button.addEventListener("click", () => hear(button));
if (document.querySelector("[data-live]")) listen();
