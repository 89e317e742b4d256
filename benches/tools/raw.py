"""raw.py WHAT ARGUMENT...: what the processors can do at best. Run with a Python that has lz4 and zstandard.

copy URL DIRECTORY...: tar, lz4, PUT of all files, one worker for each processor; prints seconds.
zstd FILE...: compresses all files, one worker for each processor; prints bytes a second."""

import http.client
import io
import multiprocessing
import os
import sys
import tarfile
import time
import urllib.parse

PART_BYTES = 8 << 20


def copy(url, *directories):
    files = [(os.path.getsize(path), path) for directory in directories
             for path in walk(directory)]
    queue = multiprocessing.Queue()
    # The largest first: so the workers end together.
    for _, path in sorted(files, reverse=True):
        queue.put(path)
    for _ in range(os.cpu_count()):
        queue.put(None)
    return in_parallel(upload, url, queue)


def walk(directory):
    for root, _, names in os.walk(directory):
        if os.path.basename(root) != "pg_wal":
            yield from (os.path.join(root, name) for name in names)


def upload(number, url, queue):
    import lz4.frame
    host = urllib.parse.urlparse(url).netloc
    part, compressor = Part(host, f"/raw/copy/{number}"), lz4.frame.LZ4FrameCompressor()
    part.add(compressor.begin())
    for path in iter(queue.get, None):
        header = tarfile.TarInfo(path)
        header.size = os.path.getsize(path)
        part.add(compressor.compress(header.tobuf(tarfile.GNU_FORMAT)))
        with open(path, "rb", buffering=0) as file:
            while block := file.read(1 << 20):
                part.add(compressor.compress(block))
        part.add(compressor.compress(bytes(-header.size % 512)))
    part.add(compressor.flush())
    part.send()


class Part:
    """An object for each part: what a multipart upload costs, without its bookkeeping."""

    def __init__(self, host, path):
        self.connection, self.path = http.client.HTTPConnection(host), path
        self.buffer, self.sent = io.BytesIO(), 0

    def add(self, data):
        self.buffer.write(data)
        if self.buffer.tell() >= PART_BYTES:
            self.send()

    def send(self):
        self.connection.request("PUT", f"{self.path}/{self.sent}", self.buffer.getbuffer())
        self.connection.getresponse().read()
        self.buffer, self.sent = io.BytesIO(), self.sent + 1


def zstd(*files):
    total = sum(os.path.getsize(path) for path in files)
    cores = os.cpu_count()
    return total / in_parallel(compress, [files[worker::cores] for worker in range(cores)])


def compress(number, shares):
    import zstandard
    for path in shares[number]:
        with open(path, "rb") as file:
            zstandard.ZstdCompressor(level=3).compress(file.read())


def in_parallel(work, *arguments):
    workers = [multiprocessing.Process(target=work, args=(number, *arguments))
               for number in range(os.cpu_count())]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            sys.exit(1)
    return time.perf_counter() - begin


if __name__ == "__main__":
    print({"copy": copy, "zstd": zstd}[sys.argv[1]](*sys.argv[2:]))
