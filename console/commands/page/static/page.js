// Refreshes the part of a page that is marked data-live (seconds). The page works as well without it.
// A part in which someone is (focus, a selection) is left alone, and so is a page that nobody sees.
"use strict";
(() => {
  const isBusy = (part) => {
    const chosen = document.getSelection();
    const selects = chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode);
    return document.hidden || selects || part.contains(document.activeElement);
  };
  const refresh = async (id) => {
    const part = document.getElementById(id);
    if (!part || !part.dataset.live) return;
    const wait = 1000 * Number(part.dataset.live);
    try {
      if (!isBusy(part)) {
        const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
        if (!answer.ok) return;
        const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
        if (next && !isBusy(part)) part.replaceWith(next);
      }
    } catch {
      // the server is away: try again
    }
    setTimeout(refresh, wait, id);
  };
  const part = document.getElementById("live");
  if (part && part.dataset.live) setTimeout(refresh, 1000 * Number(part.dataset.live), "live");
})();
