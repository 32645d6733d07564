"""The T4 model: its calibration, and every table and the figure of docs/t4.md, from committed data alone.

python research/t4.py            # write the tables and the figure from the committed fits (seconds)
python research/t4.py --check    # write nothing; exit status 1 if a committed page is out of step
python research/t4.py --fit      # fit everything anew first (minutes): the calibration that the wheel ships, too

Written: research/t4-tables.md, docs/t4.svg and, in docs/t4.md, what stands between `<!-- estimate: NAME -->` and
`<!-- /estimate -->`; with --fit also src/yoloproof/estimate/data/posterior_t4.json and
research/t4_model/held_out_t4.json.
"""

from __future__ import annotations

import argparse
import sys

from t4_model.study import DRAWS, HELD_OUT_FILE, committed_study, posterior_to_json, study_from_data, study_to_json
from t4_model.tables import ROOT, pages


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is out of step")
    parser.add_argument("--fit", action="store_true", help="fit everything anew, instead of taking the committed fits")
    arguments = parser.parse_args()
    study = study_from_data(DRAWS) if arguments.fit else committed_study()
    texts = pages(study)
    if arguments.fit:
        texts[ROOT / "src/yoloproof/estimate/data/posterior_t4.json"] = posterior_to_json(study.posterior)
        texts[HELD_OUT_FILE] = study_to_json(study)
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if arguments.check:
            print(f"{path.relative_to(ROOT)} is out of step; run: python research/t4.py", file=sys.stderr)
        else:
            path.write_text(texts[path], encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: written")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
