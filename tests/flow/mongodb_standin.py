# SPDX-License-Identifier: Apache-2.0
"""A stand-in that speaks MongoDB's wire protocol, for what no server at hand can do: members of a replica
set that change their roles, labels on errors, replies that are broken, time series. It keeps documents
in a dict and knows no more of the protocol than the sink uses. What a real server can show is shown
with the real one, in test_mongodb*.py.

    with Members(2) as members:
        members.primary = 1                # the roles change; 0 was the first primary
        members[0].frozen = True           # takes connections and commands, answers nothing
        members.answer = lambda command: {"ok": 0, "code": 1}   # or None: as usual
"""
import socket
import struct
import threading

import bson


# What a server's error codes mean for a document that it is about.
REJECTED = {15: "too_deep", 22: "bad_document", 52: "bad_key", 53: "bad_id", 54: "bad_id",
            55: "bad_document", 56: "bad_key", 57: "bad_key", 66: "bad_id", 73: "bad_namespace",
            121: "validation", 10003: "capped", 10334: "too_large", 17280: "too_large",
            17419: "too_large", 17420: "too_large"}
# Of a document rejected, of a command a matter of trying again.
REJECTED_ALONE = {2: "bad_value", 9: "bad_document", 14: "type_mismatch", 16: "bad_length", 20: "illegal_operation",
                  28: "bad_path", 61: "no_shard_key", 166: "not_writable", 98765: "write_error"}
PASSING_CODES = [6, 7, 11, 13, 18, 24, 46, 50, 63, 64, 70, 79, 82, 83, 89, 91, 96, 100, 112, 117, 133,
                 150, 189, 225, 249, 251, 262, 317, 391, 8000, 9001, 10058, 10107, 11600, 11601, 11602,
                 13388, 13435, 13436, 14031, 16500]


class Member:
    def __init__(self, members, index):
        self.members, self.index = members, index
        self.frozen = False
        self.sockets = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.open = True
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while self.open:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.members.lock:
                self.sockets.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            while True:
                self.reply(connection, *self.read(connection))
        except (OSError, EOFError):
            pass
        finally:
            with self.members.lock:
                self.sockets.discard(connection)
            connection.close()

    @staticmethod
    def take(connection, n):
        data = b""
        while len(data) < n:
            more = connection.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def read(self, connection):
        head = self.take(connection, 16)
        length, request, _, opcode = struct.unpack("<iiii", head)
        body = self.take(connection, length - 16)
        if opcode == 2004:  # OP_QUERY, for the first hello
            at = body.index(0, 4) + 9
            return request, opcode, bson.decode(body[at:at + struct.unpack_from("<i", body, at)[0]])
        assert opcode == 2013, opcode
        command, at = {}, 4
        while at < len(body):
            kind, at = body[at], at + 1
            size = struct.unpack_from("<i", body, at)[0]
            section = body[at:at + size]
            at += size
            if kind == 0:
                command.update(bson.decode(section))
            else:
                name, _, documents = section[4:].partition(b"\0")
                command[name.decode()] = list(bson.decode_iter(documents))
        return request, opcode, command

    def reply(self, connection, request, opcode, command):
        answer = self.members.run(self, command)
        if answer == "close":
            raise EOFError
        while self.frozen or answer is None:
            self.members.changed.wait(0.05)
            if not self.open:
                raise EOFError
            if answer is None:
                answer = self.members.run(self, command)
        if isinstance(answer, bytes):
            connection.sendall(answer)
            raise EOFError
        data = bson.encode(answer)
        if opcode == 2004:
            body = struct.pack("<iqii", 8, 0, 0, 1) + data
            connection.sendall(struct.pack("<iiii", 16 + len(body), 1, request, 1) + body)
        else:
            body = struct.pack("<i", 0) + b"\0" + data
            connection.sendall(struct.pack("<iiii", 16 + len(body), 1, request, 2013) + body)

    def die(self):
        """Closes everything, as a process that ends."""
        self.open = False
        self.listener.close()
        with self.members.lock:
            sockets = list(self.sockets)
        for connection in sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Members:
    """Members of one replica set, or one server alone; they share their documents."""

    def __init__(self, n=1):
        self.lock = threading.RLock()
        self.changed = threading.Event()
        self.docs = {}      # {(db, collection): {id: document}}
        self.commands = []  # all but hello
        self.answer = lambda command: None
        self.primary = 0    # None: there is none
        self.term = 1
        self.members = [Member(self, i) for i in range(n)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.die()

    def __getitem__(self, i):
        return self.members[i]

    @property
    def uri(self):
        query = "?replicaSet=rs" if len(self.members) > 1 else ""
        return f"mongodb://{','.join(m.address for m in self.members)}/{query}"

    def elect(self, primary):
        with self.lock:
            self.primary, self.term = primary, self.term + 1

    def hello(self, member):
        is_primary = self.primary == member.index
        answer = {"ok": 1, "isWritablePrimary": is_primary, "ismaster": is_primary, "helloOk": True,
                  "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000,
                  "maxWriteBatchSize": 100000, "minWireVersion": 0, "maxWireVersion": 17,
                  "logicalSessionTimeoutMinutes": 30, "readOnly": False}
        if len(self.members) > 1:
            answer |= {"setName": "rs", "setVersion": 1, "secondary": not is_primary,
                       "hosts": [m.address for m in self.members], "me": member.address}
            if is_primary:
                answer["electionId"] = bson.ObjectId(f"7fffffff{self.term:016x}")
        return answer

    def run(self, member, command):
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            return self.hello(member)
        with self.lock:
            self.commands.append(command)
            answer = self.answer(command)
            if answer is not None:
                return answer
            if self.primary != member.index:
                return {"ok": 0, "code": 10107, "codeName": "NotWritablePrimary",
                        "errmsg": "not primary", "errorLabels": ["RetryableWriteError"]}
            return getattr(self, "do_" + name, lambda c: {"ok": 1})(command)

    def collection(self, command):
        return self.docs.setdefault((command["$db"], next(iter(command.values()))), {})

    def do_insert(self, command):
        docs, n, errors = self.collection(command), 0, []
        for i, doc in enumerate(command["documents"]):
            key = bson.encode({"": doc["_id"]})
            if key in docs:
                errors.append({"index": i, "code": 11000, "errmsg": "E11000 duplicate key",
                               "keyPattern": {"_id": 1}})
            else:
                docs[key] = doc
                n += 1
        return {"ok": 1, "n": n} | ({"writeErrors": errors} if errors else {})

    def do_find(self, command):
        """By {_id: {$in: [...]}} alone."""
        docs = self.collection(command)
        found = [{"_id": key} for key in command["filter"]["_id"]["$in"] if bson.encode({"": key}) in docs]
        return {"ok": 1, "cursor": {"id": bson.Int64(0), "ns": "x.y", "firstBatch": found}}

    def do_update(self, command):
        """Of replacements; {$set: ...} makes a document, and changes none."""
        docs = self.collection(command)
        for update in command["updates"]:
            made = update["u"] if "$set" not in update["u"] else update["q"] | update["u"]["$set"]
            docs[bson.encode({"": update["q"]["_id"]})] = made
        return {"ok": 1, "n": len(command["updates"]), "nModified": 0}

    def stored(self, db="flow", collection="events"):
        with self.lock:
            return list(self.docs.get((db, collection), {}).values())
