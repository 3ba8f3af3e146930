// What was made, kept in this browser: in IndexedDB, or in memory where it gives none.

const NAME = "luthier-generate", STORE = "made";
const MAX_PIECES = 50, MAX_BYTES = 300e6; // the oldest go

const finished = (request) =>
  new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });

async function opened() {
  const request = indexedDB.open(NAME, 1);
  request.addEventListener("upgradeneeded", () => request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true }));
  return finished(request);
}

class Kept {
  constructor(database) { this.database = database; }
  /** What a request gives, once its transaction is complete: a reload ends one that is not. */
  async do(mode, act) {
    const transaction = this.database.transaction(STORE, mode);
    const complete = new Promise((resolve) => transaction.addEventListener("complete", resolve));
    const result = await finished(act(transaction.objectStore(STORE)));
    await complete;
    return result;
  }
  all() { return this.do("readonly", (store) => store.getAll()); }
  async add(piece) { return { ...piece, id: await this.do("readwrite", (store) => store.add(piece)) }; }
  remove(id) { return this.do("readwrite", (store) => store.delete(id)); }
}

class InMemory {
  constructor() { this.pieces = []; this.last = 0; }
  async all() { return [...this.pieces]; }
  async add(piece) { this.pieces.push({ ...piece, id: (this.last += 1) }); return this.pieces.at(-1); }
  async remove(id) { this.pieces = this.pieces.filter((piece) => piece.id !== id); }
}

/** A history: `all` in the order of making, `add`, `remove`. */
export async function openHistory() {
  const store = await opened().then((database) => new Kept(database)).catch(() => new InMemory());
  return {
    all: () => store.all(),
    remove: (id) => store.remove(id),
    /** Keeps a piece {asked, response, audio, peaks, at}; gives it with its id, and the ids of those that went. */
    async add(piece) {
      const added = await store.add(piece);
      const pieces = (await store.all()).reverse(), gone = [];
      let bytes = 0;
      pieces.forEach(({ id, audio }, index) => {
        bytes += audio.size;
        if (index && (index >= MAX_PIECES || bytes > MAX_BYTES)) gone.push(id);
      });
      await Promise.all(gone.map((id) => store.remove(id)));
      return { added, gone };
    },
  };
}
