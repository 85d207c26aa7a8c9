# SPDX-License-Identifier: MIT
"""A program of multiprocessing's, as tutorials have them: processes.py runs it as it is and with its import line changed, and both
print the same."""
import multiprocessing
import os
import queue
import time


def square(n):
    return n * n


def fail(n):
    raise ValueError(f"no {n}")


def child(name, conn, numbers, shared, listed, lock, done):
    conn.send([name, multiprocessing.current_process().name])
    while (n := numbers.get()) is not None:
        with lock:
            shared[n] = n * n
            listed.append(n)
            done.value += 1
    conn.send("bye")
    conn.close()


def guarded(lock, printed, i):
    with lock:
        printed.put(f"begin {i}")
        time.sleep(0.005)
        printed.put(f"end {i}")


def main():
    manager = multiprocessing.Manager()
    shared, listed = manager.dict(), manager.list()
    numbers, lock, done = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i", 0)
    ours, theirs = multiprocessing.Pipe()
    p = multiprocessing.Process(target=child, name="worker", args=("hello", theirs, numbers, shared, listed, lock, done))
    p.start()
    theirs.close()
    print(ours.recv(), p.name, p.is_alive(), multiprocessing.parent_process() is None)
    for n in range(5):
        numbers.put(n)
    numbers.put(None)
    print(ours.recv())
    try:
        ours.recv()
    except EOFError:
        print("the end")
    p.join()
    print(p.exitcode, sorted(shared.items()), sorted(listed), done.value, len(multiprocessing.active_children()) <= 1)

    printed = multiprocessing.SimpleQueue()
    children = [multiprocessing.Process(target=guarded, args=(lock, printed, i)) for i in range(10)]
    for p in children:
        p.start()
    lines = [printed.get() for _ in range(20)]
    for p in children:
        p.join()
    print(all(a.split() == ["begin", b.split()[1]] for a, b in zip(lines[::2], lines[1::2])))

    with multiprocessing.Pool(3) as pool:
        print([pool.apply(square, (i,)) for i in range(5)])
        called = []
        results = [pool.apply_async(square, (i,), callback=called.append) for i in range(10)]
        print([r.get() for r in results])
        pool.close()
        pool.join()
        print(sorted(called))
    with multiprocessing.Pool(2) as pool:
        print(pool.map(square, range(20), 3), list(pool.imap(square, range(5))), sorted(pool.imap_unordered(square, range(5))))
        print(pool.starmap(pow, [(2, 3), (3, 2)]))
        try:
            pool.apply(fail, (7,))
        except ValueError as e:
            print(repr(e), type(e.__cause__).__name__)
        try:
            pool.apply_async(time.sleep, (5,)).get(timeout=0.01)
        except multiprocessing.TimeoutError:
            print("not in time")

    array = multiprocessing.Array("d", [1, 2, 3])
    with array.get_lock():
        array[1] += 0.5
    ns = manager.Namespace(x=1)
    ns.y = [2]
    event, barrier, cond = multiprocessing.Event(), multiprocessing.Barrier(1), multiprocessing.Condition()
    sem = multiprocessing.BoundedSemaphore(2)
    print(array[:], ns, event.wait(0.001), barrier.wait(), sem.acquire(), sem.get_value())
    sem.release()
    try:
        sem.release()
    except ValueError as e:
        print(e)
    with cond:
        print(cond.wait(0.001), cond.wait_for(lambda: True))
    bounded = multiprocessing.Queue(1)
    bounded.put("full")
    try:
        bounded.put("more", timeout=0.01)
    except queue.Full:
        print("full")
    print(bounded.get())
    try:
        bounded.get_nowait()
    except queue.Empty:
        print("empty")
    jobs = multiprocessing.JoinableQueue()
    jobs.put(1)
    jobs.get()
    jobs.task_done()
    jobs.join()
    manager.shutdown()
    print(os.cpu_count() == multiprocessing.cpu_count())


if __name__ == "__main__":
    main()
