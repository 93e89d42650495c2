// What the pages do beyond HTML: each part stands alone, and a page works without any of them.
"use strict";

// --- light or dark: by the reader's choice, kept, or else by the system's
{
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const say = () => { button.textContent = dark() ? "Light page" : "Dark page"; };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.theme = root.dataset.theme;
    } catch {
      // A browser may keep nothing for pages opened from disk. The choice then holds for this page.
    }
    say();
  });
  system.addEventListener("change", say);
  say();
  button.hidden = false;
}

// --- what might scroll sideways takes the keyboard's focus; what turns out not to scroll here, does
// not. It is looked at only when it comes near, since asking for a width forces a layout.
{
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      const scrolls = target.scrollWidth > target.clientWidth + 1;
      if (scrolls) target.tabIndex = 0;
      else if (target !== document.activeElement) target.removeAttribute("tabindex");
    }
  }, { rootMargin: "50%" });
  for (const element of document.querySelectorAll("div.math, pre, div.table")) observer.observe(element);
}

// --- copy a cell
for (const code of document.querySelectorAll(".cell_input .highlight, .highlight-bash .highlight")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.querySelector("pre").textContent.trimEnd());
      button.textContent = "copied";
    } catch {
      button.textContent = "not allowed here";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  code.append(button);
}

// --- the page's own entry in the contents is in view
{
  const contents = document.getElementById("contents");
  const current = contents.querySelector("a.current");
  addEventListener("load", () => {
    if (current) contents.scrollTop = current.offsetTop - contents.clientHeight / 2;
  });
}

// --- where on the page the reader is
{
  const links = new Map(
    [...document.querySelectorAll(".here a[href^='#']")].map((a) => [a.getAttribute("href").slice(1), a]),
  );
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target.id);
      else seen.delete(target.id);
    }
    const current = [...links.keys()].filter((id) => seen.has(id)).pop();
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "0px 0px -70% 0px" });
  for (const section of document.querySelectorAll("article section section[id]")) {
    if (links.has(section.id)) observer.observe(section);
  }
}

// --- "/" and Ctrl+K go to the search field
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  const asked = event.key === "/" ? !typing : event.key === "k" && (event.ctrlKey || event.metaKey);
  if (!asked) return;
  event.preventDefault();
  const contents = document.getElementById("contents");
  if (getComputedStyle(contents).display === "none") contents.showPopover();
  contents.querySelector("input").focus();
});
