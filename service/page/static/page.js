// The page works by its links and forms alone, every state an address. This script fetches the same and swaps what changed.
"use strict";
(() => {
  const KEY = "recsys-ae-key"; // in this tab's session; never in an address
  const PAUSE = 200; // milliseconds without a key pressed before a search is asked for
  const page = document.getElementById("page");
  const byId = id => document.getElementById(id);
  const keyForm = byId("key");
  let wanted = new URLSearchParams(location.search);
  let asking = null;
  let pause = 0;
  let opener = "";

  // What a link changes is applied to what was last asked for, so that two quick clicks both count.
  function change(query, name, value) {
    if (name === "add" || name === "remove") {
      const kept = query.getAll("history").filter(id => id !== value);
      query.delete("history");
      for (const id of name === "add" ? [...kept, value].slice(-page.dataset.longest) : kept) query.append("history", id);
      if (name === "add") query.delete("user");
    } else if (name === "clear") {
      query.delete("history");
    } else if (value) {
      query.set(name, value);
    } else {
      query.delete(name);
    }
  }

  async function show(focus) {
    clearTimeout(pause);
    asking?.abort();
    const mine = (asking = new AbortController());
    const query = wanted.toString();
    const key = sessionStorage.getItem(KEY);
    page.setAttribute("aria-busy", "true");
    try {
      const headers = key ? { "X-API-Key": key } : {};
      const answer = await fetch("page/data" + (query && "?" + query), { headers, signal: mine.signal });
      const text = await answer.text();
      if (mine.signal.aborted) return;
      if ((answer.headers.get("content-type") || "").startsWith("text/html")) {
        if (keyForm) keyForm.hidden = true;
        swap(new DOMParser().parseFromString(text, "text/html"), focus);
        history.replaceState(null, "", query ? "?" + query : location.pathname);
      } else {
        refused(answer.status, JSON.parse(text).detail);
      }
    } catch (error) {
      if (error.name !== "AbortError") notice("The service does not answer. Try again soon.");
    } finally {
      if (asking === mine) page.removeAttribute("aria-busy");
    }
  }

  function swap(fresh, focus) {
    const held = document.activeElement;
    const before = new Set([...document.querySelectorAll("#list [data-item]")].map(row => row.dataset.item));
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const old = byId(part.id);
      if (old.outerHTML === part.outerHTML) continue;
      const place = old.contains(held) ? placeOf(held, old) : null;
      old.replaceWith(part);
      if (part.id === "list" && before.size) {
        for (const row of part.querySelectorAll("[data-item]")) row.classList.toggle("new", !before.has(row.dataset.item));
      }
      if (place && !focus) refocus(part, place);
    }
    if (held !== byId("user-id")) byId("user-id").value = fresh.getElementById("user-id").value;
    byId("parts").hidden = fresh.getElementById("parts").hidden;
    if (focus) focus();
    byId("said").textContent = byId("saying").textContent;
  }

  const linksOf = part => [...part.querySelectorAll("a[data-do]")];
  const placeOf = (link, part) => ({ name: link.dataset.do, value: link.dataset.value, at: linksOf(part).indexOf(link) });

  // Where the focus was: the same link, else the one that undoes it, else what now stands there, else the part's head.
  function refocus(part, { name, value, at }) {
    const links = linksOf(part);
    const same = links.find(link => link.dataset.do === name && link.dataset.value === value);
    const undone = links.find(link => link.dataset.value === value && /^(add|remove)$/.test(link.dataset.do));
    const next = same || undone || (at >= 0 && links[Math.min(at, links.length - 1)]);
    (next || part.querySelector("[tabindex]") || byId(part.dataset.fallback || "q")).focus({ preventScroll: true });
  }

  function notice(text) {
    const said = document.createElement("p");
    said.className = "notice";
    said.setAttribute("role", "alert");
    said.textContent = text;
    byId("notices").replaceChildren(said);
  }

  function refused(status, detail) {
    if (!keyForm || (status !== 401 && status !== 403)) return notice(detail);
    askKey(status === 401 ? "This key is not known here." : "This key may not read; a key with the scope read is needed.");
  }

  function askKey(why) {
    sessionStorage.removeItem(KEY);
    keyForm.hidden = false;
    byId("parts").hidden = true;
    byId("key-said").hidden = !why;
    byId("key-said").textContent = why || "";
    byId("key-text").value = "";
    byId("key-text").focus();
  }

  document.addEventListener("click", event => {
    const link = event.target.closest("a[data-do]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const { do: name, value } = link.dataset;
    change(wanted, name, value);
    let focus = null;
    if (name === "similar" && value) {
      opener = value;
      focus = () => byId("similar-head")?.focus();
    } else if (name === "similar") {
      focus = () => (document.querySelector(`#parts [data-do="similar"][data-value="${CSS.escape(opener)}"]`) || byId("list-head")).focus();
    } else if (name === "user") {
      byId("user-id").value = "";
      focus = () => byId("user-id").focus();
    }
    show(focus);
  });

  document.addEventListener("submit", event => {
    event.preventDefault();
    if (event.target === keyForm) {
      const key = byId("key-text").value.trim();
      if (!/^[\x21-\x7e]+$/.test(key)) return askKey("This is no key: a key is letters, digits and signs without spaces.");
      sessionStorage.setItem(KEY, key);
      show(() => byId("q").focus());
    } else {
      const field = event.target.querySelector("input[name]:not([type=hidden])");
      change(wanted, field.name, field.value.trim());
      const shown = () => byId("user-shown").querySelector(".stored");
      show(field.name === "user" ? () => (shown() ? byId("list-head") : field).focus() : null);
    }
  });

  byId("q").addEventListener("input", event => {
    change(wanted, "q", event.target.value.trim());
    clearTimeout(pause);
    pause = setTimeout(show, PAUSE);
  });

  if ("locked" in page.dataset) {
    if (sessionStorage.getItem(KEY)) show();
    else askKey();
  }
})();
