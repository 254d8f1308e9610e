"""Reads a bundle back with Python's standard library alone, and prints the SHA-256 of each message, in the order of the load file."""
import csv, hashlib, json, mailbox, os, re, sys

bag = sys.argv[1]
at = lambda name: os.path.join(bag, name)
sha = lambda b: hashlib.sha256(b).hexdigest()
read = lambda name: open(at(name), "rb").read()

# RFC 8493: the declaration, the payload's size, and each file of the payload in the manifest once, and no other.
assert read("bagit.txt") == b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
info = dict(l.split(": ", 1) for l in read("bag-info.txt").decode().splitlines())
listed = {}
for line in read("manifest-sha256.txt").decode().splitlines():
    digest, name = line.split("  ", 1)
    assert name not in listed and ".." not in name.split("/"), name
    listed[name] = digest
there = {os.path.relpath(os.path.join(d, f), bag) for d, _, fs in os.walk(at("data")) for f in fs}
assert there == set(listed), there ^ set(listed)
octets = 0
for name, digest in listed.items():
    content = read(name)
    octets += len(content)
    assert sha(content) == digest, name
assert info["Payload-Oxum"] == "%d.%d" % (octets, len(listed)), info
for line in read("tagmanifest-sha256.txt").decode().splitlines():
    digest, name = line.split("  ", 1)
    assert sha(read(name)) == digest, name

# The load file: a byte order mark, 0x14 between values, þ around each, CRLF.
text = read("data/load.dat").decode("utf-8")
assert text[0] == "\ufeff" and text.endswith("\r\n")
rows = [l.split("\x14") for l in text[1:].split("\r\n")[:-1]]
for r in rows:
    assert all(v[0] == "þ" and v[-1] == "þ" and "þ" not in v[1:-1] for v in r), r
head = [v[1:-1] for v in rows[0]]
docs = [dict(zip(head, [v[1:-1] for v in r])) for r in rows[1:]]
assert all(len(r) == len(head) for r in rows)
numbers = [d["BEGDOC"] for d in docs]
assert numbers == sorted(set(numbers))
parents = [d for d in docs if d["RECORDTYPE"] != "attachment"]
for d in docs:
    content = read(d["NATIVELINK"])
    assert sha(content) == d["SHA256HASH"] and hashlib.md5(content).hexdigest() == d["MD5HASH"] and len(content) == int(d["FILESIZE"])
    if d["TEXTLINK"]:
        read(d["TEXTLINK"]).decode("utf-8")
    if d["RECORDTYPE"] == "attachment":
        assert content == b"a,b\n1,2\n", content
        parent = docs[numbers.index(d["PARENTID"])]
        assert d["BEGDOC"] in parent["ATTACHIDS"].split("; ") and d["ENDATTACH"] == parent["ENDATTACH"]
letters = [d for d in parents if d["SUBJECT"].startswith("Letter")]
assert letters and all(d["CUSTODIAN"] == "Bob" and d["ENVRCPT"] == "bob@dest.example; secret@dest.example" for d in letters)
assert letters[0]["SUBJECT"] == "Letter 0, ththorn and (R)", letters[0]["SUBJECT"]
assert letters[0]["EDRMMIH"] == hashlib.md5(b"<m0@acme.example>").hexdigest()
assert letters[0]["DATESENT"] + letters[0]["TIMESENT"] == "2026-03-1408:12:03"

# The table for people: no cell is a formula.
table = list(csv.reader(open(at("data/index.csv"), encoding="utf-8-sig", newline="")))
assert len(table) == len(parents) + 1 and all(len(r) == len(table[0]) for r in table)
assert not any(c[:1] in "=+-@" and c for r in table for c in r)

# The mbox, unquoted as mboxrd is: each message is its own file again, but for a last line that had no end.
box = mailbox.mbox(at("data/messages.mbox"), create=False)
assert len(box) == len(parents), (len(box), len(parents))
for key, d in zip(box.keys(), parents):
    f = box.get_file(key)
    got = re.sub(rb"(?m)^>(>*From )", rb"\1", f.read())
    want = read(d["NATIVELINK"])
    if want and not want.endswith(b"\n"):
        want += b"\n"
    assert got == want, (d["BEGDOC"], got[:200], want[:200])

for line in open(at("data/custody.jsonl"), encoding="utf-8"):
    c = json.loads(line)
    assert c["envelope"]["id"] == c["id"] and c["supplements"][0]["delivery"]["outcome"] == "delivered"
for d in parents:
    print(d["SHA256HASH"])
