// What the pages do beyond HTML: each part stands alone, and a page works without any of them. What
// goes wrong in one is reported, and the others go on.
"use strict";

const part = (run) => {
  try {
    run();
  } catch (error) {
    reportError(error);
  }
};

// --- light or dark: by the reader's choice, kept, or else by the system's
part(() => {
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
});

// --- what might scroll sideways takes the keyboard's focus; what turns out not to scroll here, does
// not. It is looked at only when it comes near, since asking for a width forces a layout.
part(() => {
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      const scrolls = target.scrollWidth > target.clientWidth + 1;
      if (scrolls) target.tabIndex = 0;
      else if (target !== document.activeElement) target.removeAttribute("tabindex");
    }
  }, { rootMargin: "50%" });
  const look = () => {
    observer.disconnect(); // and so every element is looked at again
    for (const element of document.querySelectorAll("div.math, pre, div.table")) observer.observe(element);
  };
  addEventListener("resize", look);
  look();
});

// What a "%" leads to that stands for nothing, nobody can say.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// --- a page that opens at a place in it: the sections above may turn out longer than they were taken
// for, once they are near enough to be laid out, and push the place out of sight
part(() => {
  const place = location.hash && document.getElementById(decoded(location.hash.slice(1)));
  const out = () => {
    const { top, bottom } = place.getBoundingClientRect();
    return bottom < 0 || top > innerHeight;
  };
  if (place) {
    let looks = 8;
    const timer = setInterval(() => {
      if (out()) place.scrollIntoView();
      if (--looks === 0) clearInterval(timer);
    }, 100);
    for (const hand of ["keydown", "pointerdown", "wheel"]) {
      addEventListener(hand, () => clearInterval(timer), { once: true, passive: true });
    }
  }
});

// --- copy a cell
part(() => {
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
});

// --- the page's own entry in the contents is in view
part(() => {
  const contents = document.getElementById("contents");
  const current = contents.querySelector("a.current");
  const show = () => {
    if (current) contents.scrollTop = current.offsetTop - contents.clientHeight / 2;
  };
  addEventListener("load", show);
  contents.addEventListener("toggle", show);
  // Opened on a narrow screen, it would stay above the page when the screen is turned.
  matchMedia("(min-width: 64rem)").addEventListener("change", () => contents.hidePopover());
});

// --- where on the page the reader is
part(() => {
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
});

// --- Ctrl+K goes to the search field
addEventListener("keydown", (event) => {
  const asked = event.key === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
  if (!asked || event.target.closest?.("input[type=search], textarea, [contenteditable]")) return;
  event.preventDefault();
  const contents = document.getElementById("contents");
  if (getComputedStyle(contents).display === "none") contents.showPopover();
  contents.querySelector("input").focus();
});

// --- on paper every solution stands open
part(() => {
  const folded = () => document.querySelectorAll("details.solution:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...folded()];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
});
