#!/usr/bin/env python3
"""manual.py PAGES TRACE_FORMAT EXTRA OUTPUT - the manual pages of nvmepf.

PAGES is a folder with the pages that swift-argument-parser's generate-manual wrote, one a command. They become
nvmepf(1) and nvmepf-VERB(1); nvmepf(1) gets a list of the commands and the sections in EXTRA, which no option's help has.
TRACE_FORMAT, the page that defines the format, becomes nvmepf-trace(5).
"""

import pathlib
import re
import sys

HIDDEN = ("help", "bench-host")

# Longer cells of a table, in characters, are broken into lines.
WIDE = 24


def literal(lines):
    """Examples, in mdoc, whose text the generator has escaped."""
    return [".Bd -literal", *lines, ".Ed"]


def escape(line):
    """A line that would be a request is text."""
    line = line.replace("\\", "\\e")
    return "\\&" + line if line.startswith((".", "'")) else line


def discussion(lines):
    """Paragraphs and examples: the generator keeps the text of --help, with its empty and indented lines."""
    out, block = [], []
    for line in [*lines, "end"]:
        if line.startswith("  ") or (not line and block):
            block.append(line)
            continue
        while block and not block[-1]:
            block.pop()
            line = line and "\0" + line  # an empty line followed the example
        if block:
            out += literal(block)
            block = []
        out += [line] if line and not line.startswith("\0") else [".Pp", line[1:]] if line else [".Pp"]
    return out[:-1]


def command_page(text, title):
    """One page of the generator's, with what it leaves to mdoc's defaults put right."""
    text = text.replace("\\& \\& ", "  ")
    head, rest = text.split(".Sh DESCRIPTION\n", 1) if ".Sh DESCRIPTION\n" in text else (text, "")
    body, end = (rest.split(".Sh \"EXIT STATUS\"", 1) + [""])[:2] if rest else ("", "")
    cut = next((at for at, line in enumerate(body.splitlines()) if line.startswith(".")), None)
    lines = body.splitlines()
    cut = len(lines) if cut is None else cut
    described = discussion(lines[:cut])
    while described and described[-1] in (".Pp", ""):
        described.pop()
    options = [line for at, line in enumerate(lines[cut:]) if line != ".Pp"]
    head = re.sub(r"^\.Dt .*", f".Dt {title.upper()} 1", head, flags=re.M)
    head = re.sub(r"^\.Nm \"?(nvmepf[^\"\n]*)\"?$", lambda name: ".Nm " + name[1].replace(" ", "-"), head, flags=re.M)
    head = re.sub(r"^\.Sh SYNOPSIS\n\.Nm$", f".Sh SYNOPSIS\n.Nm {title.replace('-', ' ', 1 if title.count('-') < 2 else 2)}",
                  head, flags=re.M)
    return head, described, options


def see_also(names):
    return [".Sh SEE ALSO", *(f".Xr {name} {section} ," for name, section in names[:-1]), ".Xr %s %s" % names[-1]]


def commands(pages, output, extra):
    verbs = []
    for path in sorted(pages.glob("nvmepf.*.1")):
        words = path.name.split(".")[1:-1]
        if words[0] in HIDDEN:
            continue
        name = "-".join(["nvmepf", *words])
        head, described, options = command_page(path.read_text(), name)
        what = re.search(r'^\.Nd "?(.*?)"?$', head, re.M)[1]
        verbs.append((name, " ".join(words), what))
        lines = [*head.rstrip().splitlines(), ".Sh DESCRIPTION", *described, *options,
                 ".Sh EXIT STATUS", ".Xr nvmepf 1", "lists the exit statuses of all commands.",
                 *see_also([("nvmepf", 1), ("nvmepf-trace", 5)])]
        (output / "man1" / f"{name}.1").write_text("\n".join(lines) + "\n")

    head, examples, options = command_page((pages / "nvmepf.1").read_text(), "nvmepf")
    listed = [line for name, words, what in verbs for line in (f".It Cm {words}", what, "See", f".Xr {name} 1 .")]
    before, after = extra.split("@COMMANDS@\n")
    lines = [*head.rstrip().splitlines(), ".Sh DESCRIPTION", *before.splitlines(), *examples, *options,
             ".Sh COMMANDS", ".Bl -tag -width 6n", *listed, ".El", *after.splitlines(),
             *see_also([(name, 1) for name, _, _ in verbs] + [("nvmepf-trace", 5)])]
    (output / "man1" / "nvmepf.1").write_text("\n".join(lines) + "\n")


def inline(text):
    """Markdown inside a paragraph, as roff."""
    text = text.replace("\\", "\\e").replace("\\e|", "|")
    text = re.sub(r"<!--.*?-->", "", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    kept = []

    def keep(match):
        kept.append(match[1])
        return f"\0{len(kept) - 1}\0"

    text = re.sub(r"`([^`]*)`", keep, text)
    text = re.sub(r"\*\*(.+?)\*\*", r"\\fB\1\\fR", text)
    text = re.sub(r"\*([^*\s][^*]*)\*", r"\\fI\1\\fR", text)
    text = re.sub(r"\0(\d+)\0", lambda match: "\\fB" + kept[int(match[1])].replace("-", "\\-") + "\\fR", text)
    text = text.replace("\\fB\\fB", "\\fB").replace("\\fR\\fR", "\\fR")
    return "\\&" + text if text.startswith((".", "'")) else text


def table(rows):
    """A table whose last column takes the rest of the line."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip()[1:-1])] for row in rows]
    head, body = cells[0], cells[2:]
    is_wide = [any(len(row[at]) > WIDE for row in body) for at in range(len(head) - 1)]
    form = ["lw(18n)" if wide else "l" for wide in is_wide] + ["lx"]
    lines = [".TS", "tab(\t);", " ".join(one.replace("l", "lb", 1) for one in form), " ".join(form) + "."]
    lines.append("\t".join(inline(cell) for cell in head))
    for row in body:
        last = inline(row[-1])
        narrow = "\t".join("T{\n.na\n" + inline(cell) + "\nT}" if len(cell) > WIDE else inline(cell) for cell in row[:-1])
        lines.append(narrow + "\tT{\n.na\n" + last + "\nT}")
    return lines + [".TE"]


def format_page(text):
    lines = ["'\\\" t", '.TH NVMEPF\\-TRACE 5 "" "nvmepf" "File formats"', ".SH NAME",
             "nvmepf\\-trace \\- the format of nvmepf's traces", ".SH DESCRIPTION"]
    source = text.splitlines()
    at = 0
    while at < len(source):
        line = source[at]
        heading = re.match(r"(#+) (.*)", line)
        if heading:
            if len(heading[1]) > 1:
                lines.append((".SH " if len(heading[1]) == 2 else ".SS ") + inline(heading[2]))
        elif line.startswith("|"):
            end = next((n for n in range(at, len(source)) if not source[n].startswith("|")), len(source))
            lines += table(source[at:end])
            at = end
            continue
        elif line.startswith("    ") and not source[at - 1].startswith(("*", "-", " ")) or line.startswith("```"):
            fenced = line.startswith("```")
            end = at + 1
            while end < len(source) and (
                    not source[end].startswith("```") if fenced else source[end].startswith("    ") or (
                        not source[end] and end + 1 < len(source) and source[end + 1].startswith("    "))):
                end += 1
            shown = source[at + 1:end] if fenced else [text[4:] for text in source[at:end]]
            lines += [".PP", ".nf", ".RS 4", *(escape(text) for text in shown), ".RE", ".fi"]
            at = end + fenced
            continue
        elif re.match(r"[*-] |\d+\. ", line):
            mark, rest = line.split(" ", 1)
            lines += [".IP " + ("\\(bu 3" if mark in "*-" else mark + " 4"), inline(rest)]
        elif not line:
            if lines[-1] != ".PP":
                lines.append(".PP")
        elif not line.startswith("<!--"):
            lines.append(inline(line.strip()))
        at += 1
    # A paragraph's mark before a heading or an example marks none.
    kept = [line for line, after in zip(lines, lines[1:] + [".SH"])
            if not (line == ".PP" and after.startswith((".SH", ".SS", ".IP", ".PP")))]
    return "\n".join([*kept, ".SH SEE ALSO", ".BR nvmepf (1)"]) + "\n"


def main():
    pages, form, extra, output = map(pathlib.Path, sys.argv[1:])
    for section in ("man1", "man5"):
        (output / section).mkdir(parents=True, exist_ok=True)
    commands(pages, output, extra.read_text())
    (output / "man5" / "nvmepf-trace.5").write_text(format_page(form.read_text()))


main()
