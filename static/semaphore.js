/** Runs a limited number of tasks at once, first come, first served. */
export class Semaphore {
  #permits;
  /** @type {(() => void)[]} */
  #waiting = [];

  /** @param {number} permits Tasks that may run at once. */
  constructor(permits) {
    this.#permits = permits;
  }

  /** True while no task could start at once. */
  get busy() {
    return this.#permits === 0;
  }

  /**
   * Run `task` as soon as there is a permit.
   * @template T
   * @param {() => Promise<T>} task
   * @param {AbortSignal} signal Ends the wait for a permit; a running task must observe it itself.
   * @returns {Promise<T>}
   */
  async run(task, signal) {
    signal.throwIfAborted();
    if (this.#permits > 0) this.#permits -= 1;
    else await this.#acquire(signal);
    try {
      return await task();
    } finally {
      this.#release();
    }
  }

  /** @param {AbortSignal} signal @returns {Promise<void>} */
  #acquire(signal) {
    return new Promise((resolve, reject) => {
      const proceed = () => {
        signal.removeEventListener("abort", giveUp);
        resolve();
      };
      const giveUp = () => {
        this.#waiting.splice(this.#waiting.indexOf(proceed), 1);
        reject(signal.reason);
      };
      this.#waiting.push(proceed);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }

  #release() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#permits += 1;
  }
}
