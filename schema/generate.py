# SPDX-License-Identifier: MIT
"""Write what C needs from schema/record.json, or check that it is up to date.

python schema/generate.py            writes schema/c/record_fields.h and .c
python schema/generate.py --check    exits 1 when they differ from what it would write
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
KIND = {
    "uint": "NUMBER",
    "status": "NUMBER",
    "time": "NUMBER",
    "str": "STRING",
    "limit": "LIMIT",
    "map": "EXTRA",
}
#: Last second of the year 9999: what RFC 3339 can still print.
TIME_MAX = 253402300799
NOTE = "/* SPDX-License-Identifier: MIT */\n/* Made by schema/generate.py from schema/record.json. */\n"


def header(schema: dict) -> str:
    """The positions of the fields and the record's constants."""
    lines = [NOTE, "#ifndef SLURMJCD_RECORD_FIELDS_H\n#define SLURMJCD_RECORD_FIELDS_H\n\n"]
    lines.append(f"#define JC_RECORD_VERSION {schema['version']}\n")
    lines.append(f"#define JC_RECORD_MAX_BYTES {schema['record_max_bytes']}\n\n")
    lines.append("enum jc_field_position {\n")
    lines += [f"    JC_FIELD_{field['name'].upper()},\n" for field in schema["fields"]]
    lines.append("    JC_FIELD_COUNT,\n};\n\n")
    lines.append("/* Where the plugin cuts the strings in extra, in bytes. */\n")
    lines += [
        f"#define JC_EXTRA_{field['name'].upper()}_MAX_BYTES {field['max_bytes']}\n"
        for field in schema["extra"]
        if "max_bytes" in field
    ]
    lines.append("\n#endif\n")
    return "".join(lines)


def table(schema: dict) -> str:
    """jc_fields[]."""
    lines = [NOTE, '#include "record.h"\n\nconst struct jc_field jc_fields[JC_FIELD_COUNT] = {\n']
    for field in schema["fields"]:
        largest = TIME_MAX if field["type"] == "time" else field.get("max", 0)
        lines.append(
            f'    [JC_FIELD_{field["name"].upper()}] = {{"{field["name"]}", JC_KIND_{KIND[field["type"]]}, '
            f"{str(field.get('required', False)).lower()}, UINT64_C({largest}), {field.get('max_bytes', 0)}}},\n"
        )
    lines.append("};\n")
    return "".join(lines)


def main() -> int:
    schema = json.loads((HERE / "record.json").read_text())
    wanted = {"record_fields.h": header(schema), "record_fields.c": table(schema)}
    for name, text in wanted.items():
        path = HERE / "c" / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path} does not match schema/record.json: run python schema/generate.py", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
