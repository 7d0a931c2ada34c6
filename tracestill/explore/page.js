// What a plot answers to the pointer and the keyboard, and what printing opens.
"use strict";
(() => {
  const tip = document.getElementById("tip");

  function hide() { tip.hidden = true; }

  function say(target, x, y) {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - width - 4))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? y - height - 8 : y + 18}px`;
  }

  const told = (event) => event.target instanceof Element && event.target.closest("[data-tip]");

  document.addEventListener("mousemove", (event) => {
    const target = told(event);
    if (target) say(target, event.clientX, event.clientY);
    else hide();
  });
  document.addEventListener("focusin", (event) => {
    const target = told(event);
    if (!target) return hide();
    const box = target.getBoundingClientRect();
    say(target, box.left, box.bottom - 14);
  });
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  function use(target) {
    hide();
    document.dispatchEvent(new CustomEvent("browse", { detail: { ...target.dataset } }));
  }
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-filter], [data-row], [data-quick]");
    if (target) use(target);
  });
  document.addEventListener("keydown", (event) => {
    const target = event.target.closest("svg [data-filter]");
    if (target && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      use(target);
    }
  });

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
})();
