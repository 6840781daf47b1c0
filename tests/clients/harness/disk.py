"""A data directory on a disk that fails, and that forgets at a power loss what it was not made to keep.

`disk.c` is preloaded into the broker. It notes what is synced, and lets calls fail as planned; here a power loss is made of that, when the broker is dead:
what was not synced is lost - wholly, from some place on, or a sector here and there, which is empty then or holds anything; and so are names that were
made, moved or deleted, where their directory was not synced: all of them, the last of them, or any of them.
"""

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("disk.c")
SECTOR = 512
#: The fields of the plan, as in disk.c.
FIELDS = ["write_error", "sync_error", "sync_errors", "drops", "short_writes", "sync_us", "lies", "failed"]


class Missing(Exception):
    """What is needed is not there."""


class Disk:
    def __init__(self, work, base):
        """`work`: where data and notes go; `base`: where the layer is built."""
        self.data, self._log, self._kept, self._plan_file = (work / name for name in ("data", "log", "kept", "plan"))
        self.data.mkdir()
        self._library = self._build(base)
        self._plan_file.write_bytes(bytes(4 * len(FIELDS)))
        with self._plan_file.open("r+b") as file:
            self._plan = mmap.mmap(file.fileno(), 0)
        self._forget()

    @staticmethod
    def _build(base):
        if not shutil.which("gcc"):
            raise Missing("gcc")
        base.mkdir(parents=True, exist_ok=True)
        library = base / f"disk-{os.getpid()}.so"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        return library

    def environment(self):
        places = {"DIR": self.data, "LOG": self._log, "KEPT": self._kept, "PLAN": self._plan_file}
        return {**os.environ, "LD_PRELOAD": str(self._library), **{f"RINGMQ_DISK_{name}": str(path) for name, path in places.items()}}

    def plan(self, **fields):
        """What fails from now on; nothing else does. Syncs go on to take as long and to lie as before."""
        for name in FIELDS[:5]:
            self._set(name, fields.pop(name, 0))
        for name, value in fields.items():
            self._set(name, value)

    def _set(self, name, value):
        self._plan[4 * FIELDS.index(name) : 4 * FIELDS.index(name) + 4] = struct.pack("=i", value)

    def failures(self):
        """Calls that have failed so far."""
        at = 4 * FIELDS.index("failed")
        return struct.unpack("=i", self._plan[at : at + 4])[0]

    def close(self):
        self._library.unlink()

    def _forget(self):
        """What is on the disk now is what the disk has."""
        shutil.rmtree(self._kept, ignore_errors=True)
        self._kept.mkdir()
        self._log.write_bytes(b"")
        self._read_to = 0
        #: Path: inode, 0 for a directory, as they are on the disk. Changes of it that are not: the directory, and what changes.
        self._names, self._pending = {}, []
        #: Inode: how far the file is on the disk, and what of that was dropped.
        self._synced, self._dropped = {}, {}
        for path in self.data.rglob("*"):
            inode = 0 if path.is_dir() else path.stat().st_ino
            self._names[str(path)] = inode
            if inode:
                self._synced[inode] = path.stat().st_size

    def _read_log(self):
        with self._log.open("rb") as file:
            file.seek(self._read_to)
            lines = file.read().splitlines()
            self._read_to = file.tell()
        for line in lines:
            what, *words = line.decode().split(" ")
            getattr(self, f"_on_{what}")(*words)

    def _on_create(self, inode, path):
        self._pending.append((os.path.dirname(path), {path: int(inode)}))

    def _on_rename(self, inode, source, target):
        self._pending.append((os.path.dirname(target), {source: None, target: int(inode)}))

    def _on_delete(self, path):
        self._pending.append((os.path.dirname(path), {path: None}))

    def _on_names(self, directory):
        for _, change in [entry for entry in self._pending if entry[0] == directory]:
            self._names.update(change)
        self._pending = [entry for entry in self._pending if entry[0] != directory]

    def _on_empty(self, inode):
        self._synced[int(inode)] = 0
        self._dropped.pop(int(inode), None)

    def _on_sync(self, inode, size):
        self._synced[int(inode)] = int(size)

    def _on_drop(self, inode, size):
        start = self._synced.get(int(inode), 0)
        self._dropped.setdefault(int(inode), []).append((start, int(size)))
        self._synced[int(inode)] = max(start, int(size))

    def lose_power(self, chance):
        """The broker is dead: what the disk has not kept is gone. Gives what happened in words."""
        self._read_log()
        files = {path.stat().st_ino: path for root in (self._kept, self.data) for path in root.rglob("*") if path.is_file()}
        names = self._names_after(chance)
        tail = chance.choice(["nothing", "beginning", "sectors", "garbage"])
        after = self.data.with_name("after")
        lost = 0
        for path, inode in sorted(names.items()):
            target = after / Path(path).relative_to(self.data)
            if inode is None or not self._is_reachable(path, names):
                continue
            if inode == 0:
                target.mkdir(parents=True, exist_ok=True)
                continue
            before = files[inode].read_bytes()
            content = self._content_after(inode, before, tail, chance)
            lost += len(before) - len(content) if tail in ("nothing", "beginning") else before != content
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        after.mkdir(exist_ok=True)
        shutil.rmtree(self.data)
        after.rename(self.data)
        pending = len(self._pending)
        self._forget()
        return f"{pending} changes of names were not synced; of files, {tail} was left of what was not ({lost})"

    def _names_after(self, chance):
        names = dict(self._names)
        kept = chance.choice(["none", "first", "any"])
        until = chance.randint(0, len(self._pending))
        for index, (_, change) in enumerate(self._pending):
            if kept == "first" and index < until or kept == "any" and chance.random() < 0.5:
                names.update(change)
        return names

    def _is_reachable(self, path, names):
        parents = [str(parent) for parent in Path(path).parents if self.data in parent.parents]
        return all(names.get(parent) == 0 for parent in parents)

    def _content_after(self, inode, content, tail, chance):
        synced = self._synced.get(inode, 0)
        content = bytearray(content)
        for start, end in self._dropped.get(inode, []):
            self._lose_sectors(content, start, end, tail == "garbage", chance)
        if tail == "nothing":
            del content[synced:]
        elif tail == "beginning":
            del content[chance.randint(min(synced, len(content)), len(content)) :]
        else:
            self._lose_sectors(content, synced, len(content), tail == "garbage", chance)
        return bytes(content)

    @staticmethod
    def _lose_sectors(content, start, end, garbage, chance):
        for sector in range(start // SECTOR, (end + SECTOR - 1) // SECTOR):
            first, last = max(start, sector * SECTOR), min(end, (sector + 1) * SECTOR, len(content))
            if first < last and chance.random() < 0.5:
                content[first:last] = chance.randbytes(last - first) if garbage else bytes(last - first)
