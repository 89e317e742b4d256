"""The other side of the pipeline's tests: archives and WAL files through Barman's own code.

peer.py restore-archive FILE DIRECTORY    extracts data.tar[.gz|...] as barman-cloud-restore does
peer.py backup-archive DIRECTORY FILE     makes one as barman-cloud-backup does
peer.py restore-wal FILE COMPRESSION OUT  decompresses as barman-cloud-wal-restore does
peer.py backup-wal FILE COMPRESSION OUT   compresses as barman-cloud-wal-archive does
"""

import io
import os
import sys
import tarfile
import types

from barman.clients import cloud_compression
from barman.cloud import CloudInterface, DecompressingStreamingIO


def remote_open(key, decompressor=None):
    stream = io.FileIO(key)
    return DecompressingStreamingIO(stream, decompressor) if decompressor else stream


def restore_archive(path, directory):
    cloud = types.SimpleNamespace(remote_open=remote_open)
    CloudInterface.extract_tar(cloud, path, directory)


class Compressed:
    def __init__(self, file, compressor):
        self.file, self.compressor = file, compressor

    def write(self, block):
        self.file.write(self.compressor.add_chunk(block))
        return len(block)

    def close(self):
        if hasattr(self.compressor, "flush"):
            self.file.write(self.compressor.flush() or b"")


def backup_archive(directory, path):
    extension = os.path.splitext(path)[-1]
    compression = "" if extension == ".tar" else extension[1:]
    compressor = cloud_compression.get_compressor(compression)
    mode = cloud_compression.get_streaming_tar_mode("w", compression)
    with open(path, "wb") as file:
        sink = Compressed(file, compressor) if compressor else file
        with tarfile.open(fileobj=sink, mode=mode, format=tarfile.PAX_FORMAT) as archive:
            archive.add(directory, arcname=".")
        if compressor:
            sink.close()


def restore_wal(path, compression, out):
    with open(path, "rb") as stored, open(out, "wb") as file:
        cloud_compression.decompress_to_file(stored, file, compression)


def backup_wal(path, compression, out):
    with open(path, "rb") as segment, open(out, "wb") as file:
        stream = cloud_compression.compress(segment, compression, None)
        file.write(stream.read())


if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
