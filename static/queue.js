/** A few at a time, in the order in which they came. */
export class Lanes {
  #free;
  #waiting = [];

  /** @param {number} width How many may run at once. */
  constructor(width) {
    this.#free = width;
  }

  /**
   * Run `task` as soon as a lane is free.
   * @template T
   * @param {() => Promise<T>} task
   * @param {AbortSignal} signal Ends the wait; whoever runs must heed it himself.
   * @returns {Promise<T>}
   */
  async run(task, signal) {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      return await task();
    } finally {
      this.#leave();
    }
  }

  #turn(signal) {
    return new Promise((resolve, reject) => {
      const entry = () => {
        signal.removeEventListener("abort", giveUp);
        resolve();
      };
      const giveUp = () => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        reject(signal.reason);
      };
      this.#waiting.push(entry);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }

  #leave() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}
