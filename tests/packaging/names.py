"""names.py NAME ADDRESS: a server of names that knows one, on port 53 of 127.0.0.1, until it is ended."""

import socket
import struct
import sys

ADDRESS, FOUND, UNKNOWN = 1, 0x8180, 0x8183


def main():
    name, address = sys.argv[1:]
    known = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        query, client = server.recvfrom(512)
        end = query.index(b"\0", 12) + 1
        (kind,) = struct.unpack_from(">H", query, end)
        is_known = query[12:end] == known
        answer = b""
        if is_known and kind == ADDRESS:
            # The name is the question's, at 12; class IN, a minute.
            answer = struct.pack(">HHHIH", 0xC00C, ADDRESS, 1, 60, 4) + socket.inet_aton(address)
        header = struct.pack(">HHHHH", FOUND if is_known else UNKNOWN, 1, 1 if answer else 0, 0, 0)
        server.sendto(query[:2] + header + query[12 : end + 4] + answer, client)


main()
