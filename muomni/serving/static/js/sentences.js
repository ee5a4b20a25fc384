// Cuts a text that is still being written into sentences, for screen readers: whole sentences are read out, not tokens.

const END = /[.!?:;]["')\]]*\s+|\n+/g;
const SHORTEST = 24;  // characters: shorter ones are read out together

// text -> {whole: sentences that are complete, rest}
export function cutSentences(text) {
  const whole = [];
  let start = 0;
  for (const match of text.matchAll(END)) {
    const end = match.index + match[0].length;
    if (end - start < SHORTEST) continue;
    whole.push(text.slice(start, end).trim());
    start = end;
  }
  return { whole, rest: text.slice(start) };
}
