// Server-sent events out of a reply's bytes, however they were cut into pieces.

const LONGEST = 8 << 20; // characters without a line end: no server of ours sends that

/** The data of each event of a byte stream. Comments, which only keep the connection open, are left out. */
export async function* eventsOf(stream) {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop();
      if (rest.length > LONGEST) throw new Error("an event of the stream has no end");
      for (const line of lines.map((one) => one.replace(/\r$/, ""))) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
      if (done) return; // an event that was not finished counts for nothing
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading wants no more of it
  }
}
