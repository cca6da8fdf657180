#!/usr/bin/env python3
"""stories.py NVMEPF FOLDER: perform the debugger's script of each story on its recording (scripts/stories.sh), and look
for the lines after `#>` in the output of the command before them, in their order. A script has at most six commands."""

import pathlib
import subprocess
import sys

PROMPT = "(nvmepf) "


def outputs(text):
    """The output of each command, with its lines joined."""
    parts = text.split(PROMPT)[1:]
    return [" ".join(part.split("\n", 1)[1].split()) for part in parts]


def expectations(script):
    """The lines expected of each command."""
    expected = []
    for line in script.read_text().splitlines():
        if line.startswith("#>"):
            expected[-1].append(line[2:].strip())
        elif line and not line.startswith("#"):
            expected.append([])
    return expected


def check(nvmepf, folder, script):
    trace = folder / f"{script.stem}.nvpt"
    done = subprocess.run([nvmepf, "replay", trace, "--script", script], capture_output=True, text=True)
    if done.returncode != 0:
        return f"status {done.returncode}: {done.stderr}"
    expected = expectations(script)
    if not 1 <= len(expected) <= 6 or not any(expected):
        return f"{len(expected)} commands, at most six are allowed, and they must expect something"
    for number, (lines, output) in enumerate(zip(expected, outputs(done.stdout), strict=True), 1):
        place = 0
        for line in lines:
            found = output.find(line, place)
            if found < 0:
                return f"command {number} does not say '{line}':\n{output}"
            place = found + len(line)
    return None


def main():
    nvmepf, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    scripts = sorted((pathlib.Path(__file__).parent / "stories").glob("*.script"))
    wrong = {script.stem: why for script in scripts if (why := check(nvmepf, folder, script))}
    for name, why in wrong.items():
        print(f"    {name}: {why}")
    if wrong or len(scripts) < 10:
        sys.exit(1)


main()
