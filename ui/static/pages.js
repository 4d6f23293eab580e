// What the pages do in the browser: report clicks and forms as events, ask before deleting, follow a streaming answer, upload.
// Knows nothing of what an act means; the server decides and answers with new HTML. Loaded once by every page.
(() => {
  "use strict";

  const RECENT_MS = 500;
  const lastFired = new Map();

  // A session that ended shows the sign-in page instead of a broken one.
  const plainFetch = window.fetch.bind(window);
  window.fetch = async (...args) => {
    const response = await plainFetch(...args);
    if (response.status === 401) {
      const path = location.pathname.endsWith("/") ? location.pathname : location.pathname + "/";
      location.assign("/sign-in?next=" + encodeURIComponent(path));
    }
    return response;
  };

  function fieldsOf(form) {
    const fields = {};
    for (const [name, value] of new FormData(form)) {
      if (typeof value === "string") (fields[name] ||= []).push(value);
    }
    return fields;
  }

  function dataOf(node) {
    const fields = {};
    for (const [name, value] of Object.entries(node.dataset)) {
      if (!["act", "confirm", "confirmLabel", "after"].includes(name)) fields[name] = [value];
    }
    return fields;
  }

  function askFirst(node, go) {
    if (!node.dataset.confirm) return go();
    const dialog = document.createElement("dialog");
    dialog.className = "t-dialog";
    const text = document.createElement("p");
    text.textContent = node.dataset.confirm;
    const row = document.createElement("div");
    row.className = "t-row end";
    const no = document.createElement("button");
    no.className = "t-button";
    no.textContent = "Cancel";
    const yes = document.createElement("button");
    yes.className = "t-button danger";
    yes.textContent = node.dataset.confirmLabel || "Yes";
    row.append(no, yes);
    dialog.append(text, row);
    document.body.append(dialog);
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => { dialog.close(); go(); });
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
    no.focus();
  }

  function fire(trigger, act, fields) {
    const key = act + JSON.stringify(fields);
    const at = Date.now();
    if (at - (lastFired.get(key) || 0) < RECENT_MS) return false; // a double click is one click
    lastFired.set(key, at);
    trigger("click", { act, fields });
    return true;
  }

  function after(node) {
    const what = node.dataset.after;
    if (what === "close-menu") document.body.classList.remove("t-menu-open");
    if (what === "to-top") window.scrollTo({ top: 0, behavior: "smooth" });
  }

  function attach(element, trigger, watch) {
    element.addEventListener("click", (event) => {
      const node = event.target.closest("[data-act]:not(form)");
      if (!node || node.disabled) return;
      event.preventDefault();
      askFirst(node, () => { fire(trigger, node.dataset.act, dataOf(node)); after(node); });
    });
    element.addEventListener("change", (event) => {
      const form = event.target.closest("form[data-live]");
      if (form) fire(trigger, form.dataset.act, { ...dataOf(form), ...fieldsOf(form) });
    });
    element.addEventListener("submit", (event) => {
      const form = event.target.closest("form[data-act]");
      if (!form) return;
      event.preventDefault();
      const fields = { ...dataOf(form), ...fieldsOf(form) };
      askFirst(form, () => {
        if (!fire(trigger, form.dataset.act, fields)) return;
        if (form.hasAttribute("data-keep")) form.querySelectorAll("[data-clear]").forEach((box) => { box.value = ""; });
        else form.reset();
        form.querySelectorAll("textarea").forEach(fit);
        form.closest("details[data-close]")?.removeAttribute("open");
        after(form);
      });
    });
    element.addEventListener("keydown", (event) => {
      const box = event.target;
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || !box.matches?.("textarea[data-enter]")) return;
      event.preventDefault();
      if (box.value.trim()) box.form.requestSubmit();
    });
    element.addEventListener("input", (event) => { if (event.target.matches("textarea")) fit(event.target); });
    let focused = "";
    element.addEventListener("focusin", (event) => { focused = event.target.closest("[data-focus]")?.dataset.focus || ""; });
    watch("value", () => {
      element.querySelectorAll("textarea").forEach(fit);
      const wanted = element.querySelector("[data-autofocus]");
      if (wanted && !wanted.dataset.done) { wanted.dataset.done = "1"; wanted.focus(); return; }
      // Keyboard users stay where they were when the piece of the page they used is drawn anew.
      if (focused && (document.activeElement === document.body || !document.activeElement)) {
        element.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
      }
    });
  }

  function fit(box) {
    box.style.height = "auto";
    box.style.height = Math.min(box.scrollHeight + 2, 260) + "px";
  }

  function follow(element, watch) {
    let wasEmpty = true;
    watch("value", () => {
      const isEmpty = !element.textContent.trim();
      const rest = document.documentElement.scrollHeight - window.innerHeight - window.scrollY;
      document.body.classList.toggle("t-writing", !isEmpty);
      if (!isEmpty && (wasEmpty || rest < 220)) window.scrollTo({ top: document.documentElement.scrollHeight });
      wasEmpty = isEmpty;
    });
  }

  function showTranscript(element, watch) {
    let conversation = "";
    watch("value", () => {
      const id = element.querySelector("[data-conversation]")?.dataset.conversation || "";
      document.body.classList.toggle("t-empty", !id);
      if (id !== conversation) {
        // A reload, or a bookmark, comes back to the same conversation.
        history.replaceState(null, "", id ? "?c=" + encodeURIComponent(id) : location.pathname);
        requestAnimationFrame(() => window.scrollTo({ top: document.documentElement.scrollHeight }));
      }
      conversation = id;
    });
  }

  function fadeNotice(element, watch) {
    let timer = 0;
    watch("value", () => {
      clearTimeout(timer);
      element.classList.remove("t-gone");
      const seconds = element.querySelector(".t-notice.error") ? 20 : 6;
      timer = setTimeout(() => element.classList.add("t-gone"), seconds * 1000);
    });
    element.addEventListener("click", () => element.classList.add("t-gone"));
  }

  async function uploadOne(file, collection, line) {
    const body = new FormData();
    body.append("collection", collection);
    body.append("file", file);
    line.textContent = `${file.name}: sending…`;
    const response = await fetch("/api/documents", { method: "POST", body });
    const reply = await response.json().catch(() => ({}));
    if (!response.ok) {
      line.className = "error";
      const detail = typeof reply.detail === "string" ? reply.detail : "";
      line.textContent = `${file.name}: ${reply.error || detail || "the server refused the upload (" + response.status + ")"}`;
      return null;
    }
    line.textContent = `${file.name}: waiting to be read`;
    return reply.job;
  }

  // Uploads go to our own route: Gradio's file cache can be read by everybody who is signed in.
  function attachUpload(element, trigger) {
    const start = async (form, files) => {
      const list = form.querySelector("ul");
      const collection = form.elements.collection.value;
      for (const file of files) {
        const line = document.createElement("li");
        list.append(line);
        try {
          if (await uploadOne(file, collection, line)) setTimeout(() => line.remove(), 1500);
        } catch (error) {
          line.className = "error";
          line.textContent = `${file.name}: the connection was lost; try again`;
        }
        trigger("click", { act: "uploaded", fields: {} });
      }
    };
    element.addEventListener("change", (event) => {
      if (!event.target.matches("input[type=file]")) return;
      const form = event.target.closest("form");
      start(form, [...event.target.files]).then(() => { event.target.value = ""; });
    });
    element.addEventListener("dragover", (event) => { event.preventDefault(); element.classList.add("t-over"); });
    element.addEventListener("dragleave", () => element.classList.remove("t-over"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("t-over");
      start(element.querySelector("form"), [...event.dataTransfer.files]);
    });
    element.addEventListener("submit", (event) => event.preventDefault());
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-menu]")) document.body.classList.toggle("t-menu-open");
    else if (event.target.closest("#t-shade")) document.body.classList.remove("t-menu-open");
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      navigator.clipboard?.writeText(copy.dataset.copy).then(() => {
        copy.classList.add("done");
        setTimeout(() => copy.classList.remove("done"), 1600);
      });
    }
    for (const menu of document.querySelectorAll("details[data-popup][open]")) {
      if (!menu.contains(event.target)) menu.removeAttribute("open");
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    document.body.classList.remove("t-menu-open");
    for (const menu of document.querySelectorAll("details[data-popup][open]")) {
      menu.removeAttribute("open");
      menu.querySelector("summary")?.focus();
    }
  });

  window.tacit = { attach, follow, showTranscript, fadeNotice, attachUpload };
  document.dispatchEvent(new Event("tacit-ready"));
})();
