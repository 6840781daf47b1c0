"""Gets the foreign clients: into a folder below the build directory, pinned by the files beside this one.

What cannot be had is left out, and said at the end together with what would help; the rest is still tested.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Missing(Exception):
    """A client that cannot be had here; the text says what would help."""


def run(*command, **options):
    """Runs an installer silently; its output is shown only if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    if done.returncode != 0:
        raise Missing(f"`{' '.join(map(str, command))}` failed: {done.stdout.decode(errors='replace').strip()[-800:]}")


def apt_get(package):
    """Installs a package where we are root on a Debian-like system."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"install it: apt-get install {package}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run("apt-get", "install", "-y", "--no-install-recommends", package, env=environment)
    except Missing:
        run("apt-get", "update", env=environment)
        run("apt-get", "install", "-y", "--no-install-recommends", package, env=environment)


def stamped(folder, *sources):
    """Whether `folder` was filled from these very files; if not, it is gone afterwards."""
    wanted = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    stamp = folder / ".filled-from"
    if stamp.is_file() and stamp.read_text() == wanted:
        return True, lambda: None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False, lambda: stamp.write_text(wanted)


def python_with_paho(base):
    """A virtual environment with paho-mqtt; gives its interpreter."""
    folder = base / "venv"
    requirements = HERE / "requirements.txt"
    there, done = stamped(folder, requirements)
    python = folder / "bin" / "python"
    if not there:
        try:
            run(sys.executable, "-m", "venv", folder)
        except Missing:
            # Debian keeps this part of Python in a package of its own.
            apt_get("python3-venv")
            run(sys.executable, "-m", "venv", "--clear", folder)
        run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", requirements)
        done()
    return python


def mqttjs(base):
    """MQTT.js as the lock file has it; gives the folder for NODE_PATH."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise Missing("install Node.js with npm")
    folder = base / "node"
    sources = [HERE / "package.json", HERE / "package-lock.json"]
    there, done = stamped(folder, *sources)
    if not there:
        for source in sources:
            shutil.copy(source, folder)
        run("npm", "ci", "--no-audit", "--no-fund", cwd=folder)
        done()
    return folder / "node_modules"


def rumqttc(base):
    """The test client around rumqttc; gives its binary."""
    target = base / "rumqttc"
    run("cargo", "build", "--quiet", "--locked", "--manifest-path", HERE / "rumqttc" / "Cargo.toml", "--target-dir", target)
    return target / "debug" / "ringmq-test-client-rumqttc"


def mosquitto():
    """mosquitto_pub and mosquitto_sub."""
    if not shutil.which("mosquitto_sub") or not shutil.which("mosquitto_pub"):
        apt_get("mosquitto-clients")
    return "mosquitto_pub", "mosquitto_sub"
