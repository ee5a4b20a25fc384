// The conversation stays at its end while it grows, but only for who is at the end: whoever reads further up is left there.

const NEAR = 60;  // pixels from the end that count as the end
const log = document.getElementById("log");
const newest = document.getElementById("newest");
let atEnd = true;

export function toEnd() {
  atEnd = true;
  log.scrollTop = log.scrollHeight;
  newest.hidden = true;
}

export function toStart() {
  atEnd = true;
  log.scrollTop = 0;
  newest.hidden = true;
}

export function scrollReady() {
  log.addEventListener("scroll", () => {
    atEnd = log.scrollHeight - log.clientHeight - log.scrollTop < NEAR;
    if (atEnd) newest.hidden = true;
  }, { passive: true });
  const grown = new ResizeObserver(() => {
    const messages = document.getElementById("messages");
    if (!messages.children.length) return;
    if (atEnd) log.scrollTop = log.scrollHeight;
    else newest.hidden = false;
  });
  grown.observe(document.getElementById("messages"));
  new ResizeObserver(() => { if (atEnd && document.getElementById("messages").children.length) toEnd(); }).observe(log);
  newest.addEventListener("click", () => { toEnd(); document.getElementById("question").focus(); });
}
